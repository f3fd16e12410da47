#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Migration benchmark: computed against bare `virsh migrate` with the same flags, in one interleaved run.

    migrate.py [--rounds N] [--net bridge|ovs] [--memory MIB] [--dirty MIB/S] [--only virsh|computed]
               [--idle SECONDS] [--json FILE]

Each round moves the same guest once with each system, in alternating order, while the 1 kHz probe runs:
total time (of the command), longest gap between two answers, packets lost, longest pause of the guest's own
1 ms ticks. No round is left out; rounds in which the probe itself was late by more than 20 ms are marked.
Ratios are paired by round, with a bootstrap 95 % interval of their median. Then the agent's memory
(PSS of all its processes) and idle CPU.
"""
import argparse
import json
import os
import random
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lab'))
from lab import Lab, LabError  # noqa: E402

FIGURES = [('total_s', 's', 3), ('gap_ms', 'ms', 1), ('lost', '', 0), ('tick_gap_ms', 'ms', 1)]


def one(lab, guest, system):
    """Moves the guest to the other host; the figures of that migration."""
    source = guest.where()[0]
    to = 'hostb' if source == 'hosta' else 'hosta'
    with guest.probe(ticks=True) as probe:
        time.sleep(0.5)
        t0 = time.time()
        if system == 'virsh':
            seconds = lab.virsh_migrate(guest, to, '--auto-converge', '--copy-storage-synchronous-writes')
        else:
            t = time.monotonic()
            lab.agents[source].migrate(guest, to)
            seconds = time.monotonic() - t
        time.sleep(0.7)
    if guest.where() != [to]:
        raise LabError(f'{system}: the guest is on {guest.where()}, not on {to}')
    r = probe.result
    return {'system': system, 'to': to, 'total_s': seconds, 'gap_ms': r['gap_ms'], 'lost': r['lost'], 'sent': r['sent'],
            'tick_gap_ms': r['tick_gap_ms'], 'gap_at_s': r['gap_at_s'] - (t0 - r['start_unix']), 'late_ms': r['late_ms']}


def interval(values, rounds=2000):
    """Bootstrap 95 % interval of the median, with a fixed seed."""
    rng = random.Random(1)
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(rounds))
    return medians[int(rounds * 0.025)], medians[int(rounds * 0.975)]


def p95(values):
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


def report(runs, systems):
    print(f'\n{"figure":14}' + ''.join(f'{s + " median":>18}{"p95":>10}' for s in systems)
          + (f'{"ratio":>10}  95 % interval' if len(systems) == 2 else ''))
    for key, unit, digits in FIGURES:
        by = {s: [r[key] for r in runs if r['system'] == s] for s in systems}
        line = f'{key:14}' + ''.join(f'{statistics.median(by[s]):>18.{digits}f}{p95(by[s]):>10.{digits}f}' for s in systems)
        if len(systems) == 2:
            ratios = [a / b for a, b in zip(by['computed'], by['virsh']) if b]
            if ratios:
                low, high = interval(ratios)
                line += f'{statistics.median(ratios):>10.2f}  {low:.2f} .. {high:.2f}'
        print(line)
    if len(systems) == 2:
        by = {s: [r['total_s'] * 1000 for r in runs if r['system'] == s] for s in systems}
        more = [a - b for a, b in zip(by['computed'], by['virsh'])]
        low, high = interval(more)
        print(f'total_s, computed less virsh: median {statistics.median(more):.0f} ms, 95 % interval {low:.0f} .. {high:.0f} ms (goal: 300 ms at most)')


def idle(lab, seconds):
    figures = {}
    for name, agent in lab.agents.items():
        before = agent.cpu_seconds()
        time.sleep(seconds)
        figures[name] = {'pss_mib': agent.pss_kib() / 1024, 'cpu_s_per_minute': (agent.cpu_seconds() - before) * 60 / seconds}
        print(f'{name}: PSS {figures[name]["pss_mib"]:.1f} MiB, idle CPU {figures[name]["cpu_s_per_minute"]:.3f} s a minute')
    return figures


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--rounds', type=int, default=15)
    p.add_argument('--net', choices=('bridge', 'ovs'), default='bridge')
    p.add_argument('--memory', type=int, default=256)
    p.add_argument('--dirty', type=int, default=0)
    p.add_argument('--only', choices=('virsh', 'computed'))
    p.add_argument('--idle', type=int, default=60)
    p.add_argument('--json')
    args = p.parse_args()
    systems = [args.only] if args.only else ['computed', 'virsh']
    lab, runs, quiet = Lab(f'bench{os.getpid()}'), [], None
    try:
        lab.up(net=args.net)
        if 'computed' in systems:
            for h in lab.hosts:
                lab.agent(h)
        guest = lab.guest('bench', memory_mb=args.memory, hot_set=16, dirty=args.dirty, fill=32)
        for s in systems:  # warm-up: there and back, not counted
            one(lab, guest, s)
        for i in range(args.rounds):
            for s in systems if i % 2 == 0 else reversed(systems):
                r = one(lab, guest, s)
                runs.append(r)
                print(f'{i + 1:3} {s:9} to {r["to"]}: {r["total_s"]:6.2f} s, gap {r["gap_ms"]:6.1f} ms at {r["gap_at_s"]:5.2f} s, '
                      f'lost {r["lost"]:4} of {r["sent"]}, guest paused {r["tick_gap_ms"]:6.1f} ms'
                      + (f'  (probe late by {r["late_ms"]:.0f} ms)' if r['late_ms'] > 20 else ''), flush=True)
        checked = guest.verify()
        if not checked['ok']:
            raise LabError(f'the guest was damaged: {checked}')
        print(f'guest verified: {checked["memory_bytes"] >> 20} MiB of memory, {checked["disk_bytes"] >> 20} MiB of disk; load {os.getloadavg()}')
        report(runs, systems)
        guest.destroy()
        if lab.agents and args.idle:
            time.sleep(5)
            quiet = idle(lab, args.idle)
    finally:
        lab.down()
    if args.json:
        with open(args.json, 'w') as f:
            json.dump({'runs': runs, 'idle': quiet}, f, indent=1)


if __name__ == '__main__':
    try:
        main()
    except LabError as e:
        sys.exit(f'bench: {e}')
