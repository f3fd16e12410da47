# SPDX-License-Identifier: Apache-2.0
"""Python's client of oslo.messaging calls our server, as nova's conductor and API do."""
import time

import oslo_messaging
import pytest

import peer
from broker import wait_until

HOST = 'os-c'


def instance(version='2.7'):
    return {'nova_object.name': 'Instance', 'nova_object.namespace': 'nova', 'nova_object.version': version,
            'nova_object.data': {'uuid': 'fa70925f-2d0d-4024-871f-903f3c94d32b', 'id': 2}}


def control(transport, command, args=None, ctxt=None, timeout=15, **prepare):
    c = peer.client(transport, namespace='computed', version='1.0').prepare(server=HOST, timeout=timeout, **prepare)
    return c.call(ctxt or {}, 'control', command=command, args=args or {})


def test_ping_of_baseapi(transport, server):
    c = peer.client(transport, namespace='baseapi', version='1.0').prepare(server=HOST, timeout=15)
    assert c.call({}, 'ping', arg='hello') == {'service': 'compute', 'arg': 'hello'}
    assert c.prepare(version='1.1').call({}, 'get_backdoor_port') is None


def test_any_server_of_the_topic_answers(transport, server):
    c = peer.client(transport, namespace='baseapi', version='1.0').prepare(timeout=15)
    assert c.call({}, 'ping', arg=1)['arg'] == 1


def test_compute_alt_is_served_too(transport, server):
    c = peer.client(transport, topic='compute-alt', namespace='baseapi', version='1.0').prepare(server=HOST, timeout=15)
    assert c.call({}, 'ping', arg=[1, None, {'a': 'ä'}])['arg'] == [1, None, {'a': 'ä'}]


@pytest.mark.parametrize('enabled', [True, False])
def test_rpc_ping_only_where_enabled(transport, make_tool, enabled):
    make_tool(HOST, rpc_ping_enabled=str(enabled).lower())
    c = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic='compute')).prepare(server=HOST, timeout=15)
    if enabled:
        assert c.call({}, 'oslo_rpc_server_ping') == 'pong'
    else:
        with pytest.raises(oslo_messaging.RemoteError) as e:
            c.call({}, 'oslo_rpc_server_ping')
        assert e.value.exc_type == 'UnsupportedVersion'


def test_arguments_and_results_of_every_json_kind(transport, server):
    args = {'text': 'ä\u0000\n"\\/😀', 'int': 2**53, 'big': -2**63, 'float': 0.1, 'null': None, 'list': [[], {}], 'bool': True}
    assert control(transport, 'echo', args)['args'] == args
    assert control(transport, 'null') is None


def test_context_arrives_verbatim_with_unknown_keys(transport, server):
    context = {'request_id': 'req-1', 'user_id': None, 'roles': ['a'], 'is_admin': True, 'never heard of': {'deep': [1.5]},
               'service_catalog': [{'type': 'sharev2'}]}
    received = control(transport, 'echo', ctxt=context)['context']
    assert received == context


def test_a_versioned_object_comes_back(transport, server):
    c = peer.client(transport).prepare(server=HOST, timeout=15, version='6.0')
    result = c.call({}, 'check_can_live_migrate_destination', instance=instance(), block_migration=None,
                    disk_over_commit=None, migration=None, limits=None)
    assert result['nova_object.name'] == 'LibvirtLiveMigrateData' and result['nova_object.version'] == '1.10'
    assert result['nova_object.data'] == {'serial_listen_addr': None, 'block_migration': True}
    assert server.requests.get(timeout=5)['version'] == '6.0'


def test_both_major_versions_are_served(transport, server):
    c = peer.client(transport, version='5.0').prepare(server=HOST, timeout=15)
    c.call({}, 'pre_live_migration', instance=instance(), block_migration=False, disk=None,
           migrate_data={'nova_object.name': 'LibvirtLiveMigrateData', 'nova_object.namespace': 'nova',
                         'nova_object.version': '1.14', 'nova_object.data': {}})
    assert server.requests.get(timeout=5)['version'] == '5.0'
    c.prepare(version='6.5').call({}, 'drop_move_claim_at_destination', instance=instance())
    assert server.requests.get(timeout=5)['version'] == '6.5'


