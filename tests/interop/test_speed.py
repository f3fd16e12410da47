# SPDX-License-Identifier: Apache-2.0
"""Ping from a Python client to our server and to a Python server, interleaved. Prints ratios; never fails on them."""
import statistics
import time

import oslo_messaging

import peer

ROUNDS, CALLS = 5, 100


def measure(client):
    times = []
    for n in range(CALLS):
        start = time.perf_counter()
        assert client.call({}, 'ping', arg=n)['arg'] == n
        times.append(time.perf_counter() - start)
    return times


def test_ping_latency_and_rate(transport, server, capsys):
    class Base:
        target = oslo_messaging.Target(version='1.1', namespace='baseapi')

        def ping(self, ctxt, arg):
            return {'service': 'compute', 'arg': arg}

    python = peer.Server(transport, [Base()])
    base = peer.client(transport, namespace='baseapi', version='1.0')
    clients = {'ours': base.prepare(server='os-c', timeout=15), 'python': base.prepare(server='os-python', timeout=15)}
    times = {name: [] for name in clients}
    for client in clients.values():
        measure(client)
    for _ in range(ROUNDS):
        for name, client in clients.items():
            times[name].append(measure(client))
    python.close()
    with capsys.disabled():
        print(f'\nping by a Python client, {ROUNDS} x {CALLS} calls each, interleaved:')
        for name, rounds in times.items():
            every = sorted(t for r in rounds for t in r)
            print(f'  {name:7} median {statistics.median(every) * 1e3:6.2f} ms   p99 {every[int(len(every) * 0.99)] * 1e3:6.2f} ms'
                  f'   {len(every) / sum(every):6.0f} calls/s')
        ratios = [statistics.median(a) / statistics.median(b) for a, b in zip(times['ours'], times['python'])]
        print(f'  ours / python, median latency: {statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})')
