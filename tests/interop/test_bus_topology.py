# SPDX-License-Identifier: Apache-2.0
"""What the bus declares on a real RabbitMQ, and what it does when a queue is not as it should be."""
import contextlib
import json
import os
import re
import sys

import amqp
import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from broker import Broker  # noqa: E402
from bus_client import Bus, arguments, queues, wait_queue  # noqa: E402

BOTH = ('compute', 'compute-alt')


@pytest.fixture(scope='module')
def broker():
    broker = Broker()
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@pytest.fixture
def vhost(broker, request):
    """A virtual host of the test's own, so that no queue of another test is in its way."""
    name = request.node.name.replace('[', '-').replace(']', '')
    broker.ctl('add_vhost', name)
    broker.ctl('set_permissions', '-p', name, broker.user, '.*', '.*', '.*')
    yield name
    broker.ctl('delete_vhost', name)


@pytest.fixture
def url(broker, vhost):
    return broker.url.rsplit('/', 1)[0] + '/' + vhost


@pytest.fixture
def channel(broker, vhost):
    c = amqp.Connection(f'127.0.0.1:{broker.port}', broker.user, broker.password, virtual_host=vhost)
    c.connect()
    yield c.channel()
    with contextlib.suppress(Exception):  # a test may have made the broker cut it
        c.close()


def test_queues_are_declared_as_oslo_messaging_declares_them(broker, vhost, url):
    bus = Bus(url, *BOTH)
    reply = bus.describe()['reply']
    rows = queues(broker, vhost)
    names = sorted(rows)
    fanout = [n for n in names if re.fullmatch(r'compute(-alt)?_fanout_[0-9a-f]{32}', n)]
    assert re.fullmatch(r'reply_[0-9a-f]{32}', reply)
    assert names == sorted(['compute', 'compute.h1', 'compute-alt', 'compute-alt.h1', reply] + fanout) and len(fanout) == 2
    for name, row in rows.items():
        transient = name in fanout or name == reply
        assert not row['durable'] and not row['auto_delete'] and not row['exclusive']
        assert arguments(row) == ({'x-expires': 1800000} if transient else {}), name
        assert row['consumers'] == 1
    exchanges = {e['name']: e for e in json.loads(broker.ctl(
        'list_exchanges', '-p', vhost, 'name', 'type', 'durable', 'auto_delete', '--formatter', 'json'))}
    assert exchanges['nova']['type'] == 'topic' and not exchanges['nova']['durable'] and not exchanges['nova']['auto_delete']
    assert exchanges['compute_fanout']['type'] == 'fanout' and exchanges['compute_fanout']['auto_delete']
    assert not exchanges['compute_fanout']['durable']
    bindings = {(b['source_name'], b['routing_key'], b['destination_name']) for b in json.loads(broker.ctl(
        'list_bindings', '-p', vhost, 'source_name', 'routing_key', 'destination_name', '--formatter', 'json'))
        if b['source_name']}
    assert {b for b in bindings if b[0] == 'nova'} == {('nova', q, q) for q in
                                                       ('compute', 'compute.h1', 'compute-alt', 'compute-alt.h1')}
    assert {(b[0], b[1]) for b in bindings if b[0] != 'nova'} == {('compute_fanout', 'compute'), ('compute-alt_fanout', 'compute-alt')}
    bus.quit()


def test_client_announces_what_oslo_messaging_announces(broker, vhost, url):
    bus = Bus(url)
    rows = json.loads(broker.ctl('list_connections', 'vhost', 'auth_mechanism', 'client_properties', 'timeout',
                                 'frame_max', '--formatter', 'json'))
    ours = [r for r in rows if r['vhost'] == vhost]
    assert len(ours) == 2
    for row in ours:
        text = json.dumps(row['client_properties'])
        for capability in ('authentication_failure_close', 'connection.blocked', 'consumer_cancel_notify'):
            assert capability in text
        assert row['auth_mechanism'] == 'AMQPLAIN' and row['timeout'] == 60 and row['frame_max'] >= 4096
    bus.quit()


