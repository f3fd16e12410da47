#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goal 16: a guest with three disks that writes to them all the time is moved with its disks, against bare virsh with the same flags.

    storage.py [--runs N] [--write MIB/S] [--json FILE]

The writer asks for so many MiB a second on each disk; what it reached is printed, an emulated guest does not do all of it. The guest's
latency of writing is not measured.
"""
import sys

import moves
from figures import LabError, Row, column, in_turn, main

RUNS, FEW = 5, 2
OURS = 'computed'
DISKS = ({'name': 'disk.swap', 'format': 'raw', 'mib': 64}, {'name': 'disk.eph0', 'format': 'qcow2', 'mib': 64})


def options(p):
    p.add_argument('--write', type=int, default=17, help='MiB/s on each of the three disks')


def written(guest):
    """MiB written so far, and the guest's milliseconds."""
    status = guest.status()
    return sum(d['block_writes'] for d in status['disks']) / 16, status['uptime_ms']


def one(lab, guest, system):
    before = written(guest)
    r = moves.run(lab, guest, system)
    after = written(guest)
    r['rate'] = (after[0] - before[0]) / (after[1] - before[1]) * 1000
    print(f'{system:9} {r["total_ms"]:6.0f} ms, {r["rate"]:.0f} MiB/s written meanwhile, pause {r["pause_ms"]:.1f} ms', flush=True)
    return r


def measure(args):
    with moves.bench_lab(args.net) as lab:
        guest = lab.guest('writer', memory_mb=128, disks=DISKS, disk_rate=args.write, disk_hot=16)
        for system in (OURS, moves.VIRSH):
            one(lab, guest, system)
        found = in_turn(args.runs, (OURS, moves.VIRSH), lambda system: one(lab, guest, system))
        guest.rate(disk=0)
        if not guest.verify()['ok']:
            raise LabError('the guest was damaged')
    ours, virsh = found[OURS], found[moves.VIRSH]
    return [Row('16', 'three disks, written to: total', column(ours, 'total_ms'), column(virsh, 'total_ms'), 'ms', 0, wants=[('ratio', 0.9)]),
            Row('16', '– written meanwhile, MiB/s', column(ours, 'rate'), column(virsh, 'rate'), digits=0)]


if __name__ == '__main__':
    main(sys.modules['__main__'])
