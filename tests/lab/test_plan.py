# SPDX-License-Identifier: Apache-2.0
"""A plan says beforehand what a migration would do, and changes nothing on either host."""
import contextlib
import json
import re

from scenarios import clean, connected, other_qemu, pair

MIB = 1 << 20


def plan(agent, guest, *settings, to='hostb', status=0):
    """The document of `computectl plan`, its exit status as expected, both hosts as they were."""
    lab = agent.lab
    before = lab.scan()
    r = agent.computectl('plan', guest.uuid, '--to', to, *settings, '--json', check=False)
    assert r.returncode == status, (r.returncode, r.stdout[-2000:], r.stderr)
    assert lab.scan() == before
    return json.loads(r.stdout)


def row(document, host, check):
    found = [c for c in document['checks'] if c['at'] == host and c['check'] == check]
    assert found, (host, check, document['checks'])
    return found[0]


def reasons(document):
    """What refuses, without figures that differ from one look to the next."""
    return sorted(re.sub(r'[\d.]+ ([KMGT]iB)', r'N \1', text) for text in document['reasons'])


def refused(agent, guest, host, check, *words, **kw):
    """Refused by that check with these words, twice the same."""
    first, again = (plan(agent, guest, status=65, **kw) for _ in range(2))
    assert first['verdict'] == 'refused' and reasons(first) == reasons(again), (first['reasons'], again['reasons'])
    found = row(first, host, check)
    assert found['result'] == 'refused' and all(w in found['text'] for w in words), found
    page = agent.computectl('plan', guest.uuid, '--to', 'hostb', check=False)
    assert page.returncode == 65 and 'It would be refused.' in page.stdout and words[0] in page.stdout, page.stdout
    return first


def test_the_plan_of_a_guest_that_can_move_is_what_its_migration_then_does(lab):
    guest = lab.guest('planned', memory_mb=128, fill=60)
    a, b = pair(lab)
    limit = 'bandwidth=16'
    document = plan(a, guest, limit)
    assert document['verdict'] == 'go' and not document['reasons'], document['reasons']
    assert all(c['result'] in ('passed', 'warning') for c in document['checks']), document['checks']
    assert {c['at'] for c in document['checks']} == {'hosta', 'hostb'}
    assert document['queue']['at_once'] and document['to_move']['shared'] is False
    expected = document['expected']
    assert expected['bandwidth_from'] == 'limit' and expected['bandwidth_bytes_s'] == 16 * MIB, expected
    assert expected['dirty_rate_bytes_s'] is not None and expected['time_s'] and expected['pause_ms'], expected
    assert [d['how'] for d in document['to_move']['disks'] if d['target'] == 'vda'] == ['copied']
    page = a.computectl('plan', guest.uuid, '--to', 'hostb', limit).stdout
    assert all(f'\n{title}\n' in page for title in ('Checks', 'To move', 'Expected', 'Policy', 'Verdict')), page
    assert 'It would go.' in page

    m = a.migrate(guest, 'hostb', limit)
    assert m['status'] == 'completed', m
    moved = m['memory']['processed'] + m['disk']['processed']
    planned = document['to_move']['total_bytes'] - document['to_move']['base_bytes']
    print(f'planned {planned / MIB:.1f} MiB in {expected["time_s"]} s with a pause of {expected["pause_ms"]} ms; moved {moved / MIB:.1f} MiB '
          f'in {m["result"]["total_time_ms"] / 1000:.1f} s with a pause of {m["result"]["downtime_ms"]} ms')
    assert 0.4 <= moved / planned <= 1.6, (moved, planned)
    assert expected['time_s'] <= 3 * m['result']['total_time_ms'] / 1000 + 2, (expected, m['result'])
    if m.get('switchover', {}).get('mode'):
        assert document['switchover']['mode'] == m['switchover']['mode'], (document['switchover'], m['switchover'])
    clean(lab, guest, 'hostb')

    # the way back knows the link by no migration of its own yet, and needs the base no more
    document = plan(b, guest, to='hosta')
    assert document['verdict'] == 'go', document['reasons']
    assert all(d['base']['here'] for d in document['to_move']['disks'] if d['base']), document['to_move']


def test_what_refuses_is_told_with_its_reason_twice_the_same(lab):
    guest = lab.guest('stays', memory_mb=128)
    a, b = pair(lab)
    host, net = lab.hosts['hostb'], lab.networks[0]

    @contextlib.contextmanager
    def small_disk():
        host.run(['mount', '-t', 'tmpfs', '-o', 'size=32m', 'small', '/var/lib/nova/instances'])
        try:
            yield
        finally:
            host.run(['umount', '/var/lib/nova/instances'])

    @contextlib.contextmanager
    def no_bridge():
        host.ip('link', 'del', net['bridge'])
        try:
            yield
        finally:
            host.wire_bridges([net])
    with small_disk():
        refused(a, guest, 'hostb', 'disk', 'free')
        with no_bridge():  # the one does not hide the other
            document = refused(a, guest, 'hostb', 'network', net['bridge'], 'missing')
            assert row(document, 'hostb', 'disk')['result'] == 'refused'
            assert row(document, 'hostb', 'memory')['result'] == 'passed'
    with no_bridge():
        refused(a, guest, 'hostb', 'network', net['bridge'], 'missing')
    assert plan(a, guest)['verdict'] == 'go'
    clean(lab, guest, 'hosta')


def test_a_cpu_that_the_destination_does_not_have_is_told_beforehand(lab):
    guest = lab.guest('demanding', memory_mb=128, start=False)
    xml = guest.xml.replace('<features>', "<cpu mode='custom' match='exact'><model fallback='forbid'>Nehalem</model></cpu><features>")
    guest.host.run(['virsh', '-q', '-c', 'qemu:///system', 'define', '/dev/stdin'], input=xml)
    guest.start()
    a, b = pair(lab)

    def without_sse42(text):
        before, section, after = text.partition("<hostCPU type='tcg'")
        return before + section + re.sub("(<property name='(sse4.2|popcnt)' type='boolean' value=)'true'", "\\1'false'", after)
    with other_qemu(b, without_sse42):
        refused(a, guest, 'hostb', 'CPU', 'Nehalem', 'hypervisor CPU')
    assert row(plan(a, guest), 'hostb', 'CPU')['result'] == 'passed'
    clean(lab, guest, 'hosta')


def test_a_destination_that_does_not_tell_is_not_known_and_one_that_is_dead_is_refused(lab):
    guest = lab.guest('asked', memory_mb=128)
    a, b = pair(lab)
    b.restart({'standalone': {'allow_remote_commands': False}})
    connected(b)
    document = plan(a, guest, status=69)
    assert document['verdict'] == 'unknown' and row(document, 'hostb', 'agent')['result'] == 'unknown', document['checks']
    b.stop()
    document = plan(a, guest, status=65)
    assert 'does not answer' in row(document, 'hostb', 'agent')['text'], document['checks']
    b.start()
    clean(lab, guest, 'hosta')