def test_login_methods(broker, vhost, url):
    for method in ('PLAIN', 'AMQPLAIN'):
        bus = Bus(url, rabbit_login_method=method)
        rows = json.loads(broker.ctl('list_connections', 'vhost', 'auth_mechanism', '--formatter', 'json'))
        assert {r['auth_mechanism'] for r in rows if r['vhost'] == vhost} == {method}
        bus.quit()


@pytest.mark.parametrize('options,topic,transient', [
    ({'amqp_durable_queues': True}, (True, False, {}), (False, {'x-expires': 1800000})),
    ({'rabbit_quorum_queue': True, 'rabbit_quorum_delivery_limit': 3},
     (True, False, {'x-queue-type': 'quorum', 'x-delivery-limit': 3}), (False, {'x-expires': 1800000})),
    ({'rabbit_transient_quorum_queue': True, 'rabbit_transient_queues_ttl': 60},
     (False, False, {}), (True, {'x-queue-type': 'quorum', 'x-expires': 60000})),
    ({'rabbit_transient_queues_ttl': 0}, (False, False, {}), (False, {})),
    ({'amqp_auto_delete': True}, (False, True, {}), (False, {'x-expires': 1800000})),
], ids=['durable', 'quorum', 'transient-quorum', 'no-ttl', 'auto-delete'])
def test_each_flag_arrives_at_the_broker(broker, vhost, url, options, topic, transient):
    bus = Bus(url, 'compute', **options)
    for name, row in queues(broker, vhost).items():
        if name in ('compute', 'compute.h1'):
            assert (row['durable'], row['auto_delete'], arguments(row)) == topic, name
        else:
            assert (row['durable'], arguments(row)) == transient, name
    bus.quit()


def test_a_stream_is_read_on_where_it_was_left(broker, vhost, url, channel):
    bus = Bus(url, 'compute', rabbit_stream_fanout=True, rabbit_transient_quorum_queue=True, rabbit_qos_prefetch_count=10)
    row = queues(broker, vhost)['compute_fanout']
    assert row['durable'] and arguments(row) == {'x-queue-type': 'stream', 'x-max-age': '1800s'}
    for n in (1, 2):
        channel.basic_publish(amqp.Message(f'{{"n":{n}}}'), exchange='compute_fanout')
        bus.wait('delivery', lambda e: e['delivery'] == f'{{"n":{n}}}')
    since = bus.mark()
    broker.ctl('close_all_connections', '--vhost', vhost, 'test')
    bus.wait_down(since=since)
    bus.wait_up(since=since)
    with amqp.Connection(f'127.0.0.1:{broker.port}', broker.user, broker.password, virtual_host=vhost) as c:
        c.channel().basic_publish(amqp.Message('{"n":3}'), exchange='compute_fanout')
    bus.wait('delivery', lambda e: e['delivery'] == '{"n":3}', since=since)
    assert len(bus.find('delivery', since=since)) == 1
    bus.quit()


def test_a_queue_with_other_flags_is_named_and_the_others_go_on(broker, vhost, url, channel):
    channel.queue_declare('compute', durable=True, auto_delete=False)
    bus = Bus(url, 'compute', wait=False)
    why = bus.wait_down('compute')['why']
    assert '"compute"' in why and '406' in why and 'durable' in why and "current is 'true'" in why
    assert '[oslo_messaging_rabbit]' in why and 'rest of the cloud' in why
    channel.basic_publish(amqp.Message('{"other":1}'), exchange='nova', routing_key='compute.h1')
    bus.wait('delivery', lambda e: e['delivery'] == '{"other":1}')
    bus.publish('nova', 'compute.h1', '{"self":1}')
    assert bus.outcome('{"self":1}') == 'confirmed'
    channel.queue_delete('compute')
    bus.wait_up()
    bus.quit()


def test_a_deleted_queue_is_declared_again(broker, vhost, url, channel):
    bus = Bus(url, 'compute')
    since = bus.mark()
    channel.queue_delete('compute.h1')
    assert 'compute.h1' in bus.wait_down(since=since)['why']
    bus.wait_up(since=since)
    channel.basic_publish(amqp.Message('{"again":1}'), exchange='nova', routing_key='compute.h1')
    bus.wait('delivery', lambda e: e['delivery'] == '{"again":1}')
    bus.quit()


