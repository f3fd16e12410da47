#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goals 11 and 12: guests that dirty memory at 0.5, 0.9, 1.5 and 3 times the link, against `virsh migrate --auto-converge` as it is.

    convergence.py [--runs N] [--times 0.5,0.9,1.5,3] [--mbit RATE] [--deadline SECONDS] [--json FILE]

The link is shaped (tbf), its rate is known to the agents from a first migration. "Throttling" is the integral of the throttle's share over
the time, from libvirt's statistics of either system, and the pause. Then the ways out without auto-converge: each must end by the deadline.
virsh's downtime limit is QEMU's 300 ms; ours may go to 500 ms, the default.
"""
import statistics
import subprocess
import sys
import time

import moves
from figures import LabError, Row, column, in_turn, main

RUNS, FEW = 2, 1
OURS = 'computed'
WAY_OUT_S = 15  # deadline; the first pass over memory alone takes half of it
SETTINGS = {  # the ways out that an operator may choose, without auto-converge
    'abort': ('action=abort', 'auto_converge=false'),
    'force_complete': ('action=force_complete', 'auto_converge=false'),
    'post-copy': ('action=abort', 'auto_converge=false', 'post_copy=true'),
}


def options(p):
    p.add_argument('--times', default='0.5,0.9,1.5,3')
    p.add_argument('--mbit', type=int, default=128)
    p.add_argument('--deadline', type=int, default=60, help='seconds that a migration may take')
    p.add_argument('--limit', type=int, default=150, help='seconds after which virsh is given up, and counted so')


# --- what is inflicted ------------------------------------------------------------------------------


def throttle(host, guest):
    """Share of its CPU time that the guest is denied at present."""
    text = host.virsh('domjobinfo', guest.name, check=False)
    line = next((line for line in text.splitlines() if line.startswith('Auto converge throttle:')), None)
    return int(line.split()[-1]) / 100 if line else 0.0


def integrate(host, guest, process, limit):
    """The integral of the throttle until the process ends; kills it at the limit (seconds), which gives None."""
    total, before, end = 0.0, time.monotonic(), time.monotonic() + limit
    while process.poll() is None:
        share = throttle(host, guest)
        time.sleep(0.25)
        now = time.monotonic()
        total, before = total + share * (now - before), now
        if now > end:
            process.terminate()
            return None
    return total


def virsh(lab, guest, source, to, limit):
    with moves.virsh_process(lab, guest, source, to, *moves.FLAGS) as (process, begun):
        throttled = integrate(lab.hosts[source], guest, process, limit)
        seconds = time.time() - begun
        if throttled is not None and process.returncode:
            raise LabError(f'virsh: {process.stderr.read()}')
    if throttled is None:
        lab.hosts[source].virsh('domjobabort', guest.name, check=False)
        raise LabError(f'virsh had not ended after {limit} s')
    moves.remove_tree(lab.hosts[source].path(guest.dir))
    return seconds, throttled


def computed(lab, guest, source, to, settings):
    agent = lab.agents[source]
    command = [moves.program('computectl'), 'migrate', guest.uuid, '--to', to, '--wait', '--interval', '0.2', *settings]
    process = subprocess.Popen(agent.host.command(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    throttled = integrate(agent.host, guest, process, 600)
    record = moves.account(agent, guest)
    at = moves.stamps(record, source)
    return at['ended'] - at['accepted'], throttled, record


def one(lab, guest, system, args):
    source, asked, record = guest.where()[0], time.time(), None
    to = moves.other(source)
    if system == OURS:
        seconds, throttled, record = computed(lab, guest, source, to, (f'timeout={args.deadline}', 'action=force_complete'))
    else:
        seconds, throttled = virsh(lab, guest, source, to, args.limit)
    paused = moves.pause(moves.moments(lab, guest, source, to, asked))['pause_ms'] / 1000
    print(f'  {system:9} {seconds:6.1f} s, throttled {throttled:5.1f} s, pause {paused * 1000:6.1f} ms'
          + (f': {"; ".join(record["result"]["actions"])}' if record else ''), flush=True)
    return {'seconds': seconds, 'inflicted': throttled + paused, 'late': int(seconds > args.deadline + 5) if record else None}


def way_out(lab, guest, name, deadline):
    """Whether a guest that never converges ended in that way; the seconds it took."""
    source = guest.where()[0]
    record = moves.by_computed(lab, guest, source, moves.other(source), (f'timeout={deadline}', *SETTINGS[name]), check=False)
    at, actions = moves.stamps(record, source), ' / '.join(record['result']['actions'])
    ended = {'abort': record['status'] == 'cancelled', 'force_complete': record['status'] == 'completed' and 'paused until' in actions,
             'post-copy': record['status'] == 'completed' and 'post-copy' in actions}[name]
    seconds = at['ended'] - at['accepted']
    print(f'  {name}: {record["status"]} after {seconds:.1f} s, deadline {deadline} s: {actions}', flush=True)
    guest.rate(dirty=0)
    guest.rate(dirty=guest.dirties)
    return ended, seconds


# --- the command ------------------------------------------------------------------------------------


def rows_of(times, found, deadline):
    ours, peer = found[OURS], found[moves.VIRSH]
    fast = float(times) > 1  # a guest that converges by itself leaves nothing to win
    inflicted = column(ours, 'inflicted'), column(peer, 'inflicted')
    return [Row('11', f'{times} x the link: time', column(ours, 'seconds'), column(peer, 'seconds'), 's', wants=[('ratio', 0.55)] if fast else []),
            Row('12', f'{times} x the link: throttling', *inflicted, 's', 2, wants=[('ratio', 0.45)] if fast else []),
            Row('11', f'{times} x the link: ended after {deadline} s (+ 5)', column(ours, 'late'), wants=[('most', 0)], of=statistics.fmean)]


def make_guest(lab, mbit):
    link = mbit / 8.388  # MiB/s
    guest = lab.guest('dirty', memory_mb=128, hot_set=round(1.5 * link), fill=16)
    guest.dirties = 0
    moves.run(lab, guest, moves.VIRSH)
    moves.run(lab, guest, OURS)  # teaches the agent of this host the link's rate,
    moves.run(lab, guest, OURS)  # and the other one
    return guest, link


def measure(args):
    rows = []
    with moves.bench_lab(args.net, args.mbit) as lab:
        guest, link = make_guest(lab, args.mbit)
        for times in args.times.split(','):
            guest.dirties = round(float(times) * link)
            guest.rate(dirty=guest.dirties)
            print(f'{times} times the link: {guest.dirties} MiB/s', flush=True)
            found = in_turn(args.runs, (OURS, moves.VIRSH), lambda system: one(lab, guest, system, args))
            rows += rows_of(times, found, args.deadline)
        for name in SETTINGS:
            ended, seconds = way_out(lab, guest, name, WAY_OUT_S)
            rows.append(Row('11', f'{times} x the link, deadline {WAY_OUT_S} s: {name}' + ('' if ended else ' (did not end so)'), [seconds], unit='s',
                            wants=[('most', WAY_OUT_S + 10 if ended else 0)]))
    return rows


if __name__ == '__main__':
    main(sys.modules['__main__'])
