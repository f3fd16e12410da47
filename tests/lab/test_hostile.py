# SPDX-License-Identifier: Apache-2.0
"""Somebody on the message bus means ill: a clear error or a line of log for each message, and nothing else happens."""
import copy
import json
import time
from uuid import uuid4

import pytest

from bus import Bus
from namespaces import wait_until
from scenarios import SLOW, clean, newest, pair, slow_guest, start, whole

EVIL_UUIDS = ['../../../etc', '/etc/passwd', 'a/../b', '', '.', '..', 'x' * 5000, '%s%n%s', 'a\x00b', '0badc0de-0000-4000-8000-00000000000/',
              '; rm -rf /', '\x1b[2J', None, 7, ['x'], {'a': 1}]


def alive(agents):
    for agent in agents:
        assert agent.service.alive(), agent.log()[-2000:]
        assert agent.computectl('status', parse=True)['rpc']['up']


def refusals(agent):
    return agent.computectl('stats', parse=True)['counters']['rpc_refused']


def envelope(message):
    return json.dumps({'oslo.version': '2.0', 'oslo.message': message if isinstance(message, str) else json.dumps(message)})


def malformed(bus):
    def fresh(**changes):
        return {**bus.message('ping', {'arg': 1}, version='1.1', namespace='baseapi'), **changes}
    good = fresh()
    return {
        'no JSON': 'hello', 'nothing': '', 'bytes': b'\xff\xfe\x00\x01' * 100, 'half': envelope(good)[:60],
        'a number': '5', 'an array': '[]', 'null': 'null', 'no message': '{"oslo.version": "2.0"}',
        'other version': json.dumps({'oslo.version': '9.0', 'oslo.message': json.dumps(good)}),
        'version no text': json.dumps({'oslo.version': 2, 'oslo.message': json.dumps(good)}),
        'message no text': json.dumps({'oslo.version': '2.0', 'oslo.message': good}),
        'message no JSON': envelope('{"method": '), 'message an array': envelope('[1, 2]'),
        'no method': envelope({k: v for k, v in fresh().items() if k != 'method'}),
        'method a number': envelope({**fresh(), 'method': 3}), 'args a list': envelope({**fresh(), 'args': [1]}),
        'unknown method': envelope({**fresh(), 'method': 'destroy_everything'}),
        'method with controls': envelope({**fresh(), 'method': 'ping\n\x1b[31mERROR\x00'}),
        'private method': envelope({**fresh(), 'method': '__init__'}),
        'unknown namespace': envelope({**fresh(), 'namespace': '../..'}), 'namespace a list': envelope({**fresh(), 'namespace': []}),
        'too new': envelope({**fresh(), 'version': '1.99'}), 'other major': envelope({**fresh(), 'version': '99.0'}),
        'version no number': envelope({**fresh(), 'version': 'a.b'}), 'version huge': envelope({**fresh(), 'version': '1.' + '9' * 400}),
        'deep': envelope('{"args":' * 5000 + '1' + '}' * 5000), 'deep outside': '[' * 100000,
        'twice the same key': envelope('{"method": "ping", "method": "live_migration", "args": {}, "version": "6.0"}'),
        'huge number': envelope('{"method": "ping", "args": {"arg": ' + '9' * 100000 + '}, "version": "1.1"}'),
        'not a number': envelope('{"method": "ping", "args": {"arg": NaN}, "version": "1.1"}'),
        'bad UTF-8': b'{"oslo.version": "2.0", "oslo.message": "{\\"method\\": \\"\xc3\x28\\"}"}',
        'evil reply queue': envelope({**fresh(), '_msg_id': 'x' * 10000, '_reply_q': '../../\x00' * 100}),
        'reply id a list': envelope({**fresh(), '_msg_id': [1], '_reply_q': {}}),
    }


def test_malformed_messages_are_left_out_with_a_word_and_do_no_harm(lab):
    a, b = pair(lab)
    before, memory = lab.scan(), a.pss_kib()
    with Bus(lab) as bus:
        for name, body in malformed(bus).items():
            counted = refusals(a)  # the log tells of some a minute only, lest it be filled
            bus.raw('hosta', body)
            wait_until(10, f'refusal of "{name}"', lambda: refusals(a) > counted)
            assert '\x1b' not in a.log() and '\x00' not in a.log()
        bus.raw('hosta', 'hello', content_type='application/x-python-pickle')
        # the agent works on, and nothing was kept back
        answer = bus.call('hosta', 'ping', {'arg': 'still there'}, version='1.1', namespace='baseapi')
        assert answer['result'] == {'service': 'compute', 'arg': 'still there'}, answer
        counted = refusals(a)
        bus.raw('hosta', envelope({'method': 'ping', 'args': {'arg': 'x' * (64 << 20)}, 'version': '1.1', 'namespace': 'baseapi'}))
        wait_until(30, 'refusal of 64 MiB', lambda: refusals(a) > counted)
        assert 'malformed' in a.log() or 'refused' in a.log()
        assert bus.call('hosta', 'ping', {'arg': 1}, version='1.1', namespace='baseapi')['result']['arg'] == 1
    alive([a, b])
    grown = a.pss_kib() - memory
    print(f'{grown} KiB more after all of it')
    assert grown < 8192
    assert lab.scan() == before


class Spy:
    """Real messages of a migration, as templates."""

    def __init__(self, lab, a, guest):
        with Bus(lab) as bus:
            name = bus.channel.queue_declare('', exclusive=True).queue
            for host in lab.hosts:
                bus.channel.queue_bind(name, 'nova', f'compute.{host}')
            self.seen = {}
            bus.channel.basic_consume(name, callback=self._take, no_ack=True)
            start(a, guest, 'hostb', *SLOW)
            a.computectl('abort', guest.uuid)
            a.wait_end(guest, 30)
            while len(self.seen) < 5:
                bus.connection.drain_events(timeout=10)

    def _take(self, message):
        body = json.loads(json.loads(message.body)['oslo.message'])
        self.seen.setdefault(body['method'], body['args'])

    def args(self, method):
        return copy.deepcopy(self.seen[method])


