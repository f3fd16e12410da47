#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""nova-compute and computed side by side, under the same OpenStack (tests/openstack/bed.py), in one interleaved run.

    openstack.py [--name BED] [--blocks N] [--moves N] [--starts N] [--idle SECONDS] [--net linuxbridge|ovs] [--json FILE]

Each block puts one agent on both hosts, moves the same guest there and back once without counting, then `moves` times under the
1 kHz probe; blocks alternate, and so does who begins. Then, agent by agent: broker messages of one migration (RabbitMQ's
tracer, apart from the timed ones, since it costs time), memory and CPU of all the agent's processes (with privsep daemons),
and the time from exec to the first report in Nova's database. Nothing is left out: migrations that failed are counted.
BED: a bed that is up; without one a bed is made and removed.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in ('lab', 'openstack'):
    sys.path.insert(0, os.path.join(HERE, '..', folder))
import pymysql  # noqa: E402
from bed import Bed, LabError  # noqa: E402
from configs import CONTROL, PASSWORD  # noqa: E402
from namespaces import wait_until  # noqa: E402
from servers import Server, scrub  # noqa: E402

KINDS = ('nova', 'computed')
TITLES = {'nova': 'nova-compute', 'computed': 'computed'}
# Counts what the broker is given, until its standard input ends; runs in ctl.
TRACER = f'''
import amqp, json, sys, threading
c = amqp.Connection('{CONTROL}:5672', userid='lab', password='labpass')
c.connect()
channel = c.channel()
queue = channel.queue_declare(exclusive=True).queue
channel.queue_bind(queue, 'amq.rabbitmq.trace', 'publish.#')
seen = [0, 0]
def got(message):
    seen[0] += 1
    seen[1] += len(message.body.encode() if isinstance(message.body, str) else message.body)
channel.basic_consume(queue, callback=got, no_ack=True)
print('counting', flush=True)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
while not ended.is_set():
    try:
        c.drain_events(timeout=0.2)
    except (TimeoutError, OSError):
        pass
print(json.dumps(seen), flush=True)
'''


# --- the agent's processes --------------------------------------------------------------------------


def processes(host):
    """The pids of a host's agent: nova-compute with its privsep daemons, or computed."""
    space, found = os.readlink(f'/proc/{host.pid}/ns/pid'), []
    for entry in filter(str.isdigit, os.listdir('/proc')):
        try:
            if os.readlink(f'/proc/{entry}/ns/pid') != space:
                continue
            with open(f'/proc/{entry}/cmdline', 'rb') as f:
                words = f.read().decode(errors='replace').split('\0')
        except OSError:
            continue
        if words[0].endswith('/computed') or any(w.endswith(('/nova-compute', '/privsep-helper')) for w in words[:3]) and any(
                w == '/etc/nova/nova.conf' for w in words):
            found.append(int(entry))
    return found


def memory_mib(pids):
    total = 0
    for pid in pids:
        try:
            with open(f'/proc/{pid}/smaps_rollup') as f:
                total += sum(int(line.split()[1]) for line in f if line.startswith('Pss:'))
        except OSError:
            pass
    return total / 1024


def cpu_seconds(bed):
    total = 0.0
    for h in bed.hosts.values():
        for pid in processes(h):
            try:
                total += time.clock_gettime((~pid << 3) | 2)
            except OSError:
                pass
    return total


class Peak:
    """The largest memory of the agents while something goes on."""

    def __init__(self, bed):
        self.bed, self.mib, self.ended = bed, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.ended.wait(0.5):
            self.mib = max([self.mib] + [memory_mib(processes(h)) for h in self.bed.hosts.values()])

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.ended.set()
        self.thread.join()


# --- measuring --------------------------------------------------------------------------------------


def one(bed, server):
    """Moves the guest to the other host under the probe; its figures."""
    to = server.other_host
    before = cpu_seconds(bed)
    with server.probe() as probe:
        time.sleep(0.5)
        t0 = time.monotonic()
        ident = bed.cloud.live_migrate(server.uuid, to)
        record = wait_until(120, 'end of the migration', lambda: (lambda m: m if m['status'] in ('completed', 'failed', 'error', 'cancelled')
                                                                   else None)(bed.cloud.migration(server.uuid, ident)), 0.02)
        seconds = time.monotonic() - t0
        bed.cloud.wait_server(server.uuid, 'ACTIVE')
        time.sleep(3)  # late gaps, late clean-up
    r = probe.result
    return {'status': record['status'], 'to': to, 'seconds': seconds, 'gap_ms': r['gap_ms'], 'lost': r['lost'], 'sent': r['sent'],
            'cpu_s': cpu_seconds(bed) - before, 'late_ms': r['late_ms']}


def agents(bed, kind):
    for host in bed.hosts:
        if not bed.compute_runs(host, kind):
            bed.compute_start(host, kind)


def fresh_server(bed):
    server = Server(bed, 'bench', 'hosta')
    server.rate(hot=16, dirty=2, fill=16)
    return server


def block(bed, server, kind, moves, runs):
    agents(bed, kind)
    for i in range(-2, moves):
        r = {'kind': kind, 'counted': i >= 0, **one(bed, server)}
        runs.append(r)
        print(f'{TITLES[kind]:13}{"" if i >= 0 else " (warm-up)"} to {r["to"]}: {r["status"]}, {r["seconds"]:.2f} s, gap {r["gap_ms"]:.0f} ms, '
              f'lost {r["lost"]} of {r["sent"]}, CPU {r["cpu_s"]:.2f} s' + (f' (probe late by {r["late_ms"]:.0f} ms)' if r['late_ms'] > 20 else ''), flush=True)
        if r['status'] != 'completed':
            print('  ' + '; '.join(scrub(bed)), flush=True)
            server = fresh_server(bed)
    return server


