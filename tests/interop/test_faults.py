# SPDX-License-Identifier: Apache-2.0
"""What must not get lost or be done twice: broker restarts, duplicates, malformed messages."""
import json
import time
import uuid

import amqp
import oslo_messaging
import pytest

import broker as broker_module
import peer
from broker import wait_until

HOST = 'os-c'
CONTROL = {'namespace': 'computed', 'version': '1.0'}


@pytest.fixture
def own_broker():
    """One that the test may end and start again."""
    broker = broker_module.Broker()
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


class Raw:
    """Publishes and reads without oslo.messaging."""

    def __init__(self, broker):
        self.connection = amqp.Connection(f'127.0.0.1:{broker.port}', broker.user, broker.password, virtual_host='/')
        self.connection.connect()
        self.channel = self.connection.channel()
        self.queue = 'reply_' + uuid.uuid4().hex
        self.channel.queue_declare(self.queue, durable=False, auto_delete=False, arguments={'x-expires': 60000})

    def publish(self, body, key=f'compute.{HOST}', exchange='nova'):
        message = amqp.Message(body, content_type='application/json', content_encoding='utf-8', delivery_mode=2)
        self.channel.basic_publish(message, exchange, key)

    def request(self, method='control', unique=None, wait=True, **members):
        inner = {'method': method, '_unique_id': unique or uuid.uuid4().hex, '_msg_id': uuid.uuid4().hex,
                 '_reply_q': self.queue, '_timeout': None, 'args': {}, **members}
        self.publish(json.dumps({'oslo.version': '2.0', 'oslo.message': json.dumps(inner)}))
        return self.reply() if wait else None

    def reply(self, seconds=10):
        message = wait_until(seconds, 'a reply', lambda: self.channel.basic_get(self.queue, no_ack=True))
        outer = json.loads(message.body)
        assert list(outer) == ['oslo.version', 'oslo.message'] and outer['oslo.version'] == '2.0'
        assert message.properties['content_type'] == 'application/json'
        assert message.properties['content_encoding'] == 'utf-8'
        assert message.properties['delivery_mode'] == 2
        return json.loads(outer['oslo.message'])

    def silent(self, seconds=0.5):
        time.sleep(seconds)
        return self.channel.basic_get(self.queue, no_ack=True) is None

    def close(self):
        self.connection.close()


@pytest.fixture
def raw(broker):
    raw = Raw(broker)
    yield raw
    raw.close()


BOMBS = {
    'nothing': b'',
    'not JSON': b'\x80\x04\x95pickle',
    'an array': b'[]',
    'a truncated envelope': b'{"oslo.version": "2.0", "oslo.message": "{\\"meth',
    'another envelope version': b'{"oslo.version": "3.0", "oslo.message": "{}"}',
    'a message that is no text': b'{"oslo.version": "2.0", "oslo.message": {"method": "ping"}}',
    'deep nesting': b'{"a":' + b'[' * 200000 + b']' * 200000 + b'}',
    'deep nesting inside': json.dumps({'oslo.version': '2.0', 'oslo.message': '{"a":' + '[' * 50000}).encode(),
    'a key twice': b'{"method": "ping", "method": "pong"}',
    'no UTF-8': b'{"method": "\xff\xfe"}',
    'NaN': b'{"method": "ping", "args": {"a": NaN}}',
    'an escape sequence': b'\x1b[2J\x1b]0;owned\x07',
}


@pytest.mark.parametrize('what', BOMBS)
def test_unreadable_messages_are_dropped_and_the_next_is_served(raw, server, what):
    before = server.status()['rpc_refused']
    raw.publish(BOMBS[what])
    wait_until(10, 'refused', lambda: server.status()['rpc_refused'] == before + 1)
    reply = raw.request(**CONTROL, args={'command': 'null', 'args': {}})
    assert reply['failure'] is None and reply['ending'] is True
    assert not any('\x1b' in line for line in server.errors)


def test_nothing_unreadable_stays_in_the_queue(broker, raw, make_tool):
    tool = make_tool(HOST)
    for body in BOMBS.values():
        raw.publish(body)
    wait_until(10, 'refused', lambda: tool.status()['rpc_refused'] == len(BOMBS))
    raw.request(**CONTROL, args={'command': 'null', 'args': {}})
    counts = dict(line.split() for line in broker.ctl('list_queues', 'name', 'messages').splitlines() if line.startswith('compute.'))
    assert counts[f'compute.{HOST}'] == '0'


def test_an_unreadable_call_is_answered(raw, server):
    for members in ({'method': 7}, {'method': 'control', 'args': []}, {'method': 'control', 'version': 6}):
        reply = raw.request(**members)
        assert json.loads(reply['failure'])['class'] == 'Invalid' and reply['result'] is None


def test_a_bare_message_is_served(raw, server):
    raw.publish(json.dumps({'method': 'ping', 'namespace': 'baseapi', 'version': '1.0', 'args': {'arg': 3},
                            '_msg_id': 'm', '_reply_q': raw.queue}))
    assert raw.reply()['result'] == {'service': 'compute', 'arg': 3}


