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
# What is allocated grows until the history's cache of 256 KiB is full, in the first half; ids of requests, 100 bytes each,
# are kept for an hour. It is looked at when the agents rest, since a move that has just ended holds some yet, and the more
# the faster they follow. A story or an XML that is lost in each migration is 20 KiB and more, 1 MiB in the second half.
REST_GROWTH_KIB = 256 + 64
ALLOCATED_GROWTH_KIB = 64
PSS_GROWTH_KIB = 384  # of what the heap holds beside that some is given back at each migration's end


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
    """What is allocated; and what is the agent's alone: its share of a library's pages depends on who else runs."""
    with open(f'/proc/{agent.pid}/smaps_rollup') as f:
        anonymous = sum(int(line.split()[1]) for line in f if line.startswith('Pss_Anon:'))
    return agent.computectl('stats', parse=True)['allocated_kib'], anonymous


def is_checked(agent):
    """An agent that is built with a sanitizer, or runs below valgrind, keeps what was freed."""
    with open(f'/proc/{agent.pid}/maps') as f:
        return re.search(r'lib[alt]san|valgrind', f.read()) is not None


def test_a_hundred_migrations_leave_no_residue_and_need_no_more_than_ten_did(lab):
    quick = {'libvirt': {'live_migration_policy': 'stepped'}}  # without a look at the dirty rate before each start
    agents = {host: lab.agent(host, config(**quick)) for host in lab.hosts}
    guest = lab.guest('soaked', memory_mb=96, disk_mib=32)
    before, memory, began = traces(lab, guest), {}, time.monotonic()
    for move in range(1, MOVES + 1):
        source, to = ('hosta', 'hostb') if move % 2 else ('hostb', 'hosta')
        record = agents[source].migrate(guest, to)
        assert record['status'] == 'completed', record
        if move == FIRST:
            first, sockets = at_rest(agents), unix_sockets(lab)
        elif move == MOVES // 2:
            at_rest(agents)
        if move in (FIRST, MOVES // 2):
            memory[move] = {name: memory_kib(agent) for name, agent in agents.items()}
    print(f'\n{MOVES} moves in {time.monotonic() - began:.0f} s')
    whole(guest, 'hosta')
    wait_until(30, 'hosts as they were before', lambda: traces(lab, guest) == before)

    wait_until(60, f'rest as after {FIRST} moves: {first} -> { {n: held(a) for n, a in agents.items()} }',
               lambda: {n: held(a) for n, a in agents.items()} == first, 0.25)
    memory[MOVES] = {name: memory_kib(agent) for name, agent in agents.items()}
    for name, agent in agents.items():
        counts = [sum(first[name][kind].values()) for kind in ('threads', 'descriptors')]
        told = '; '.join(f'{what} at rest ' + ', '.join(f'{at[name][i]} KiB after {move}' for move, at in memory.items())
                         for i, what in enumerate(('allocated', 'anonymous PSS')))
        print(f'{name}: {counts[0]} threads, {counts[1]} descriptors; {told}; '
              f'{len(agent.computectl("migrations", parse=True)["migrations"])} migrations in the history', flush=True)
    assert unix_sockets(lab) == sockets
    for name, agent in agents.items():
        if not is_checked(agent):
            allocated, anonymous = ([at[name][i] for at in memory.values()] for i in (0, 1))
            assert allocated[2] - allocated[0] <= REST_GROWTH_KIB, (name, allocated)
            assert allocated[2] - allocated[1] <= ALLOCATED_GROWTH_KIB, (name, allocated)
            assert anonymous[2] - anonymous[1] <= PSS_GROWTH_KIB, (name, anonymous)
        assert not [line for line in agent.log().splitlines() if ' ERROR ' in line]
