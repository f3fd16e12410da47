#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goal 10: a host with eight guests of several kinds is emptied by `computectl drain`, against eight `virsh migrate` one after the other.

    drain.py [--runs N] [--guests N] [--mbit RATE] [--no-turns] [--json FILE]

The link is shaped: without a limit the two cores are the link, and nothing done at once is faster. Makespan: the first command until
the last guest has gone. The worst pause of a round is set against the median pause of single migrations of the same guests by computed.
"""
import statistics
import sys
import time

import moves
from figures import Row, column, in_turn, main
from namespaces import wait_until

RUNS, FEW = 2, 1
OURS = 'computed'
SHARE = 0.92  # of the link is the budget, the rest is for headers: all of it would be more than it carries
KINDS = ({'memory_mb': 128, 'fill': 40}, {'memory_mb': 160, 'fill': 64}, {'memory_mb': 128, 'hot_set': 8, 'dirty': 2},
         {'memory_mb': 128, 'disk_rate': 1, 'disk_hot': 8})


def options(p):
    p.add_argument('--guests', type=int, default=8)
    p.add_argument('--mbit', type=int, default=200)
    p.add_argument('--parallel', type=int, default=4)
    p.add_argument('--no-turns', action='store_true', help='without live_migration_switchover_in_turn')


def pauses(lab, guests, source, to, since):
    found = []
    for guest in guests:
        wait_until(30, f'{guest.name} at {to}', lambda g=guest: g.where() == [to], 0.1)
        found.append(moves.pause(moves.moments(lab, guest, source, to, since))['pause_ms'])
    return found


def one(lab, guests, system, parallel):
    source = guests[0].where()[0]
    to, since = moves.other(source), time.time()
    if system == OURS:
        lab.agents[source].computectl('drain', '--to', to, '--wait', '--interval', '0.2', '--parallel', parallel, timeout=600)
        seconds = time.time() - since
    else:
        seconds = sum(moves.by_virsh(lab, guest, source, to)[1] for guest in guests)
    worst = max(pauses(lab, guests, source, to, since))
    print(f'{system:9} {seconds:6.1f} s, worst pause {worst:6.1f} ms', flush=True)
    return {'seconds': seconds, 'worst': worst}


def measure(args):
    config = {'DEFAULT': {'max_concurrent_live_migrations': args.parallel},
              'libvirt': {'live_migration_host_bandwidth': round(SHARE * args.mbit / 8.388), 'live_migration_switchover_in_turn': not args.no_turns}}
    with moves.bench_lab(args.net, args.mbit, config) as lab:
        guests = [lab.guest(f'drained{i}', **KINDS[i % len(KINDS)]) for i in range(args.guests)]
        alone = [moves.run(lab, guest, OURS)['pause_ms'] for guest in guests]
        found = in_turn(args.runs, (OURS, moves.VIRSH), lambda system: one(lab, guests, system, args.parallel))
    ours, virsh = found[OURS], found[moves.VIRSH]
    median = statistics.median(alone)
    return [Row('10', f'{args.guests} guests: makespan', column(ours, 'seconds'), column(virsh, 'seconds'), 's', wants=[('ratio', 0.8)]),
            Row('10', 'worst pause of a round', column(ours, 'worst'), column(virsh, 'worst'), 'ms'),
            Row('10', "worst pause, against that of the same guests alone (ours)", column(ours, 'worst'), [median] * len(ours), 'ms', wants=[('ratio', 1.1)])]


if __name__ == '__main__':
    main(sys.modules['__main__'])