def broker(bed, server, kind):
    """(messages, bytes) that the broker is given during one migration."""
    agents(bed, kind)
    time.sleep(2)
    bed.broker.ctl('trace_on')
    tracer = subprocess.Popen(bed.control.command(['/usr/bin/python3', '-c', TRACER]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        tracer.stdout.readline()
        record = server.migrate(server.other_host)
        bed.cloud.wait_server(server.uuid, 'ACTIVE')
        time.sleep(1)
        tracer.stdin.close()
        seen = json.loads(tracer.stdout.readline())
    finally:
        tracer.kill()
        tracer.wait()
        bed.broker.ctl('trace_off')
    return tuple(seen) if record['status'] == 'completed' else (float('nan'), float('nan'))


def idle(bed, kind, seconds):
    agents(bed, kind)
    time.sleep(12)
    before, t0 = cpu_seconds(bed), time.monotonic()
    time.sleep(seconds)
    cpu = (cpu_seconds(bed) - before) / len(bed.hosts) * 60 / (time.monotonic() - t0)
    return statistics.mean(memory_mib(processes(h)) for h in bed.hosts.values()), cpu


def start_up(bed, kind):
    """Seconds from exec until Nova's database has the service's next report."""
    bed.compute_stop('hosta')
    time.sleep(2)
    db = pymysql.connect(host=CONTROL, user='root', password=PASSWORD, database='nova', autocommit=True, defer_connect=True)
    s = bed.control.socket()
    s.connect((CONTROL, 3306))
    db.connect(s)

    def count():
        with db.cursor() as c:
            c.execute("select report_count from services where host = 'hosta' and deleted = 0")
            return c.fetchone()[0]
    before, t0 = count(), time.monotonic()
    bed.compute_start('hosta', kind, wait=False)
    wait_until(60, 'report', lambda: count() > before, 0.005)
    seconds = time.monotonic() - t0
    db.close()
    return seconds


def table(runs, more):
    by = {k: [r for r in runs if r['kind'] == k and r['counted'] and r['status'] == 'completed'] for k in KINDS}
    rows = [('API call to completed, s', 'seconds', 2), ('longest gap at 1 kHz, ms', 'gap_ms', 0), ('packets lost', 'lost', 0),
            ('CPU of both agents a migration, s', 'cpu_s', 2)]
    print(f'\n{"figure (median, largest)":40}{TITLES["nova"]:>22}{TITLES["computed"]:>22}{"ratio":>9}')
    for title, key, digits in rows:
        v = {k: [r[key] for r in by[k]] or [float('nan')] for k in KINDS}
        m = {k: statistics.median(v[k]) for k in KINDS}
        cells = [f'{m[k]:.{digits}f}  ({max(v[k]):.{digits}f})' for k in KINDS]
        print(f'{title:40}{cells[0]:>22}{cells[1]:>22}{m["computed"] / m["nova"] if m["nova"] else float("nan"):>9.2f}')
    for title, key, digits in (('broker messages a migration', 'messages', 0), ('broker bytes a migration, kB', 'kB', 0),
                               ('memory of an agent idle (PSS), MiB', 'idle_mib', 1), ('memory while migrating, MiB', 'busy_mib', 1),
                               ('CPU of an agent idle, s a minute', 'idle_cpu', 3), ('start-up until reported, s', 'start_s', 2)):
        v = {k: more[k].get(key, float('nan')) for k in KINDS}
        print(f'{title:40}{v["nova"]:>22.{digits}f}{v["computed"]:>22.{digits}f}{v["computed"] / v["nova"] if v["nova"] else float("nan"):>9.3f}')
    for k in KINDS:
        all_of = [r for r in runs if r['kind'] == k]
        print(f'{TITLES[k]}: {len(all_of)} migrations, {sum(r["status"] != "completed" for r in all_of)} failed')


def measure(bed, args):
    runs, more = [], {k: {} for k in KINDS}
    server = fresh_server(bed)
    for i in range(args.blocks):
        for kind in KINDS if i % 2 == 0 else reversed(KINDS):
            agents(bed, kind)
            with Peak(bed) as peak:
                server = block(bed, server, kind, args.moves, runs)
            more[kind]['busy_mib'] = max(more[kind].get('busy_mib', 0), peak.mib)
    for kind in KINDS:
        messages, size = broker(bed, server, kind)
        more[kind].update(messages=messages, kB=size / 1000)
        more[kind]['idle_mib'], more[kind]['idle_cpu'] = idle(bed, kind, args.idle)
        more[kind]['start_s'] = statistics.median(start_up(bed, kind) for _ in range(args.starts))
        time.sleep(5)
    ok = server.verify()
    if not ok['ok']:
        raise LabError(f'the guest was damaged: {ok}')
    server.delete()
    table(runs, more)
    if args.json:
        with open(args.json, 'w') as f:
            json.dump({'runs': runs, 'more': more}, f, indent=1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--name')
    p.add_argument('--blocks', type=int, default=3)
    p.add_argument('--moves', type=int, default=4)
    p.add_argument('--starts', type=int, default=3)
    p.add_argument('--idle', type=int, default=30)
    p.add_argument('--net', choices=('linuxbridge', 'ovs'), default='linuxbridge')
    p.add_argument('--json')
    args = p.parse_args()
    bed = Bed(args.name or f'bench{os.getpid()}')
    if args.name:
        bed.attach()
        measure(bed, args)
        return
    try:
        measure(bed.up(args.net), args)
    finally:
        bed.down()


if __name__ == '__main__':
    try:
        main()
    except LabError as e:
        sys.exit(f'bench: {e}')
