#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goal 14: from a cancel to a guest that runs on at the source and nothing left elsewhere, against `virsh domjobabort`.

    cancel.py [--runs N] [--json FILE]

Each round cancels at the same moments of the same copy, by both systems in turn: while the destination's QEMU starts, while the disks are
copied, and while memory is. computed alone has three moments more: queued, the destination prepares itself, the dirty rate is measured.
They count for its p99, not for the ratio. There is no cancel in the pause: QEMU 7.2 may die of one, guest and all, so computed lets the
pause have its outcome. A cancel that comes when the guest is moving already is made again.

Both clocks start with the exec of the command (computectl abort, virsh domjobabort) and end when the guest's QEMU and its directory are gone
from the destination and, for computed, both journals are empty: its record of the end is saved by then. What virsh has not got to do: it
keeps no journal and no account, has no port bindings, allocations and other agent to tell, and does not remove the disks that were made for
it at the destination, which the benchmark does for it, at no cost but that of the removal, as soon as `virsh migrate` has ended. Leftovers
are looked for by a scan of both hosts.
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
from namespaces import start_time
from scenarios import newest

RUNS, FEW = 10, 3
OURS = 'computed'
MIB_S = 8  # slow enough to be caught on the way
SHARED = ('starting', 'disks', 'memory')
ONLY_OURS = ('queued', 'preparing', 'measuring')
LATE = 5  # tries
PARTS = (('taken', 'cancel: asked until libvirt takes it'), ('libvirt', "cancel: until libvirt's call has ended"),
         ('source', 'cancel: from then until the source is clean'), ('destination', 'cancel: from then until the destination is clean'))


class TooLate(Exception):
    """The guest has moved, or is about to."""


# --- the moment -------------------------------------------------------------------------------------


def event_of(lab, guest, source, name, since):
    return moves.first(moves.qemu_events(lab.hosts[source], guest.name, since), name)


def strangers(guest, qemu):
    return set(guest.qemu_pids()) - {qemu}


def wait_for(lab, guest, moment, source, to, qemu, since, rng):
    """Waits until the migration is there."""
    there = lab.hosts[to].path(guest.dir)
    test, after = {
        'queued': (lambda: newest(lab.agents[source], guest)['phase'] == 'queued', 0.2),
        'preparing': (lambda: os.path.exists(there), 0.02),
        'measuring': (lambda: os.path.exists(f'{there}/console.log'), 0.7),
        'starting': (lambda: strangers(guest, qemu), 0.05),
        'disks': (lambda: event_of(lab, guest, source, 'JOB_STATUS_CHANGE running', since), 1.0),
        'memory': (lambda: event_of(lab, guest, source, 'active', since), 1.0),
    }[moment]
    wait_until(60, f'moment "{moment}"', test, 0.002)
    time.sleep(rng.uniform(0, after))


# --- one cancel -------------------------------------------------------------------------------------