def test_the_end_leaves_topic_queues_and_takes_the_fanout_queue(broker, vhost, url):
    bus = Bus(url, 'compute')
    bus.quit()
    left = sorted(queues(broker, vhost))
    assert left[:2] == ['compute', 'compute.h1'] and len(left) == 3 and left[2].startswith('reply_')


def test_a_drained_topic_keeps_its_messages_and_the_other_is_served(broker, vhost, url, channel):
    bus = Bus(url, *BOTH)
    bus.command('stop compute')
    wait_queue(broker, 'compute.h1', lambda row: row['consumers'] == 0, vhost)
    channel.basic_publish(amqp.Message('{"late":1}'), exchange='nova', routing_key='compute.h1')
    channel.basic_publish(amqp.Message('{"alt":1}'), exchange='nova', routing_key='compute-alt.h1')
    bus.wait('delivery', lambda e: e['delivery'] == '{"alt":1}')
    wait_queue(broker, 'compute.h1', lambda row: row['messages'] == 1, vhost)
    assert not bus.find('delivery', lambda e: 'late' in e['delivery'])
    assert bus.describe()['up']
    bus.quit()
    assert queues(broker, vhost)['compute.h1']['messages'] == 1


def test_oversized_and_compressed_messages_are_dropped(broker, vhost, url, channel):
    bus = Bus(url, 'compute')
    channel.basic_publish(amqp.Message('x' * (16 * 1024 * 1024 + 1)), exchange='nova', routing_key='compute.h1')
    channel.basic_publish(amqp.Message('zz', application_headers={'compression': 'application/x-gzip'}),
                          exchange='nova', routing_key='compute.h1')
    channel.basic_publish(amqp.Message(''), exchange='nova', routing_key='compute.h1')
    channel.basic_publish(amqp.Message('{"after":1}'), exchange='nova', routing_key='compute.h1')
    bus.wait('delivery', lambda e: e['delivery'] == '{"after":1}', seconds=40)
    assert [e['delivery'] for e in bus.find('delivery')] == ['', '{"after":1}']
    wait_queue(broker, 'compute.h1', lambda row: row['messages'] == 0, vhost)
    bus.quit()


def test_messages_look_as_oslo_messaging_sends_them(broker, vhost, url, channel):
    channel.queue_declare('probe', auto_delete=False)
    bus = Bus(url)
    bus.publish('', 'probe', '{"call":1}', expiration_ms=60000)
    bus.publish('', 'probe', '{"cast":1}')
    assert bus.outcome('{"cast":1}') == 'confirmed' and bus.outcome('{"call":1}') == 'confirmed'
    call, cast = channel.basic_get('probe'), channel.basic_get('probe')
    assert call.properties == {'content_type': 'application/json', 'content_encoding': 'utf-8', 'delivery_mode': 2,
                               'priority': 0, 'expiration': '60000'}
    assert 'expiration' not in cast.properties and cast.properties['delivery_mode'] == 2
    bus.quit()


def test_outcomes_of_publishing(broker, vhost, url, channel):
    channel.queue_declare('probe', auto_delete=False)
    bus = Bus(url)
    bus.publish('', 'probe', '{"a":1}', mandatory=True)
    bus.publish('', 'reply_gone', '{"b":1}', mandatory=True)
    bus.publish('', 'reply_gone', '{"c":1}')
    bus.publish('nova', 'nobody.here', '{"d":1}', mandatory=True)
    bus.publish('conductor_fanout', 'x', '{"e":1}')
    bus.publish('no_such_exchange', 'x', '{"f":1}')
    bus.publish('', 'probe', '{"g":1}', mandatory=True)
    expected = {'a': 'confirmed', 'b': 'unroutable', 'c': 'confirmed', 'd': 'unroutable', 'e': 'confirmed',
                'f': 'unroutable', 'g': 'confirmed'}
    for name, outcome in expected.items():
        assert bus.outcome(f'{{"{name}":1}}') == outcome, name
    assert bus.describe()['up']
    bus.quit()
