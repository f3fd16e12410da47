#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goals 5 and 6: frames lost, overtaken, repeated and the longest silence while a guest changes hosts, against bare virsh.

    switchover.py [--runs N] [--net bridge|ovs] [--modes hold,announce,...] [--rates 1000,10000] [--json FILE]

Each round moves the same guest once with each mode of [net] switchover and with virsh, at each rate. Up to 4000 a second the guest
answers each datagram (lost: no answer; gap: longest silence between answers). The emulated guest does not answer more; above, it
counts what arrives, one way, which has no gap. Lost "at the pause": sent less than 0.1 s before it, in it or less than 0.5 s behind
it; the others were lost to a guest (or switch) that did not keep up with the rate while memory was copied.
"""
import statistics
import sys
import time

import moves
from figures import Row, column, in_turn, main

RUNS, FEW = 20, 2
ANSWERED = 4000  # a second: what the emulated guest can answer
WANTED = {  # of lost; of what came in another order; of the gap
    'hold': ([('most', 0)], [('most', 0)], [('ratio', 1.0), ('median', 130)]),
    'announce': ([('ratio', 0.05), ('median', 5)], [], [('ratio', 1.0)]),
}


def options(p):
    p.add_argument('--modes', default='hold,announce,off')
    p.add_argument('--rates', default='1000,10000')


def at_pause(trace, probe, at):
    """[(sequence, lost)] of what was sent at the pause."""
    begin, end = (t - probe['start_unix'] for t in (at['stop'] - 0.1, at['resume'] + 0.5))
    with open(trace) as f:
        lines = (line.split() for line in f)
        return [(int(n), received == '-1') for n, sent, received in lines if begin <= int(sent) / 1e6 <= end]


def answered(lab, guest, system, rate):
    trace = f'{lab.dir}/trace'
    with guest.probe(interval_us=1000000 // rate, trace=trace) as p:
        time.sleep(0.3)
        seen = moves.run(lab, guest, system)
        time.sleep(0.7)
    return {**seen, **{k: p.result[k] for k in ('sent', 'lost', 'duplicated', 'reordered', 'gap_ms', 'late_ms')},
            'lost_at_pause': sum(lost for _, lost in at_pause(trace, p.result, seen['at']))}


def counted(lab, guest, system, rate):
    trace = f'{lab.dir}/trace'
    guest.command('count reset=1')
    with guest.probe(one_way=True, interval_us=1000000 // rate, size=16, trace=trace) as p:
        time.sleep(0.3)
        seen = moves.run(lab, guest, system)
        time.sleep(0.7)
    time.sleep(0.5)
    sent = at_pause(trace, p.result, seen['at'])
    got = guest.command(f'count from={sent[0][0]} to={sent[-1][0] + 1}')
    return {**seen, 'sent': p.result['sent'], 'lost': p.result['sent'] - got['received'], 'late_ms': p.result['late_ms'],
            'lost_at_pause': got['missing'], **{k: got[k] for k in ('duplicated', 'reordered')}, 'gap_ms': None}


def one(lab, guest, system, rate):
    mode, rate = system, int(rate)
    if mode != moves.VIRSH:
        moves.configure(lab, net={'switchover': mode})
    r = (answered if rate <= ANSWERED else counted)(lab, guest, system, rate)
    did = r['record']['result']['switchover']['mode'] if r['record'] else moves.VIRSH
    print(f'{rate:6}/s {system:9} {r["sent"]:6} sent, lost {r["lost"]:4} ({r["lost_at_pause"]} at the pause), '
          f'reordered {r["reordered"]:3}, duplicated {r["duplicated"]:3}, pause {r["pause_ms"]:6.1f} ms'
          + (f', gap {r["gap_ms"]:6.1f} ms' if r['gap_ms'] else '') + (f', probe late by {r["late_ms"]:.0f} ms' if r['late_ms'] > 20 else '')
          + ('' if did == system else f', done as {did}'), flush=True)
    return r


def rows_of(mode, rate, ours, virsh):
    lost, order, gap = WANTED.get(mode, ([], [], []))
    name = f'at {rate}/s, {mode}'

    def count(what, key, wants=()):
        return Row('6', f'{what} {name}, mean', column(ours, key), column(virsh, key), of=statistics.fmean, wants=wants)
    rows = [count('frames lost', 'lost', lost), count('– at the pause', 'lost_at_pause', lost)]
    if order:
        rows += [count('overtaken', 'reordered', order), count('repeated', 'duplicated', [('mean', 3)])]
    if column(ours, 'gap_ms'):
        rows.append(Row('5', f'longest gap {name}', column(ours, 'gap_ms'), column(virsh, 'gap_ms'), 'ms', wants=gap))
    return rows


def measure(args):
    rates, modes = args.rates.split(','), args.modes.split(',')
    systems = [*modes, moves.VIRSH]
    with moves.bench_lab(args.net) as lab:
        guest = lab.guest('probed', memory_mb=128)
        for system in systems:  # warm-up, not counted; under the probe, as the guest stumbles over the first frames of its life
            one(lab, guest, system, rates[0])
        found = in_turn(args.runs, [(s, r) for r in rates for s in systems], lambda what: one(lab, guest, *what))
    return [row for rate in rates for mode in modes for row in rows_of(mode, rate, found[mode, rate], found[moves.VIRSH, rate])]


if __name__ == '__main__':
    main(sys.modules['__main__'])
