#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goals 1, 2 and 3: what is around the copy, of one migration of an idle guest, against bare `virsh migrate` with the same flags.

    migrate.py [--runs N] [--net bridge|ovs] [--json FILE]

total: the agent has the request until both hosts are clean (its timeline), virsh: the command alone, its destination prepared beforehand and
nothing cleaned up. First byte: until QEMU's first copy of disk or memory runs. Reaction: libvirt's last event of the source's domain (stopped) until the
call has returned in the agent, where the post steps begin (virsh: until the command has ended). The adaptive policy measures the dirty rate
and waits for it where it may decide something (docs/CONVERGENCE.md), the stepped one (Nova's) does neither: both are shown. nova-compute: openstack.py.
"""
import sys

import moves
from figures import Row, column, in_turn, main

RUNS, FEW = 12, 3
POLICIES = ('stepped', 'adaptive')


def one(lab, guest, system):
    r = moves.run(lab, guest, system, () if system == moves.VIRSH else (f'policy={system}',))
    print(f'{system:9} {r["total_ms"]:6.0f} ms, first byte after {r["first_byte_ms"]:5.0f} ms' + (
        f', reaction {r["reaction_ms"]:5.1f} ms' if r['reaction_ms'] is not None else ''), flush=True)
    return r


def rows_of(policy, ours, virsh):
    allowed = 100 + 0.02 * (sum(column(virsh, 'total_ms')) / max(len(virsh), 1))
    return [Row('1', f'{policy}: total', column(ours, 'total_ms'), column(virsh, 'total_ms'), 'ms', 0, wants=[('median difference', round(allowed))]),
            Row('2', f'{policy}: until the first byte', column(ours, 'first_byte_ms'), column(virsh, 'first_byte_ms'), 'ms', 0,
                wants=[('ratio', 1.3), ('median', 250)]),
            Row('3', f'{policy}: reaction to the end', column(ours, 'reaction_ms'), column(virsh, 'reaction_ms'), 'ms', 1,
                wants=[('median', 3), ('p99', 20)])]


def measure(args):
    with moves.bench_lab(args.net) as lab:
        guest, systems = lab.guest('idle', memory_mb=256, fill=32), (*POLICIES, moves.VIRSH)
        for system in systems:  # warm-up, not counted
            one(lab, guest, system)
        found = in_turn(args.runs, systems, lambda system: one(lab, guest, system))
    return [row for policy in POLICIES for row in rows_of(policy, found[policy], found[moves.VIRSH])]


if __name__ == '__main__':
    main(sys.modules['__main__'])
