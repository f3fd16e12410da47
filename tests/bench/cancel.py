#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goal 14: from a cancel at a random moment to a guest that runs on at the source and nothing left elsewhere, against `virsh domjobabort`.

    cancel.py [--runs N] [--json FILE]

Both clocks start with the exec of the command (computectl abort, virsh domjobabort). virsh's ends when `virsh migrate` has ended and the
destination has no QEMU of the guest, ours when it has neither that nor the guest's directory and both journals are empty (virsh leaves the
directory, which is not counted). Leftovers are looked for by a scan of both hosts.
"""
import os
import random
import statistics
import subprocess
import sys
import time

import moves
from figures import LabError, Row, column, in_turn, main
from lab import remove_tree, wait_until

RUNS, FEW = 20, 3
OURS = 'computed'
MIB_S = 8  # slow enough to be caught on the way


def gone(lab, guest, source, host, qemu, process):
    """Whether it is over and nothing of the guest is at the destination. process: virsh; for computed what its agents made counts instead."""
    if set(guest.qemu_pids()) - {qemu}:
        return False
    if process:
        return process.poll() is not None
    journals = [h.path('/var/lib/computed/journal') for h in (lab.hosts[source], host)]
    return not os.path.exists(host.path(guest.dir)) and not any(f for j in journals for _, _, files in os.walk(j) for f in files)


def begin(lab, guest, system, source, to):
    """The command that migrates, as a process."""
    src = lab.hosts[source]
    if system == OURS:
        command = [moves.program('computectl'), 'migrate', guest.uuid, '--to', to, '--wait', '--interval', '0.5', f'bandwidth={MIB_S}']
        return subprocess.Popen(src.command(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    moves.prepare_destination(guest, src, lab.hosts[to])
    return subprocess.Popen(src.command(lab.virsh_command(guest, to, *moves.FLAGS, '--bandwidth', str(MIB_S))), stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)


def cancel(lab, guest, system, source):
    """Cancels; again while there is nothing yet that could be cancelled. Gives the moment of the command that was taken."""
    command = [moves.program('computectl'), 'abort', guest.uuid] if system == OURS else ['virsh', '-q', '-c', 'qemu:///system', 'domjobabort', guest.name]
    for _ in range(100):
        asked = time.monotonic()
        if lab.hosts[source].run(command, check=False).returncode == 0:
            return asked
        time.sleep(0.02)
    raise LabError(f'{system}: the migration cannot be cancelled')


def leftovers(lab, guest, source, to):
    """What a scan finds at the destination, and at the source beyond the guest."""
    there, here = lab.hosts[to].scan(), lab.hosts[source].scan()
    found = [what for what in (*there['files'], *there['instance_dirs'], *there['links'], *there.get('ovs_ports', ()), *[d[0] for d in there['domains']])
             if guest.uuid in what or what in guest.taps or what == guest.name]
    return found + there['journal'] + here['journal'] + ([] if [guest.name, 'running'] in here['domains'] else ['the guest does not run at the source'])


def one(lab, guest, system, rng):
    source = guest.where()[0]
    to, (qemu,) = moves.other(source), guest.qemu_pids()
    process = begin(lab, guest, system, source, to)
    try:
        time.sleep(rng.uniform(0.0, 3.0))
        asked = cancel(lab, guest, system, source)
        wait_until(60, 'end of what was cancelled', lambda: gone(lab, guest, source, lab.hosts[to], qemu, None if system == OURS else process), 0.005)
        ms = (time.monotonic() - asked) * 1000
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    if system != OURS:
        remove_tree(lab.hosts[to].path(guest.dir))
    left = leftovers(lab, guest, source, to)
    print(f'{system:9} cancelled in {ms:6.0f} ms' + (f', left: {left}' if left else ''), flush=True)
    return {'ms': ms, 'left': len(left)}


def measure(args):
    with moves.bench_lab(args.net) as lab:
        guest, rng = lab.guest('cancelled', memory_mb=128, fill=40, hot_set=8, dirty=1), random.Random(14)
        found = in_turn(args.runs, (OURS, moves.VIRSH), lambda system: one(lab, guest, system, rng))
        if not guest.verify()['ok']:
            raise LabError('the guest was damaged')
    ours, virsh = found[OURS], found[moves.VIRSH]
    return [Row('14', 'cancel until clean', column(ours, 'ms'), column(virsh, 'ms'), 'ms', 0, wants=[('ratio', 1.2), ('p99', 200)]),
            Row('14', 'things left by a cancel, mean', column(ours, 'left'), column(virsh, 'left'), of=statistics.fmean, wants=[('most', 0)])]


if __name__ == '__main__':
    main(sys.modules['__main__'])
