#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goal 9: calls over the message bus to the agent, against a bare AMQP echo in C on the same host by the same client.

    calls.py [--runs N] [--calls N] [--at-once N] [--json FILE]

The call is `ping` (baseapi), which every service answers. Latency: one call at a time; rate: so many at once. The client is bare AMQP
as well, so that it is not what is measured; the echo sends the call's own bytes back and reads none of them.
"""
import statistics
import sys

import moves
from figures import LabError, Row, in_turn, main, percentile
from lab import ADDRESS
from namespaces import wait_until
from probes import build_c

RUNS, FEW = 10, 3
OURS, ECHO = 'computed', 'echo'


def options(p):
    p.add_argument('--calls', type=int, default=2000, help='of each kind in a round')
    p.add_argument('--at-once', type=int, default=50)


def one(lab, program, system, args):
    queue = {OURS: 'compute.hosta', ECHO: 'echo'}[system]

    def ask(at_once):
        text = lab.control.run([*program, 'ask', queue, str(args.calls), str(at_once)], timeout=120).stdout
        *times, total = text.splitlines()
        return [int(t) for t in times], int(total.removeprefix('total '))
    alone, crowd = ask(1)[0], ask(args.at_once)[1]
    r = {'median_ms': statistics.median(alone) / 1000, 'p99_ms': percentile(alone, 99) / 1000, 'rate': args.calls / crowd * 1e6}
    print(f'{system:9} {r["median_ms"]:.3f} ms, p99 {r["p99_ms"]:.3f} ms; {r["rate"]:.0f} calls/s', flush=True)
    return r


def measure(args):
    with moves.bench_lab(args.net) as lab:
        broker = lab.broker
        program = [build_c('../bench/rpc_echo.c', libraries=['rabbitmq']), ADDRESS['ctl'], str(broker.port), broker.user, broker.password]
        echo = lab.hosts['hosta'].spawn('echo', [*program, 'echo', 'echo'])
        wait_until(10, 'echo', lambda: 'ready' in echo.output())
        for system in (OURS, ECHO):  # warm-up, not counted
            one(lab, program, system, args)
        found = in_turn(args.runs, (OURS, ECHO), lambda system: one(lab, program, system, args))
        if not echo.alive():
            raise LabError(f'the echo ended: {echo.output()[-300:]}')
    ours, bare = found[OURS], found[ECHO]

    def added(key):
        return [o[key] - b[key] for o, b in zip(ours, bare)]
    return [Row('9', 'a call', [r['median_ms'] for r in ours], [r['median_ms'] for r in bare], 'ms', 3),
            Row('9', '– added to the echo', added('median_ms'), unit='ms', digits=3, wants=[('median', 0.3)]),
            Row('9', '– added to the echo, 99 of 100 calls', added('p99_ms'), unit='ms', digits=3, wants=[('median', 2)]),
            Row('9', f'calls a second, {args.at_once} at once', [r['rate'] for r in ours], [r['rate'] for r in bare], digits=0),
            Row('9', '– microseconds for each', [1e6 / r['rate'] for r in ours], [1e6 / r['rate'] for r in bare], 'us', 0, wants=[('median', 200)])]


if __name__ == '__main__':
    main(sys.modules['__main__'])
