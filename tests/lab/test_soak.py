# SPDX-License-Identifier: Apache-2.0
"""A hundred migrations to and fro: what ten of them needed is enough for all, and nothing is left of any."""
import collections
import os
import re
import time

from namespaces import wait_until
from scenarios import config, whole
from test_moves import descriptors, traces

MOVES = int(os.environ.get('COMPUTED_LAB_SOAK', '100'))
FIRST = 10  # by now each host has done all parts five times: connections and workers are there
# Memory is judged by the second half: the first fills the history's cache. What grows in it is what malloc cannot give back
# between blocks that are in use. A story or an XML that is lost in each migration is 20 KiB and more, and above this.
PSS_GROWTH_KIB = 1024


def held(agent):
    """Threads by name, and descriptors by what they are: the numbers of sockets differ, their count may not."""
    task = f'/proc/{agent.pid}/task'
    threads = collections.Counter()
    for t in os.listdir(task):
        try:
            with open(f'{task}/{t}/comm') as f:
                threads[f.read().strip()] += 1
        except OSError:
            pass
    kinds = collections.Counter(re.sub(r'\d+', 'N', d) for d in descriptors(agent))
    return {'threads': dict(sorted(threads.items())), 'descriptors': dict(sorted(kinds.items()))}


def at_rest(agents, seconds=11):
    """What the agents hold when it has not changed for a while: announcements are repeated, workers leave after 10 s."""
    since, last = time.monotonic(), None

    def quiet():
        nonlocal since, last
        now = {name: held(a) for name, a in agents.items()}
        if now != last:
            since, last = time.monotonic(), now
        return last if time.monotonic() - since > seconds else None
    return wait_until(60, 'rest', quiet, 0.25)


def unix_sockets(lab):
    """Unix sockets with a name, by host; whoever left one, it would be seen here."""
    found = {}
    for name, host in lab.hosts.items():
        with open(f'/proc/{host.pid}/net/unix') as f:
            found[name] = sorted(collections.Counter(re.sub(r'\d+', 'N', line.split()[7]) for line in f if len(line.split()) > 7).items())
    return found


def memory_kib(agent):
    """What is the agent's alone: its share of a library's pages depends on who else runs on the machine."""
    with open(f'/proc/{agent.pid}/smaps_rollup') as f:
        return sum(int(line.split()[1]) for line in f if line.startswith('Pss_Anon:'))


def is_checked(agent):
    """An agent that is built with a sanitizer, or runs below valgrind, keeps what was freed."""
    with open(f'/proc/{agent.pid}/maps') as f:
        return re.search(r'lib[alt]san|valgrind', f.read()) is not None


def slope(points):
    """Least squares, by move."""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    return sum((x - mx) * (y - my) for x, y in points) / sum((x - mx) ** 2 for x, _ in points)


def test_a_hundred_migrations_leave_no_residue_and_need_no_more_than_ten_did(lab):
    quick = {'libvirt': {'live_migration_policy': 'stepped'}}  # without a look at the dirty rate before each start
    agents = {host: lab.agent(host, config(**quick)) for host in lab.hosts}
    guest = lab.guest('soaked', memory_mb=96, disk_mib=32)
    before, pss, began = traces(lab, guest), {name: [] for name in agents}, time.monotonic()
    for move in range(1, MOVES + 1):
        source, to = ('hosta', 'hostb') if move % 2 else ('hostb', 'hosta')
        record = agents[source].migrate(guest, to)
        assert record['status'] == 'completed', record
        if move == FIRST:
            first, sockets = at_rest(agents), unix_sockets(lab)
        if move >= FIRST:
            for name, agent in agents.items():
                pss[name].append((move, memory_kib(agent)))
    print(f'\n{MOVES} moves in {time.monotonic() - began:.0f} s')
    whole(guest, 'hosta')
    wait_until(30, 'hosts as they were before', lambda: traces(lab, guest) == before)

    wait_until(60, f'rest as after {FIRST} moves: {first} -> { {n: held(a) for n, a in agents.items()} }',
               lambda: {n: held(a) for n, a in agents.items()} == first, 0.25)
    for name, agent in agents.items():
        start, end, half = pss[name][0][1], memory_kib(agent), len(pss[name]) // 2
        fits = slope(pss[name][:half]), slope(pss[name][half:])
        counts = [sum(first[name][kind].values()) for kind in ('threads', 'descriptors')]
        print(f'{name}: {counts[0]} threads, {counts[1]} descriptors; anonymous PSS {start} -> {end} KiB, '
              f'{fits[0]:+.2f} KiB a move in the first half, {fits[1]:+.2f} in the second, '
              f'{len(agent.computectl("migrations", parse=True)["migrations"])} migrations in the history', flush=True)
    assert unix_sockets(lab) == sockets
    for name, agent in agents.items():
        if not is_checked(agent):
            half = pss[name][len(pss[name]) // 2:]
            assert slope(half) * len(half) <= PSS_GROWTH_KIB, (name, half)
        assert not [line for line in agent.log().splitlines() if ' ERROR ' in line]
