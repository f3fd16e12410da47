# SPDX-License-Identifier: Apache-2.0
"""Brokers that restart, hang, block, refuse or cut connections: nothing accepted is lost, all is told."""
import os
import signal
import sys
import threading
import time

import amqp
import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from broker import Broker, free_port  # noqa: E402
from bus_client import Bus, queues, wait_queue  # noqa: E402


@pytest.fixture(scope='module')
def broker():
    broker = Broker()
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


def connect(broker):
    return amqp.Connection(f'127.0.0.1:{broker.port}', broker.user, broker.password)


def test_no_message_is_lost_and_all_are_confirmed_over_five_cuts(broker):
    with connect(broker) as c:
        c.channel().queue_declare('sink', durable=True, auto_delete=False)
    bus = Bus(broker.url)

    def cut():
        for _ in range(5):
            time.sleep(1.2)
            broker.ctl('close_all_connections', 'test')

    cutter = threading.Thread(target=cut)
    cutter.start()
    told = 0
    while told < 2000:  # in portions, so that there are messages under way at each cut
        since = bus.mark()
        bus.command('burst 100 - sink')
        assert bus.wait('confirmed', since=since, seconds=60)['confirmed'] == 100
        told += 100
        time.sleep(0.3)
    cutter.join()
    assert bus.describe()['reconnects'] >= 5
    bus.quit()
    seen = {}
    with connect(broker) as c:
        channel = c.channel()
        while True:
            message = channel.basic_get('sink', no_ack=True)
            if message is None:
                break
            seen[message.body] = seen.get(message.body, 0) + 1
        channel.queue_delete('sink')
    assert len(seen) == 100 and sum(seen.values()) >= 2000 and min(seen.values()) >= 20


def test_a_burst_is_confirmed_although_its_connection_is_cut_in_the_middle(broker):
    with connect(broker) as c:
        c.channel().queue_declare('sink', durable=True, auto_delete=False)
    bus = Bus(broker.url)
    for _ in range(3):
        since = bus.mark()
        cutter = threading.Thread(target=broker.ctl, args=('close_all_connections', 'test'))
        cutter.start()
        end = time.monotonic() + 60
        while cutter.is_alive() and time.monotonic() < end:
            since = bus.mark()
            bus.command('burst 2000 - sink')
            assert bus.wait('confirmed', since=since, seconds=60)['confirmed'] == 2000
        cutter.join()
    bus.quit()
    with connect(broker) as c:
        c.channel().queue_delete('sink')


def test_unacknowledged_messages_come_again_after_a_cut(broker):
    bus = Bus(broker.url, 'compute')
    bus.command('ack off')
    bus.publish('nova', 'compute.h1', '{"kept":1}')
    assert not bus.wait('delivery', lambda e: 'kept' in e['delivery'])['redelivered']
    since = bus.mark()
    bus.command('ack on')
    broker.ctl('close_all_connections', 'test')
    assert bus.wait('delivery', lambda e: 'kept' in e['delivery'], since=since)['redelivered']
    wait_queue(broker, 'compute.h1', lambda row: row['messages'] == 0)
    bus.quit()


def test_a_restart_of_the_broker_is_survived_and_waiting_messages_are_sent(broker):
    with connect(broker) as c:
        c.channel().queue_declare('kept', durable=True, auto_delete=False)
    bus = Bus(broker.url, 'compute')
    since = bus.mark()
    broker.stop()
    bus.wait_down(since=since)
    bus.publish('', 'kept', '{"waits":1}')
    bus.publish('nova', 'compute.h1', '{"short":1}', deadline_ms=700)
    started = time.monotonic()
    assert bus.outcome('{"short":1}') == 'expired'
    assert time.monotonic() - started < 5
    since = bus.mark()
    broker.start()
    bus.wait_up(since=since, seconds=30)
    assert bus.outcome('{"waits":1}') == 'confirmed'
    assert {'compute', 'compute.h1'} <= set(queues(broker))
    with connect(broker) as c:
        assert c.channel().basic_get('kept', no_ack=True).body == '{"waits":1}'
        c.channel().queue_delete('kept')
    bus.publish('nova', 'compute.h1', '{"served":1}')
    bus.wait('delivery', lambda e: 'served' in e['delivery'])
    assert not bus.find('delivery', lambda e: 'short' in e['delivery'])
    bus.quit()


