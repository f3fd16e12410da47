#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goal 13: how often what is told during a migration comes true: the time left at a quarter of the way, the pause in the last pass.

    prediction.py [--runs N] [--times 0,0.5,0.9,1.5] [--mbit RATE] [--with SETTING,SETTING] [--looks FILE] [--json FILE]

Guests that dirty memory at so many times the link are moved over a shaped link, and the agent is asked every 0.2 s. The way goes from
the call of libvirt to the job's end. A hit: within 20 % of the time, 30 % of the pause; what is not told is no hit. With each figure the ends
are told between which it is expected in four of five cases; how often it was is told too. Neither virsh nor nova-compute tells anything to compare with.
"""
import json
import sys
import time

import convergence
import moves
from figures import Row, main

RUNS, FEW = 2, 1


def options(p):
    p.add_argument('--times', default='0,0.5,0.9,1.5')
    p.add_argument('--mbit', type=int, default=128)
    p.add_argument('--looks', help='a file that gets each look and each account, a line of JSON for each migration')
    p.add_argument('--with', dest='settings', default='', help="of computectl migrate, such as bandwidth=8,policy=stepped")


def watched(lab, guest, settings):
    """A migration as the agent told of it: ([(unix time, its account)], its moments, its real pause)."""
    source, looks, asked = guest.where()[0], [], time.time()
    agent, to = lab.agents[source], moves.other(source)

    def look(m):
        looks.append((time.time(), m))
        time.sleep(0.15)
    agent.computectl('migrate', guest.uuid, '--to', to, *settings)
    record = agent.wait_end(guest, 300, watch=look)
    if record['status'] != 'completed':
        raise moves.LabError(f'{record["status"]}: {record["message"]}')
    at = moves.stamps(moves.account(agent, guest), source)
    return looks, at, moves.pause(moves.moments(lab, guest, source, to, asked))['pause_ms']


def judged(m, key, unit, truth, whole):
    """(relative error, whether the truth lay between the ends) of one figure; 9 where nothing was told."""
    if m is None or m[key + unit] is None:
        return 9, False
    low, high = m[f'{key}_low{unit}'], m[f'{key}_high{unit}']
    return abs(m[key + unit] - truth) / whole, low is not None and low <= truth and (high is None or truth <= high)


def errors(looks, at, pause_ms):
    """Of the time left at a quarter of the way, against the whole time, and of the pause in the last pass."""
    begin, end = at['called'], at['job_completed']
    now, quarter = next(((now, m) for now, m in looks if now >= begin + (end - begin) / 4), (end, None))
    last = [m for now, m in looks if begin <= now < at['paused']]
    return (judged(quarter, 'time_left', '_ms', 1000 * (end - now), 1000 * (end - begin)),
            judged(last[-1] if last else None, 'expected_downtime', '_ms', pause_ms, pause_ms))


def measure(args):
    found = []
    with moves.bench_lab(args.net, args.mbit) as lab:
        guest, link = convergence.make_guest(lab, args.mbit)
        for times in args.times.split(','):
            guest.rate(dirty=round(float(times) * link))
            for _ in range(args.runs):
                looks, at, pause_ms = watched(lab, guest, [s for s in args.settings.split(',') if s])
                found.append(errors(looks, at, pause_ms))
                if args.looks:
                    with open(args.looks, 'a') as f:
                        f.write(json.dumps({'times': times, 'looks': looks, 'at': at, 'pause_ms': pause_ms, 'errors': found[-1]}) + '\n')
                print(f'{times} times the link: {at["ended"] - at["accepted"]:.1f} s, pause {pause_ms:.0f} ms; wrong by '
                      + ', '.join(f'{error:.0%} ({what}, {"" if within else "not "}between the ends)'
                                  for (error, within), what in zip(found[-1], ('time, at a quarter', 'pause'))), flush=True)
    rows = []
    for i, (what, most) in enumerate((('time left at a quarter', 20), ('pause in the last pass', 30))):
        missed, outside = ([int(e[i][0] > most / 100) for e in found], [int(not e[i][1]) for e in found])
        rows += [Row('13', f'{what}: share not within {most} %', missed, digits=2, of=lambda v: sum(v) / len(v), wants=[('mean', 0.1)]),
                 Row('13', f'{what}: share not between the ends', outside, digits=2, of=lambda v: sum(v) / len(v), wants=[('mean', 0.3)])]
    return rows


if __name__ == '__main__':
    main(sys.modules['__main__'])
