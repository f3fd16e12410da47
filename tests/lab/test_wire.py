# SPDX-License-Identifier: Apache-2.0
"""Nova's own messages, recorded in a Nova cloud and told about the lab's guest, sent by the real oslo.messaging."""
import glob
import json
import os
import subprocess
import time
import uuid

import pytest

import lab as lab_module

CAPTURE = os.path.join(lab_module.SOURCE, 'tests/data/capture/live-migration')
HERE = os.path.dirname(os.path.abspath(__file__))


def recorded(method, reply=False):
    """The recorded message of a method; reply: the reply to it."""
    pattern = f'*-reply-{method}.json' if reply else f'*-compute.os-*-{method}.json'
    with open(sorted(glob.glob(f'{CAPTURE}/{pattern}'))[0]) as f:
        return f.read()


class Adapted:
    """Turns what was recorded into what Nova would have said of the lab's guest."""

    def __init__(self, guest):
        port = guest.ports[0]
        self.migration_uuid = str(uuid.uuid4())
        self.words = [
            ('fa70925f-2d0d-4024-871f-903f3c94d32b', guest.uuid), ('34082c59-a44b-4000-9999-43a9a0767be2', self.migration_uuid),
            ('9cf193f1-870b-4829-8081-1945ddc3e3fc', port['id']), ('tap9cf193f1-87', port['tap']), ('fa:16:3e:00:00:3d', port['mac']),
            ('83fa7b67-c9e8-469f-a6ea-8fd5e677797e', port['network']['id']), ('brq83fa7b67-c9', port['network']['bridge']),
            ('203.0.113.61', port['ip']), ('os-hosta', 'hosta'), ('os-hostb', 'hostb')]
        self.guest = guest

    def message(self, method, reply=False):
        text = recorded(method, reply)
        for old, new in self.words:
            text = text.replace(old, new)
        message = json.loads(text)['oslo.message']
        if not reply:
            self._instance(message['args'])
        return message

    def _instance(self, args):
        data = args['instance']['nova_object.data']
        data.update(id=self.guest.id, memory_mb=self.guest.memory_mb)
        data['flavor']['nova_object.data']['memory_mb'] = self.guest.memory_mb