@pytest.mark.parametrize('method, version, namespace, cls', [
    ('no_such_method', '6.0', None, 'NoSuchMethod'),
    ('__init__', '6.0', None, 'NoSuchMethod'),
    ('_private', '6.0', None, 'NoSuchMethod'),
    ('live_migration', '6.6', None, 'UnsupportedVersion'),
    ('live_migration', '7.0', None, 'UnsupportedVersion'),
    ('live_migration', '6.0', 'strange', 'UnsupportedVersion'),
    ('ping', '1.2', 'baseapi', 'UnsupportedVersion'),
])
def test_dispatch_refusals_are_those_of_a_python_server(transport, server, method, version, namespace, cls):
    """The same call goes to a Python server, whose answer is the measure."""
    class Endpoint:
        target = oslo_messaging.Target(version='6.5')

        def live_migration(self, ctxt):
            pass

    class Base:
        target = oslo_messaging.Target(version='1.1', namespace='baseapi')

        def ping(self, ctxt, arg):
            pass

    python = peer.Server(transport, [Endpoint(), Base()])
    messages = []
    try:
        for host in (HOST, 'os-python'):
            c = peer.client(transport, version=version, namespace=namespace).prepare(server=host, timeout=15)
            with pytest.raises(oslo_messaging.RemoteError) as e:
                c.call({}, method)
            assert e.value.exc_type == cls
            messages.append(e.value.value)
    finally:
        python.close()
    assert messages[0] == messages[1]


def test_wrong_arguments_are_refused_by_name(transport, server, nova_exception):
    c = peer.client(transport).prepare(server=HOST, timeout=15)
    with pytest.raises(nova_exception.Invalid, match='unexpected keyword argument .colour'):
        c.call({}, 'drop_move_claim_at_destination', instance=instance(), colour='red')
    with pytest.raises(nova_exception.Invalid, match='misses its argument instance'):
        c.call({}, 'drop_move_claim_at_destination')
    with pytest.raises(nova_exception.Invalid, match='allowed is Instance'):
        c.call({}, 'drop_move_claim_at_destination', instance='fa70925f')
    with pytest.raises(oslo_messaging.RemoteError, match='3.0 of Instance is not supported') as e:
        c.call({}, 'drop_move_claim_at_destination', instance=instance('3.0'))
    assert e.value.exc_type == 'IncompatibleObjectVersion'
    assert server.requests.empty()


@pytest.mark.parametrize('code, cls, http, extra', [
    ('PRECHECK', 'MigrationPreCheckError', 400, {'reason': 'why fa70925f-2d0d-4024-871f-903f3c94d32b'}),
    ('NO_SPACE', 'MigrationPreCheckError', 400, {}),
    ('NO_INSTANCE', 'InstanceNotFound', 404, {'instance_id': 'fa70925f-2d0d-4024-871f-903f3c94d32b'}),
    ('NO_MIGRATION', 'MigrationNotFound', 404, {}),
    ('INSTANCE_STATE', 'InstanceInvalidState', 409, {'instance_uuid': 'fa70925f-2d0d-4024-871f-903f3c94d32b'}),
    ('MIGRATION_STATE', 'InvalidMigrationState', 409, {}),
    ('DISK_EXISTS', 'DestinationDiskExists', 400, {}),
    ('DISK', 'InvalidDiskInfo', 400, {}),
    ('HYPERVISOR', 'HypervisorUnavailable', 500, {}),
    ('VIRT', 'InternalError', 500, {}),
    ('NET_PLUG', 'VirtualInterfacePlugException', 500, {}),
    ('MIGRATION', 'MigrationError', 500, {}),
    ('INVALID', 'Invalid', 400, {}),
    ('DENIED', 'Forbidden', 403, {}),
    ('JOURNAL', 'NovaException', 500, {}),
])
def test_our_errors_are_rebuilt_as_novas_classes(transport, server, nova_exception, code, cls, http, extra):
    with pytest.raises(getattr(nova_exception, cls)) as e:
        control(transport, 'fail', {'code': code, 'text': 'why fa70925f-2d0d-4024-871f-903f3c94d32b'})
    assert type(e.value).__name__ == cls + '_Remote'
    assert e.value.kwargs['code'] == http
    assert {k: e.value.kwargs[k] for k in extra} == extra
    assert 'why fa70925f' in str(e.value) and str(e.value).count('pre-check error') <= 2


