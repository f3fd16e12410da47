# SPDX-License-Identifier: Apache-2.0
"""A host is emptied in standalone: one command, an agent that dies in between, and all of it undone."""
from namespaces import wait_until
from scenarios import clean, pair, restart, whole

# slow enough to be seen on the way: two at a time share 24 MiB/s
BUDGET = {'DEFAULT': {'max_concurrent_live_migrations': 2}, 'libvirt': {'live_migration_host_bandwidth': 24}}


def drain(agent, *words, **kw):
    return agent.computectl('drain', *words, parse=True, **kw)


def counts(status):
    return {state: n for state, n in status['counts'].items() if n}


def test_a_host_is_drained_through_the_death_of_its_agent_and_everything_comes_back(lab):
    guests = [lab.guest(f'drained{i}', memory_mb=128, fill=40) for i in range(3)]
    a, b = pair(lab, **BUDGET)
    begun = drain(a, '--to', 'hostb', '--order', 'name')
    assert begun['state'] in ('starting', 'moving') and begun['to'] == 'hostb', begun

    def on_the_way():
        s = drain(a, 'status')
        return s if s['moved_bytes'] > 0 and s['counts']['moving'] == 2 else None
    seen = wait_until(60, 'two guests on the way', on_the_way, 0.1)
    assert sum(counts(seen).values()) == 3 and seen['left_bytes'] < seen['size_bytes'], seen
    wait_until(10, 'shares of the bandwidth', lambda: '24 MiB/s, shared by 2, newest first: 12, 12' in a.log())
    refused = a.computectl('drain', 'undo', check=False)
    assert refused.returncode != 0 and 'stop it first' in refused.stderr, refused

    a.kill()
    restart(a)
    assert 'the drain of hosta goes on after a restart' in a.log()
    a.computectl('drain', '--to', 'hostb', '--wait', timeout=180)
    ended = drain(a, 'status')
    assert ended['state'] == 'done' and counts(ended) == {'moved': 3}, ended
    for guest in guests:
        whole(guest, 'hostb')
    moves = [m for m in a.computectl('migrations', parse=True)['migrations']
             if m['role'] == 'source' and m['instance'] in [g.uuid for g in guests]]
    assert sorted(m['status'] for m in moves) == ['completed'] * 3, moves  # none was asked for twice

    text = a.computectl('drain', 'undo', '--watch', '--interval', 1, timeout=180).stdout
    assert '3 back' in text and 'drain of hosta is undone: done' in text, text
    assert counts(drain(a, 'status')) == {'returned': 3}
    for guest in guests:
        clean(lab, guest, 'hosta')


def test_a_guest_that_cannot_move_stays_and_the_others_go(lab):
    goes, stays = lab.guest('goes', memory_mb=128), lab.guest('stays', memory_mb=128)
    a, b = pair(lab)
    # a disk is there already: the destination refuses this one
    blocker = b.host.path(f'/var/lib/nova/instances/{stays.uuid}')
    b.host.run(['mkdir', f'/var/lib/nova/instances/{stays.uuid}'])
    b.host.run(['sh', '-c', f'echo somebody else > /var/lib/nova/instances/{stays.uuid}/disk'])
    ended = a.computectl('drain', '--to', 'hostb', '--wait', check=False, timeout=120)
    assert ended.returncode != 0 and '1 guest(s) did not move' in ended.stderr, (ended, blocker)
    status = drain(a, 'status')
    assert counts(status) == {'moved': 1, 'stays': 1}, status
    reason = next(g['reason'] for g in status['guests'] if g['name'] == stays.name)
    assert 'disk' in reason or 'instances' in reason, reason
    whole(goes, 'hostb')
    whole(stays, 'hosta')

    b.host.run(['rm', '-r', f'/var/lib/nova/instances/{stays.uuid}'])  # what stood in the way goes: the drain is continued
    a.computectl('drain', '--to', 'hostb', '--wait', timeout=120)
    assert counts(drain(a, 'status')) == {'moved': 2}
    a.computectl('drain', 'undo', '--wait', timeout=120)
    for guest in (goes, stays):
        clean(lab, guest, 'hosta')
