#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goals 7, 8 and 17: what the agent itself takes: start, memory, CPU and wake-ups. It has no peer here; nova-compute: openstack.py.

    start.py [--runs N] [--idle SECONDS] [--json FILE]

Ready is what the agent tells systemd (READY=1: requests are taken); the clock starts before its exec. Memory is the PSS of all its
processes; of a migration it is the difference while one runs on both hosts.
"""
import os
import socket
import sys
import time

import moves
from figures import Row, main
from namespaces import wait_until

RUNS, FEW = 10, 5
SOCKET = '/run/computed-notify'


def options(p):
    p.add_argument('--idle', type=int, default=30, help='seconds to watch an idle agent')


def start_ms(agent):
    """From the start of what execs it in the host's namespaces to READY=1; see through()."""
    path = agent.host.path(SOCKET)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        if os.path.exists(path):
            os.unlink(path)
        s.bind(path)
        s.settimeout(20)
        agent.env = {**agent.env, 'NOTIFY_SOCKET': SOCKET}
        begun = time.monotonic()
        agent.start(wait=False)
        while b'READY=1' not in s.recv(4096):
            pass
        return (time.monotonic() - begun) * 1000


def through(agent):
    """How long it takes to start a program there that does nothing."""
    begun = time.monotonic()
    agent.host.run(['true'])
    return (time.monotonic() - begun) * 1000


def wakeups(pid):
    total = 0
    for task in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{task}/status') as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith('voluntary_ctxt_switches:'))
    return total


def idle(agents, seconds):
    """(CPU in percent of a core, wake-ups a minute) of each agent."""
    before = [(a.cpu_seconds(), wakeups(a.pid), time.monotonic()) for a in agents]
    time.sleep(seconds)
    took = [(a.cpu_seconds() - cpu, wakeups(a.pid) - woken, time.monotonic() - t) for a, (cpu, woken, t) in zip(agents, before)]
    return [cpu / t * 100 for cpu, _, t in took], [woken / t * 60 for _, woken, t in took]


def busy(lab, agents):
    """MiB more while a migration runs, of each agent."""
    guest = lab.guest('slow', memory_mb=128, fill=40)
    moves.run(lab, guest, 'computed')  # what only the first one needs
    moves.run(lab, guest, 'computed')
    before = [a.pss_kib() for a in agents]
    agents[0].computectl('migrate', guest.uuid, '--to', agents[1].host.name, 'bandwidth=8')
    agents[0].wait_end(guest, 60, statuses=('running', 'completed', 'failed'))
    time.sleep(2)
    more = [(a.pss_kib() - kib) / 1024 for a, kib in zip(agents, before)]
    agents[0].wait_end(guest, 120)
    return more


def measure(args):
    with moves.bench_lab(args.net) as lab:
        agents = list(lab.agents.values())
        starts = []
        for _ in range(args.runs):
            agents[0].stop()
            starts.append(start_ms(agents[0]) - through(agents[0]))
        agents[0].wait_ready()
        wait_until(30, 'message bus', lambda: agents[0].computectl('status', parse=True)['rpc']['up'])
        time.sleep(5)
        cpu, woken = idle(agents, args.idle)
        memory = [a.pss_kib() / 1024 for a in agents]
        more = busy(lab, agents)
    return [Row('17', 'exec until ready for requests', starts, unit='ms', wants=[('median', 50)]),
            Row('7', 'memory, idle', memory, unit='MiB', wants=[('most', 10)]),
            Row('7', 'memory, a migration more', more, unit='MiB', digits=2, wants=[('most', 0.6)]),
            Row('8', 'CPU, idle, no guests', cpu, unit='%', digits=3, wants=[('most', 0.02)]),
            Row('8', 'wake-ups a minute, idle', woken, digits=0, wants=[('most', 30)])]


if __name__ == '__main__':
    main(sys.modules['__main__'])
