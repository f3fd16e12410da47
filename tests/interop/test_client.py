# SPDX-License-Identifier: Apache-2.0
"""Our client calls a Python server of oslo.messaging, as a conductor or a nova-compute is one."""
import json
import queue
import time

import oslo_messaging
import pytest

import peer
from tool import Failure


class Endpoint:
    """What a test needs of a server; the null namespace in version 6.5 like a nova-compute's."""

    target = oslo_messaging.Target(version='6.5')

    def __init__(self, nova_exception):
        self.exception = nova_exception
        self.seen = queue.Queue()

    def echo(self, ctxt, **kwargs):
        return {'args': kwargs, 'context': ctxt}

    def slow(self, ctxt, seconds):
        time.sleep(seconds)
        return 'slept'

    def nothing(self, ctxt):
        return None

    def big(self, ctxt, size):
        return 'x' * size

    def fail(self, ctxt, name):
        classes = {
            'precheck': lambda: self.exception.MigrationPreCheckError(reason='cpu differs'),
            'instance': lambda: self.exception.InstanceNotFound(instance_id='fa70925f'),
            'port': lambda: self.exception.PortBindingFailed(port_id='p1'),
            'value': lambda: ValueError('a value'),
            'timeout': lambda: oslo_messaging.MessagingTimeout('inner'),
            'long': lambda: self.exception.Invalid('y' * 5000),
        }
        raise classes[name]()

    def live_migration_abort(self, ctxt, **kwargs):
        self.seen.put((ctxt, kwargs))

    external_instance_event = live_migration_abort


@pytest.fixture
def endpoint(nova_exception):
    return Endpoint(nova_exception)


@pytest.fixture
def python(transport, endpoint):
    server = peer.Server(transport, [endpoint])
    yield server
    server.close()


@pytest.fixture
def ours(make_tool, python):
    return make_tool()


def test_results_of_every_json_kind(ours):
    args = {'text': 'ä\n"\\/😀', 'int': 2**53, 'big': -2**63, 'float': 0.1, 'null': None, 'list': [[], {}], 'bool': True}
    assert ours.call('echo', server='os-python', args=args)['args'] == args
    assert ours.call('nothing', server='os-python') is None
    assert ours.call('nothing', topic='compute') is None


def test_context_goes_out_verbatim(ours):
    context = {'request_id': 'req-2', 'user_id': None, 'roles': [], 'never heard of': {'deep': [1.5]}}
    received = ours.call('echo', server='os-python', args={}, context=context)['context']
    assert {k: received[k] for k in context} == context


@pytest.mark.parametrize('name, code, cls, module, text', [
    ('precheck', 'PRECHECK', 'MigrationPreCheckError', 'nova.exception', 'Migration pre-check error: cpu differs'),
    ('instance', 'NO_INSTANCE', 'InstanceNotFound', 'nova.exception', 'Instance fa70925f could not be found.'),
    ('port', 'REMOTE', 'PortBindingFailed', 'nova.exception', 'Binding failed for port p1.'),
    ('value', 'REMOTE', 'ValueError', 'builtins', 'a value'),
    ('timeout', 'TIMEOUT', 'MessagingTimeout', 'oslo_messaging.exceptions', 'inner'),
])
def test_failures_come_with_class_module_and_text(ours, name, code, cls, module, text):
    with pytest.raises(Failure) as e:
        ours.call('fail', server='os-python', args={'name': name})
    assert (e.value.code, e.value.cls, e.value.module, str(e.value)) == (code, cls, module, text)
    raw = json.loads(e.value.raw)
    assert raw['class'] == cls and raw['message'] == text and raw['tb']


def test_a_long_failure_is_cut(ours):
    with pytest.raises(Failure) as e:
        ours.call('fail', server='os-python', args={'name': 'long'})
    assert e.value.cls == 'Invalid' and 400 < len(str(e.value)) < 512


def test_a_python_servers_refusals_are_understood(ours):
    for method, version, code in (('no_such', '6.0', 'NO_METHOD'), ('nothing', '6.9', 'RPC_VERSION')):
        with pytest.raises(Failure) as e:
            ours.call(method, server='os-python', version=version)
        assert e.value.code == code


def test_heartbeats_keep_a_monitored_call_alive(ours):
    start = time.monotonic()
    assert ours.call('slow', server='os-python', args={'seconds': 6}, timeout=30, monitor=2) == 'slept'
    assert time.monotonic() - start >= 6


def test_overall_timeout_and_late_reply(ours):
    start = time.monotonic()
    with pytest.raises(Failure) as e:
        ours.call('slow', server='os-python', args={'seconds': 2.5}, timeout=1)
    assert e.value.code == 'TIMEOUT' and 0.9 < time.monotonic() - start < 2.4
    time.sleep(2)
    assert ours.call('nothing', server='os-python') is None


def test_overall_timeout_also_ends_a_monitored_call(ours):
    with pytest.raises(Failure) as e:
        ours.call('slow', server='os-python', args={'seconds': 5}, timeout=3, monitor=2)
    assert e.value.code == 'TIMEOUT'


def test_cancel(ours):
    number = ours.send('call', 'slow', server='os-python', args={'seconds': 1}, timeout=30)
    time.sleep(0.2)
    ours.command('cancel', id=number)
    with pytest.raises(Failure) as e:
        ours.answer(number, 1)
    assert e.value.code == 'CANCELLED'


def test_a_host_that_nobody_serves_is_unreachable(ours):
    start = time.monotonic()
    with pytest.raises(Failure) as e:
        ours.call('nothing', server='os-nowhere', timeout=60)
    assert e.value.code == 'UNREACHABLE' and time.monotonic() - start < 20
    with pytest.raises(Failure) as e:
        ours.cast('live_migration_abort', server='os-nowhere', args={}, timeout=3)
    assert e.value.code == 'UNREACHABLE'


def test_casts_and_fanout(ours, endpoint):
    ours.cast('live_migration_abort', server='os-python', args={'migration_id': 4}, context={'request_id': 'req-3'})
    ctxt, args = endpoint.seen.get(timeout=5)
    assert ctxt['request_id'] == 'req-3' and args == {'migration_id': 4}
    ours.cast('external_instance_event', fanout=True, args={'events': []})
    assert endpoint.seen.get(timeout=5)[1] == {'events': []}


def test_large_messages_both_ways(ours):
    text = 'x' * 1_000_000
    assert ours.call('echo', server='os-python', args={'text': text})['args']['text'] == text
    assert ours.call('big', server='os-python', args={'size': 1_000_000}) == text


def test_many_calls_at_once(ours):
    numbers = [ours.send('call', 'echo', server='os-python', args={'n': n}) for n in range(300)]
    assert [ours.answer(n)['args']['n'] for n in numbers] == list(range(300))


def test_our_client_and_our_server(make_tool, nova_exception):
    make_tool('os-c')
    ours = make_tool()
    reply = ours.call('control', server='os-c', namespace='computed', version='1.0', context={'k': [None]},
                      args={'command': 'echo', 'args': {'a': 1}})
    assert reply == {'args': {'a': 1}, 'context': {'k': [None]}}
    with pytest.raises(Failure) as e:
        ours.call('control', server='os-c', namespace='computed', version='1.0',
                  args={'command': 'fail', 'args': {'code': 'NET_PLUG', 'text': 'no bridge br-int'}})
    assert (e.value.code, str(e.value)) == ('NET_PLUG', 'no bridge br-int')