def begin(lab, guest, system, source, to):
    """Starts the migration; virsh's is a process that lasts as long."""
    if system == OURS:
        lab.agents[source].computectl('migrate', guest.uuid, '--to', to, f'bandwidth={MIB_S}')
        return None
    moves.prepare_destination(guest, lab.hosts[source], lab.hosts[to])
    return subprocess.Popen(lab.hosts[source].command(lab.virsh_command(guest, to, *moves.FLAGS, '--bandwidth', str(MIB_S))),
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def records(host, guest):
    """The journal's records that name the guest."""
    found = []
    for directory, _, files in os.walk(host.path('/var/lib/computed/journal')):
        for name in files:
            try:
                with open(os.path.join(directory, name)) as f:
                    if guest.uuid in f.read():
                        found.append(name)
            except FileNotFoundError:
                pass
    return found


def ask(lab, guest, system, source):
    """(unix time at which it was asked for, when the command came back)."""
    command = [moves.program('computectl'), 'abort', guest.uuid] if system == OURS else ['virsh', '-q', '-c', 'qemu:///system', 'domjobabort', guest.name]
    asked = time.time()
    r = lab.hosts[source].run(command, check=False)
    back = time.time()
    if r.returncode:
        raise TooLate(r.stderr.strip())
    return asked, back


def watch(lab, guest, source, to, there, process):
    """{what: unix time since when it is so}, when all is."""
    here, host = lab.hosts[source], lab.hosts[to]
    directory = host.path(guest.dir)
    gone = {'qemu': lambda: not any(start_time(pid) for pid in there)}
    if process:
        gone['ended'] = lambda: process.poll() is not None
    else:
        gone.update(source=lambda: not records(here, guest), journal=lambda: not records(host, guest), files=lambda: not os.path.exists(directory))
    found = {}

    def all_gone():
        if not os.path.exists(here.path(guest.dir)) or process and process.poll() == 0:
            raise TooLate('it has moved')
        for what in [w for w in gone if w not in found]:
            if gone[what]():
                found[what] = time.time()
        return len(found) == len(gone)
    wait_until(60, 'end of what was cancelled', all_gone, 0.002)
    if process:
        remove_tree(directory)
        found['files'] = time.time()
    return found


def parts(asked, taken, ended, found):
    """The time line of a cancel; without libvirt (not yet called) there are no parts."""
    source, destination = found.get('source', found.get('ended')), max(found[w] for w in ('qemu', 'files', 'journal') if w in found)
    row = {'ms': max(source, destination) - asked}
    if taken and ended:
        row.update(taken=taken - asked, libvirt=ended - taken, source=max(0.0, source - ended), destination=max(0.0, destination - ended))
    return {k: v * 1000 for k, v in row.items()}


def freed(lab, guest, source, asked):
    """When the source's QEMU was rid of the migration: its last event of it."""
    events = [at for name, at in moves.qemu_events(lab.hosts[source], guest.name, asked)
              if name in ('cancelled', 'RESUME', 'BLOCK_JOB_CANCELLED', 'BLOCK_JOB_COMPLETED', 'JOB_STATUS_CHANGE null')]
    return {'free': (max(events) - asked) * 1000} if events else {}


def leftovers(lab, guest, source, to):
    """What a scan finds at the destination, and at the source beyond the guest."""
    there, here = lab.hosts[to].scan(), lab.hosts[source].scan()
    found = [what for what in (*there['files'], *there['instance_dirs'], *there['links'], *there.get('ovs_ports', ()), *[d[0] for d in there['domains']])
             if guest.uuid in what or what in guest.taps or what == guest.name]
    return found + records(lab.hosts[to], guest) + records(lab.hosts[source], guest) + \
        ([] if [guest.name, 'running'] in here['domains'] else ['the guest does not run at the source'])


def cancel(lab, guest, system, moment, rng):
    source = guest.where()[0]
    to, (qemu,), since = moves.other(source), guest.qemu_pids(), time.time()
    process = begin(lab, guest, system, source, to)
    try:
        wait_for(lab, guest, moment, source, to, qemu, since, rng)
        there = strangers(guest, qemu) if moment in SHARED else set()
        asked, taken = ask(lab, guest, system, source)
        found = watch(lab, guest, source, to, there, process)
    finally:
        if process:
            process.kill()
            process.wait()
    ended = found.get('ended')
    if system == OURS:
        record = moves.account(lab.agents[source], guest)
        at = moves.stamps(record, source)
        taken, ended = at.get('abort_taken'), at.get('returned')
        if record['status'] != 'cancelled':
            raise LabError(f'computed: {record["status"]}: {record["message"]}')
    row = {'moment': moment, **parts(asked, taken, ended, found), **freed(lab, guest, source, asked)}
    left = leftovers(lab, guest, source, to)
    print(f'{system:9} {moment:9} ' + ' '.join(f'{k} {v:4.0f}' for k, v in row.items() if k != 'moment') + (f', left: {left}' if left else ''), flush=True)
    return {**row, 'left': len(left)}


def back(lab, guest, home):
    """Ends what is under way, and brings the guest home if it has moved."""
    wait_until(60, 'end of a cancel that came too late', lambda: len(guest.where()) == 1 and not any(records(h, guest) for h in lab.hosts.values()), 0.05)
    remove_tree(lab.hosts[moves.other(guest.where()[0])].path(guest.dir))
    if guest.where() != [home]:
        moves.by_computed(lab, guest, guest.where()[0], home)


def at_moment(lab, guest, system, moment, rng):
    home = guest.where()[0]
    for _ in range(LATE):
        try:
            return cancel(lab, guest, system, moment, rng)
        except TooLate as e:
            print(f'{system:9} {moment:9} too late: {e}', flush=True)
            back(lab, guest, home)
    raise LabError(f'{system}: no cancel in time at "{moment}"')


# --- rounds -----------------------------------------------------------------------------------------


def queued(lab, guest, holder, rng):
    """Another migration has the place."""
    source = guest.where()[0]
    agent = lab.agents[source]
    agent.computectl('migrate', holder.uuid, '--to', moves.other(source), 'bandwidth=1')
    agent.wait_end(holder, 60, statuses=('running',))
    try:
        return at_moment(lab, guest, OURS, 'queued', rng)
    finally:
        agent.computectl('abort', holder.uuid)
        agent.wait_end(holder, 60)


def one(lab, guest, holder, system, rng):
    found = [at_moment(lab, guest, system, moment, rng) for moment in SHARED]
    if system == OURS:
        found += [at_moment(lab, guest, system, moment, rng) for moment in ONLY_OURS if moment != 'queued']
        found.append(queued(lab, guest, holder, rng))
    return found


def flat(rounds, moments=SHARED):
    return [r for found in rounds for r in found if r['moment'] in moments]


def measure(args):
    with moves.bench_lab(args.net) as lab:
        guest, rng = lab.guest('cancelled', memory_mb=128, fill=40, hot_set=8, dirty=1, disk_hot=16, disk_rate=16), random.Random(14)
        time.sleep(3)
        guest.rate(disk=1)
        holder = lab.guest('holder', memory_mb=128, fill=40)
        found = in_turn(args.runs, (OURS, moves.VIRSH), lambda system: one(lab, guest, holder, system, rng))
        if not guest.verify()['ok']:
            raise LabError('the guest was damaged')
    ours, virsh = found[OURS], found[moves.VIRSH]
    rows = [Row('14', 'cancel until clean', column(flat(ours), 'ms'), column(flat(virsh), 'ms'), 'ms', 0, wants=[('ratio', 1.2)]),
            Row('14', 'cancel until clean, at any moment', column(flat(ours, SHARED + ONLY_OURS), 'ms'), unit='ms', digits=0, wants=[('p99', 200)]),
            Row('14', 'things left by a cancel, mean', column(flat(ours, SHARED + ONLY_OURS), 'left'), column(flat(virsh), 'left'),
                of=statistics.fmean, wants=[('most', 0)])]
    rows += [Row('14', f'cancel while {moment}', column(flat(ours, (moment,)), 'ms'), column(flat(virsh, (moment,)), 'ms'), 'ms', 0)
             for moment in SHARED + ONLY_OURS]
    rows.append(Row('14', 'cancel: until QEMU is rid of it', column(flat(ours), 'free'), column(flat(virsh), 'free'), 'ms', 0))
    return rows + [Row('14', what, column(flat(ours), key), column(flat(virsh), key), 'ms', 0) for key, what in PARTS]


if __name__ == '__main__':
    main(sys.modules['__main__'])