def test_a_message_that_comes_three_times_runs_once(raw, server):
    unique = uuid.uuid4().hex
    before = server.status()['served']
    for _ in range(3):
        raw.request(unique=unique, wait=False, **CONTROL, args={'command': 'sleep', 'args': {'seconds': 0.5}})
    assert raw.reply()['result'] == 'slept'
    raw.request(unique=unique, wait=False, **CONTROL, args={'command': 'null', 'args': {}})
    assert raw.silent()
    status = server.status()
    assert (status['served'], status['rpc_duplicate']) == (before + 1, 3)


def test_heartbeats_are_what_oslo_expects(raw, server):
    raw.request(wait=False, **CONTROL, args={'command': 'sleep', 'args': {'seconds': 3.4}}, _timeout=2)
    start, times = time.monotonic(), []
    while True:
        message = raw.reply()
        if message['ending']:
            break
        assert message['result'] is None and message['failure'] is None
        times.append(time.monotonic() - start)
    assert message['result'] == 'slept' and len(times) == 3
    assert all(abs(t - n) < 0.4 for n, t in enumerate(times, 1))


def test_a_broker_restart_in_the_middle_of_a_call(own_broker, nova_exception, make_tool):
    """Caller and server both lose the connection; the work goes on, runs once, and its reply arrives."""
    transport = peer.make_transport(own_broker.url)
    tool = make_tool(HOST, url=own_broker.url)
    c = peer.client(transport, **CONTROL).prepare(server=HOST, timeout=90)
    assert c.call({}, 'control', command='null', args={}) is None
    running = peer.in_thread(c.call, {}, 'control', command='sleep', args={'seconds': 2, 'accept': True})
    time.sleep(0.7)
    own_broker.stop(kill=True)
    tool.wait_state(False)
    time.sleep(2)
    own_broker.start()
    tool.wait_state(True)
    assert running.result(60) == 'slept'
    assert tool.status()['served'] == 2
    assert c.call({}, 'control', command='null', args={}) is None
    transport.cleanup()


def test_our_call_over_a_broker_restart(own_broker, nova_exception, make_tool):
    make_tool(HOST, url=own_broker.url)
    ours = make_tool(url=own_broker.url)
    sleep = {'server': HOST, **CONTROL, 'args': {'command': 'sleep', 'args': {'seconds': 2, 'accept': True}}}
    number = ours.send('call', 'control', timeout=90, monitor=60, **sleep)
    time.sleep(0.7)
    own_broker.stop(kill=True)
    ours.wait_state(False)
    late = ours.send('call', 'control', timeout=90, server=HOST, **CONTROL, args={'command': 'count', 'args': {}})
    time.sleep(2)
    own_broker.start()
    assert ours.answer(number, 60) == 'slept'
    assert ours.answer(late, 60) == 2


def test_a_cast_while_the_broker_is_away_arrives(own_broker, nova_exception, make_tool):
    server = make_tool(HOST, url=own_broker.url)
    ours = make_tool(url=own_broker.url)
    own_broker.stop(kill=True)
    server.wait_state(False)
    number = ours.send('cast', 'external_instance_event', server=HOST, timeout=90, args={'instances': [], 'events': []})
    own_broker.start()
    ours.answer(number, 60)
    assert server.requests.get(timeout=10)['method'] == 'external_instance_event'


def test_a_call_without_any_broker_ends_in_time(own_broker, nova_exception, make_tool):
    ours = make_tool(url=own_broker.url)
    own_broker.stop(kill=True)
    start = time.monotonic()
    number = ours.send('call', 'control', server=HOST, timeout=2, **CONTROL, args={'command': 'null', 'args': {}})
    with pytest.raises(Exception) as e:
        ours.answer(number, 10)
    assert e.value.code == 'UNREACHABLE' and time.monotonic() - start < 9


def test_an_unacknowledged_request_is_run_after_a_crash(own_broker, nova_exception, make_tool, tmp_path):
    """With durable queues, what was not accepted when the process died is given to the next one."""
    raw = Raw(own_broker)
    first = make_tool(HOST, url=own_broker.url)
    raw.request(wait=False, **CONTROL, args={'command': 'sleep', 'args': {'seconds': 60}})
    wait_until(5, 'taken', lambda: first.status()['served'] == 1)
    first.process.kill()
    first.process.wait()
    first.process.returncode = 0  # what close() will see: this death was ours
    second = make_tool(HOST, url=own_broker.url)
    wait_until(10, 'delivered again', lambda: second.status()['served'] == 1)
    raw.close()


def test_oslo_restarted_server_side(own_broker, nova_exception, make_tool):
    """A Python server that comes back after a broker restart is found again by our client."""
    class Endpoint:
        target = oslo_messaging.Target(version='6.5')

        def nothing(self, ctxt):
            return 'here'

    transport = peer.make_transport(own_broker.url)
    python = peer.Server(transport, [Endpoint()])
    ours = make_tool(url=own_broker.url)
    assert ours.call('nothing', server='os-python') == 'here'
    own_broker.stop(kill=True)
    ours.wait_state(False)
    own_broker.start()
    ours.wait_state(True)
    # The Python side needs its retry interval to declare its queues again.
    assert ours.call('nothing', server='os-python', timeout=60, seconds=60) == 'here'
    python.close()
    transport.cleanup()