def test_not_implemented_is_the_builtin_class(transport, server):
    with pytest.raises(NotImplementedError, match='not here'):
        control(transport, 'fail', {'code': 'NOT_IMPLEMENTED', 'text': 'not here'})


def test_heartbeats_keep_a_monitored_call_alive(transport, server):
    start = time.monotonic()
    c = peer.client(transport, namespace='computed', version='1.0').prepare(server=HOST, timeout=30, call_monitor_timeout=2)
    assert c.call({}, 'control', command='sleep', args={'seconds': 6}) == 'slept'
    assert time.monotonic() - start >= 6


def test_a_caller_that_gives_up_harms_nobody(transport, server):
    with pytest.raises(oslo_messaging.MessagingTimeout):
        control(transport, 'sleep', {'seconds': 2}, timeout=1)
    time.sleep(1.5)
    assert control(transport, 'null') is None


def test_calls_are_worked_on_side_by_side(transport, server):
    start = time.monotonic()
    slow = [peer.in_thread(control, transport, 'sleep', {'seconds': 4}) for _ in range(8)]
    assert control(transport, 'null') is None
    assert time.monotonic() - start < 4
    assert [s.result() for s in slow] == ['slept'] * 8
    assert time.monotonic() - start < 16, 'one after the other they take 32 s'


def test_casts_and_fanout_reach_us(transport, server):
    c = peer.client(transport)
    c.prepare(server=HOST).cast({'request_id': 'req-c'}, 'live_migration_abort', instance=instance(), migration_id=4)
    request = server.requests.get(timeout=5)
    assert (request['method'], request['kind'], request['context']['request_id']) == ('live_migration_abort', 'cast', 'req-c')
    c.prepare(fanout=True).cast({}, 'external_instance_event', instances=[instance()], events=[])
    assert server.requests.get(timeout=5)['method'] == 'external_instance_event'


def test_large_messages_both_ways(transport, server):
    text = 'x' * 1_000_000
    assert control(transport, 'echo', {'text': text})['args']['text'] == text
    assert control(transport, 'big', {'size': 1_000_000}) == text


def test_drain_leaves_compute_alt(transport, server):
    server.command('drain')
    c = peer.client(transport, namespace='baseapi', version='1.0')
    # Drained means that nothing more is taken: the call stays in the queue.
    time.sleep(0.5)
    with pytest.raises(oslo_messaging.MessagingTimeout):
        c.prepare(server=HOST, timeout=2).call({}, 'ping', arg=1)
    alt = peer.client(transport, topic='compute-alt', namespace='baseapi', version='1.0').prepare(server=HOST, timeout=10)
    assert alt.call({}, 'ping', arg=1)['arg'] == 1


def test_a_caller_that_vanished_does_not_hold_up_others(broker, transport, make_tool):
    tool = make_tool(HOST, kombu_missing_consumer_retry_timeout=2)
    gone = peer.make_transport(broker.url)
    running = peer.in_thread(control, gone, 'sleep', {'seconds': 8}, timeout=1)
    with pytest.raises(oslo_messaging.MessagingTimeout):
        running.result()
    queue = gone._driver._reply_q
    gone.cleanup()
    broker.ctl('delete_queue', queue)
    assert control(transport, 'null') is None
    wait_until(20, 'the reply given up', lambda: tool.status()['rpc_reply_lost'] == 1, 0.3)
    assert tool.status()['rpc']['dead_reply_queues'] == 1
    assert control(transport, 'null') is None