def test_a_broker_that_hangs_is_noticed_by_heartbeats(broker):
    bus = Bus(broker.url, 'compute', heartbeat_timeout_threshold=4)
    since = bus.mark()
    os.killpg(broker.process.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        why = bus.wait_down(since=since, seconds=15)['why']
        assert 'silent' in why and time.monotonic() - started < 14
        assert bus.describe(seconds=1)['describe'] is not None
        bus.publish('nova', 'compute.h1', '{"hang":1}', deadline_ms=500)
        assert bus.outcome('{"hang":1}', seconds=2) == 'expired'
    finally:
        os.killpg(broker.process.pid, signal.SIGCONT)
    bus.wait_up(since=since, seconds=40)
    bus.quit()


def test_a_blocked_connection_waits_and_goes_on(broker):
    bus = Bus(broker.url, 'compute')
    broker.ctl('set_vm_memory_high_watermark', '0.0000001')
    try:
        bus.publish('nova', 'compute.h1', '{"first":1}')  # a broker tells those who publish
        assert 'accepts no messages' in bus.wait_down('accepts no messages')['why']
        bus.publish('nova', 'compute.h1', '{"late":1}', deadline_ms=600)
        bus.publish('nova', 'compute.h1', '{"patient":1}')
        assert bus.outcome('{"late":1}', seconds=3) == 'expired'
        assert bus.describe()['blocked'] == 1
        since = bus.mark()
    finally:
        broker.ctl('set_vm_memory_high_watermark', '0.4')
    bus.wait_up(since=since)
    assert bus.outcome('{"first":1}') == 'confirmed' and bus.outcome('{"patient":1}') == 'confirmed'
    bus.wait('delivery', lambda e: 'patient' in e['delivery'])
    assert not bus.find('delivery', lambda e: 'late' in e['delivery'])
    bus.quit()


def test_the_second_broker_is_taken_when_the_first_refuses(broker):
    userinfo = broker.url.split('//')[1].split('@')[0]
    url = f'rabbit://{userinfo}@127.0.0.1:{free_port()},{userinfo}@127.0.0.1:{broker.port}/'
    started = time.monotonic()
    bus = Bus(url, 'compute')
    assert time.monotonic() - started < 10
    assert bus.describe()['describe'] == f'127.0.0.1:{broker.port}'
    bus.quit()


def test_refused_credentials_and_vhosts_are_told_without_secrets(broker):
    for url, words in ((f'rabbit://{broker.user}:s3cret-marker@127.0.0.1:{broker.port}/', '403'),
                       (broker.url + 'no-such-vhost', 'no-such-vhost'),
                       (f'rabbit://u:s3cret-marker@127.0.0.1:{free_port()}/', 'Connection refused'),
                       ('rabbit://u:s3cret-marker@no-such-host.invalid/', 'no address')):
        bus = Bus(url, wait=False)
        why = bus.wait_down(words)['why']
        assert 's3cret' not in why and 'p@ss' not in why
        bus.quit()
        assert 's3cret' not in ''.join(bus.errors)


def test_quitting_flushes_what_is_queued(broker):
    with connect(broker) as c:
        c.channel().queue_declare('flushed', durable=True, auto_delete=False)
        bus = Bus(broker.url)
        since = bus.mark()
        bus.command('burst 3000 - flushed')
        bus.quit(wait_ms=10000)
        assert bus.wait('confirmed', since=since)['confirmed'] == 3000
        assert c.channel().queue_delete('flushed') == 3000


def test_quitting_without_a_broker_is_quick_and_tells_everybody(broker):
    bus = Bus(f'rabbit://127.0.0.1:{free_port()}/', wait=False)
    bus.wait_down()
    bus.command('burst 50 - nowhere')
    started = time.monotonic()
    bus.quit(wait_ms=500)
    assert time.monotonic() - started < 15
    assert bus.find('refused')[-1]['refused'] == 50


def test_too_many_messages_are_refused_not_collected(broker):
    bus = Bus(f'rabbit://127.0.0.1:{free_port()}/', wait=False)
    bus.wait_down()
    since = bus.mark()
    bus.command('burst 10500 - nowhere')
    bus.quit(wait_ms=0)
    assert bus.find('refused', since=since)[-1]['refused'] == 10500


def test_an_idle_bus_sleeps(broker):
    bus = Bus(broker.url, 'compute', 'compute-alt', heartbeat_timeout_threshold=10)
    time.sleep(2)
    before = bus.wakeups()
    time.sleep(20)
    after = bus.wakeups()
    spent = {name: after[name] - before[name] for name in after if name.startswith('amqp-')}
    print('wake-ups in 20 s with a heartbeat of 10 s:', spent)
    assert len(spent) == 3 and all(n <= 12 for n in spent.values()), spent
    bus.quit()