class Conductor:
    def __init__(self, lab):
        self.popen = subprocess.Popen(lab.control.command(['/usr/bin/python3', f'{HERE}/conductor.py', lab.broker.url]), stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
        assert json.loads(self.popen.stdout.readline())['ready']

    def _ask(self, request):
        self.popen.stdin.write(json.dumps(request) + '\n')
        self.popen.stdin.flush()
        return json.loads(self.popen.stdout.readline())

    def send(self, op, server, message):
        context = {k[len('_context_'):]: v for k, v in message.items() if k.startswith('_context_')}
        return self._ask({'op': op, 'server': server, 'version': message['version'], 'method': message['method'], 'args': message['args'],
                          'context': context})

    def trace(self):
        return self._ask({'op': 'trace'})['messages']

    def close(self):
        self.popen.stdin.close()
        self.popen.wait(20)


@pytest.fixture
def conductor(lab):
    lab.broker.ctl('trace_on')
    conductor = Conductor(lab)
    yield conductor
    conductor.close()
    lab.broker.ctl('trace_off')


OURS = ('computed_', 'dst_cpu_shared_set_info', 'pci_dev_map_src_dst')  # ours, and fields of newer releases that a Zed peer drops


def differences(ours, nova, where=''):
    """How `ours` differs in form from what Nova sent: missing keys, other types, objects of another class or version."""
    if ours is None or nova is None or isinstance(nova, bool) != isinstance(ours, bool):
        return [] if nova is None or (ours is None) == (nova is None) else [f'{where}: {ours!r} where Nova has {nova!r}']
    if isinstance(nova, dict) and isinstance(ours, dict):
        if 'nova_object.name' in nova:
            return object_differences(ours, nova, where)
        return [d for k in nova for d in (differences(ours[k], nova[k], f'{where}.{k}') if k in ours else [f'{where}.{k} is missing'])]
    if isinstance(nova, list) and isinstance(ours, list):
        return [] if not nova else differences(ours[0], nova[0], f'{where}[0]') if ours else [f'{where} is empty']
    numbers = isinstance(ours, (int, float)) and isinstance(nova, (int, float))
    return [] if type(ours) is type(nova) or numbers else [f'{where}: {ours!r} where Nova has {nova!r}']


def object_differences(ours, nova, where):
    found = [f'{where}: {key} {ours.get(key)} where Nova has {nova[key]}' for key in
             ('nova_object.name', 'nova_object.namespace', 'nova_object.version') if ours.get(key) != nova[key]]
    extra = set(ours) - {'nova_object.name', 'nova_object.namespace', 'nova_object.version', 'nova_object.data', 'nova_object.changes'}
    data = ours['nova_object.data']
    unknown = [c for c in ours.get('nova_object.changes', []) if c not in data]
    return (found + [f'{where}: unknown key {k}' for k in sorted(extra)] + [f'{where}: {c} is changed, but not there' for c in unknown]
            + differences(data, nova['nova_object.data'], where + '.' + nova['nova_object.name']))


def without_lazy_loads(args, as_sent):
    """nova-compute loads further fields of the instance from the database on its way; they are not part of the form."""
    data, sent = (a['instance']['nova_object.data'] for a in (args, as_sent))
    for key in [k for k in data if k not in sent]:
        del data[key]
    data['system_metadata'].pop('clean_attempts', None)  # how often nova-compute tried to remove files, its own count
    return args


def additions(ours, nova):
    return sorted(k for k in ours['nova_object.data'] if k not in nova['nova_object.data'] and not k.startswith(OURS))


def bind_ports(data, as_nova):
    """What nova-conductor writes into the VIFs once Neutron has bound the ports to the destination."""
    for mine, nova in zip(data['nova_object.data']['vifs'], as_nova['nova_object.data']['vifs']):
        for key in ('vnic_type', 'vif_type', 'vif_details_json', 'profile_json'):
            mine['nova_object.data'][key] = nova['nova_object.data'][key]
        mine['nova_object.changes'] = nova['nova_object.changes']
    return data


def wait_for(lab, guest, migration_uuid):
    record = lab.agents['hosta'].wait_end(guest, 120)
    assert record['uuid'] == migration_uuid and record['status'] == 'completed', record
    assert guest.where() == ['hostb']
    checked = guest.verify()
    assert checked['ok'], checked


def test_messages_of_a_nova_conductor_move_the_guest_and_all_that_the_agents_say_has_novas_form(lab, conductor):
    for host in lab.hosts:
        lab.agent(host)
    guest = lab.guest(dirty=4, hot_set=8, disk_rate=1, disk_hot=8)
    adapted = Adapted(guest)
    check = conductor.send('call', 'hostb', adapted.message('check_can_live_migrate_destination'))
    nova = adapted.message('check_can_live_migrate_destination', reply=True)['result']
    assert 'result' in check, check
    assert differences(check['result'], nova, 'answer') == []
    assert additions(check['result'], nova) == []

    cast = adapted.message('live_migration')
    cast['args']['migrate_data'] = bind_ports(check['result'], cast['args']['migrate_data'])
    conductor.send('cast', 'hosta', cast)
    wait_for(lab, guest, adapted.migration_uuid)
    time.sleep(0.5)

    seen = conductor.trace()
    assert not [m for m in seen if 'unreadable' in m], seen
    sent = adapted.message('check_can_live_migrate_destination')['args']
    requests = {m['message']['method']: m for m in seen if 'method' in m['message']}
    replies = {m['message']['_msg_id']: m['message'] for m in seen if 'method' not in m['message'] and m['message'].get('ending')}
    for method, server in (('check_can_live_migrate_source', 'hosta'), ('pre_live_migration', 'hostb'),
                           ('post_live_migration_at_destination', 'hostb')):
        ours, nova = requests[method], adapted.message(method)
        assert ours['exchange'] == 'nova' and ours['routing_keys'] == [f'compute.{server}']
        assert ours['message']['version'] == nova['version'] and ours['message'].get('namespace') is None
        assert set(ours['message']['args']) == set(nova['args']), method
        assert differences(ours['message']['args'], without_lazy_loads(nova['args'], sent), method) == []
        assert {k for k in nova if k.startswith(('_context_', '_msg', '_reply', '_unique'))} <= set(ours['message']), 'the context was not passed on'
        reply, nova = replies[ours['message']['_msg_id']], adapted.message(method, reply=True)
        assert set(reply) >= set(nova) and differences(reply['result'], nova['result'], f'reply to {method}') == []
    disks = json.loads(requests['pre_live_migration']['message']['args']['disk'])
    assert differences(disks, json.loads(adapted.message('pre_live_migration')['args']['disk']), 'disk') == []


def test_a_check_that_fails_comes_back_as_the_exception_that_novas_conductor_knows(lab, conductor):
    for host in lab.hosts:
        lab.agent(host)
    guest = lab.guest()
    message = Adapted(guest).message('check_can_live_migrate_destination')
    message['args']['block_migration'] = False
    failure = conductor.send('call', 'hostb', message)['failure']
    assert failure['class'].startswith('InvalidSharedStorage') or failure['class'] == 'MigrationPreCheckError_Remote', failure
    assert 'local disks on hosta' in failure['text'], failure
    message['args']['instance']['nova_object.data']['uuid'] = str(uuid.uuid4())
    failure = conductor.send('call', 'hostb', message)['failure']
    assert failure['class'] != 'RemoteError', failure
    message['version'] = '7.0'
    assert 'UnsupportedVersion' in json.dumps(conductor.send('call', 'hostb', message))
    assert guest.where() == ['hosta']