def with_value(args, path, value):
    """args with one value deep inside replaced; the path goes through JSON texts as well."""
    key, rest = path[0], path[1:]
    if isinstance(args, str):
        return json.dumps(with_value(json.loads(args), path, value))
    if rest:
        args[key] = with_value(args[key], rest, value)
    else:
        args[key] = value
    return args


VIF = ('migrate_data', 'nova_object.data', 'vifs', 0, 'nova_object.data', 'source_vif')


def test_hostile_values_in_real_requests_are_refused_and_touch_nothing(lab):
    guest = slow_guest(lab)
    a, b = pair(lab)
    spy = Spy(lab, a, guest)
    clean(lab, guest, 'hosta')
    before = lab.scan()
    uuid = ('instance', 'nova_object.data', 'uuid')
    cases = [(method, uuid, v) for method in ('check_can_live_migrate_destination', 'pre_live_migration') for v in EVIL_UUIDS]
    cases += [('check_can_live_migrate_destination', ('instance', 'nova_object.data', 'host'), v)
              for v in ('../x', 'a b', '', 'x' * 300, 5, 'hostb')]
    for v in ('../../../../etc/', '/', '..', '', f'/var/lib/nova/instances/{guest.uuid}/../../x', 7):
        cases.append(('pre_live_migration', ('disk', 0, 'path'), v))
    for v in ('/etc/shadow', '../../../etc/passwd', 'a/b', '_base/../../x', '..', ['x']):
        cases.append(('pre_live_migration', ('disk', 0, 'backing_file'), v))
    for key, values in (('type', ('evil', '../raw', 'vmdk', 3)), ('virt_disk_size', (-1, 1 << 62, 'many', 1.5))):
        cases += [('pre_live_migration', ('disk', 0, key), v) for v in values]
    vif = VIF
    for key, values in (('devname', ('../../x', 'tap way too long for it', 'a/b', 'x' * 16)),
                        ('address', ('zz:zz', '"/><evil/>', 'ff:ff:ff:ff:ff:ff', '', 5)), ('id', ('../..',))):
        cases += [('pre_live_migration', vif + (key,), v) for v in values]
    cases += [('pre_live_migration', vif + ('network', 'bridge'), v) for v in ('../br', 'br with space', 'b' * 40, '')]
    mute = []
    with Bus(lab) as bus:
        for method, path, value in cases:
            args = with_value(spy.args(method), path, value)
            if method == 'pre_live_migration':  # each is an attempt of its own
                args = with_value(args, ('migrate_data', 'nova_object.data', 'migration', 'nova_object.data', 'uuid'), str(uuid4()))
            answer = bus.call('hostb', method, args, seconds=20)
            what = f'{method} {".".join(map(str, path[-3:]))} = {str(value)[:60]!r}'
            if 'failure' not in answer:
                mute.append((what, str(answer)[:200]))
                bus.cast('hostb', 'rollback_live_migration_at_destination',
                         {**spy.args('rollback_live_migration_at_destination'), 'instance': args['instance'],
                          'migrate_data': args['migrate_data']})
                wait_until(20, 'taking back', lambda: not lab.hosts['hostb'].scan()['journal'])
                continue
            text = answer['failure']['message']
            assert ' here' not in text, (what, text)  # not refused because of the case before
            assert text and '\x1b' not in str(text) and len(str(text)) < 2000, (what, text)
    assert not mute, '\n'.join(map(str, mute))
    alive([a, b])
    wait_until(20, f'the hosts as they were: {before} {lab.scan()}', lambda: lab.scan() == before, 0.5)
    clean(lab, guest, 'hosta')


def test_forged_orders_destroy_nothing_that_runs(lab):
    guest = slow_guest(lab)
    a, b = pair(lab)
    spy = Spy(lab, a, guest)
    rollback = spy.args('rollback_live_migration_at_destination')
    post = {'instance': rollback['instance'], 'block_migration': True}
    clean(lab, guest, 'hosta')
    with Bus(lab) as bus:
        # for a guest that runs here and has no migration
        for host in ('hosta', 'hostb'):
            bus.cast(host, 'rollback_live_migration_at_destination', rollback)
            bus.cast(host, 'live_migration_force_complete', {'instance': rollback['instance']})
            bus.cast(host, 'live_migration_abort', {'instance': rollback['instance'], 'migration_id': 1})
        assert 'failure' in bus.call('hostb', 'post_live_migration_at_destination', post)
        bus.call('hosta', 'post_live_migration_at_destination', post)
        # the record of the migration that was aborted, once more: known and over, or refused
        clean(lab, guest, 'hosta')
        # in the middle of a copy: an old one's rollback, and the word that it has arrived
        start(a, guest, 'hostb', *SLOW)
        bus.cast('hostb', 'rollback_live_migration_at_destination', rollback)
        bus.cast('hosta', 'rollback_live_migration_at_destination', rollback)
        assert 'failure' in bus.call('hostb', 'post_live_migration_at_destination', post)
        assert newest(a, guest)['phase'] == 'running'
        record = a.wait_end(guest, 60)
        assert record['status'] == 'completed', record
        clean(lab, guest, 'hostb')
        # after the move: taking back what runs there now
        bus.cast('hostb', 'rollback_live_migration_at_destination', rollback)
        bus.cast('hosta', 'rollback_live_migration_at_destination', rollback)
        time.sleep(2)
    clean(lab, guest, 'hostb')
