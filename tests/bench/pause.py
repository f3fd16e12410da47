#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goal 4: how long the guest stands still (QEMU's STOP at the source to its RESUME at the destination), against bare virsh.

    pause.py [--runs N] [--net bridge|ovs] [--memory MIB] [--dirty MIB/S] [--json FILE]

Same guest, same flags, in turn, without a probe. The pause is split at the states that QEMU tells.
"""
import sys

import moves
from figures import Row, column, in_turn, main

RUNS, FEW = 15, 3
OURS = 'computed'


def options(p):
    p.add_argument('--memory', type=int, default=256)
    p.add_argument('--dirty', type=int, default=0)


def one(lab, guest, system):
    r = moves.run(lab, guest, system)
    print(f'{system:9} pause {r["pause_ms"]:6.1f} ms: ' + ', '.join(f'{what} {r[what]:.1f}' for *_, what in moves.PARTS if r[what] is not None), flush=True)
    return r


def rows_of(found, what='the pause'):
    ours, virsh = found[OURS], found[moves.VIRSH]
    wants = [('ratio', 1.0), ('upper bound of the ratio', 1.05), ('median', 110)]
    rows = [Row('4', what, column(ours, 'pause_ms'), column(virsh, 'pause_ms'), 'ms', wants=wants)]
    return rows + [Row('4', f'– {part}', column(ours, part), column(virsh, part), 'ms') for *_, part in moves.PARTS]


def measure(args):
    with moves.bench_lab(args.net) as lab:
        guest = lab.guest('paused', memory_mb=args.memory, hot_set=16, dirty=args.dirty, fill=32)
        for system in (OURS, moves.VIRSH):
            moves.run(lab, guest, system)
        return rows_of(in_turn(args.runs, (OURS, moves.VIRSH), lambda system: one(lab, guest, system)))


if __name__ == '__main__':
    main(sys.modules['__main__'])
