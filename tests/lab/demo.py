#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The demonstration: a guest that works is moved to another host and back while a 1 kHz probe runs.

    demo.py [--keep]     (called by ./quickstart demo, which builds first)
"""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from agents import program  # noqa: E402
from lab import Lab, LabError  # noqa: E402


def say(text):
    print(f'\n\033[1m== {text}\033[0m' if sys.stdout.isatty() else f'\n== {text}', flush=True)


def watch(agent, guest):
    """computectl watch, on this terminal, until the migration has ended."""
    subprocess.run(agent.host.command([program('computectl'), 'watch', guest.uuid]), timeout=600, check=True)


def move(lab, guest, source, to):
    say(f'{guest.display_name}: {source} -> {to}')
    agent = lab.agents[source]
    with guest.probe(ticks=True) as probe:
        time.sleep(1)
        agent.computectl('migrate', guest.uuid, '--to', to)
        watch(agent, guest)
        record = agent.wait_end(guest, 60)
        time.sleep(1)
    if record['status'] != 'completed' or guest.where() != [to]:
        raise LabError(f'the migration ended as {record["status"]}, the guest is on {guest.where()}: {record}')
    checked = guest.verify()
    if not checked['ok']:
        raise LabError(f'the guest was damaged on its way: {checked}')
    return {'way': f'{source} -> {to}', 'record': record, 'probe': probe.result, 'verified': checked}


def table(moves):
    def row(what, value):
        print(f'  {what:32}' + ''.join(f'{value(m):>20}' for m in moves))
    print()
    row('', lambda m: m['way'])
    row('total time', lambda m: f'{m["record"]["result"]["total_time_ms"] / 1000:.2f} s')
    row('throughput', lambda m: f'{m["record"]["result"]["average_throughput_bytes_s"] / 1048576:.1f} MiB/s')
    row('expected downtime', lambda m: f'{m["record"]["expected_downtime_ms"]} ms')
    row('measured downtime', lambda m: f'{m["record"]["result"]["downtime_ms"]} ms')
    row('longest gap seen by the probe', lambda m: f'{m["probe"]["gap_ms"]:.0f} ms')
    row('packets sent', lambda m: m['probe']['sent'])
    row('packets lost', lambda m: m['probe']['lost'])
    row('memory and disk verified', lambda m: f'{(m["verified"]["memory_bytes"] + m["verified"]["disk_bytes"]) >> 20} MiB, whole')


def how_to_play(lab, guest, where):
    me = os.path.relpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lab.py'))
    other = 'hostb' if where == 'hosta' else 'hosta'
    ctl = f'{me} --name {lab.name} in {where} {program("computectl")}'
    print(f"""
The lab is left running. To play with it:
  {me} --name {lab.name} status
  {ctl} list
  {ctl} migrate {guest.uuid} --to {other}
  {ctl} watch {guest.uuid}
  {me} --name {lab.name} in fabric ping {guest.ip}
  {me} --name {lab.name} in {where} bash          (or hosta, hostb, ctl, fabric)
  logs: {lab.dir}/log
  ./quickstart down                              removes it
""")


def main(keep):
    t0 = time.monotonic()
    lab = Lab('demo')
    done = False
    try:
        say('two hosts, a broker, an agent on each host')
        lab.up(keep=keep)
        for host in lab.hosts:
            lab.agent(host)
        say('a guest with a qcow2 disk that writes 8 MiB/s of memory and 1 MiB/s of disk')
        guest = lab.guest('demo', memory_mb=256, hot_set=16, dirty=8, fill=64, disk_rate=1, disk_hot=16)
        print(f'{guest.name} {guest.uuid} at {guest.ip}')
        table([move(lab, guest, 'hosta', 'hostb'), move(lab, guest, 'hostb', 'hosta')])
        if keep:
            how_to_play(lab, guest, 'hosta')
        done = True
    finally:
        if not (keep and done):
            lab.down()
    print(f'\nDone in {time.monotonic() - t0:.0f} s.' + ('' if keep else ' Everything is removed again.'))


if __name__ == '__main__':
    try:
        main('--keep' in sys.argv[1:])
    except (LabError, subprocess.SubprocessError) as e:
        sys.exit(f'demo: {e}')
    except KeyboardInterrupt:
        sys.exit('demo: interrupted; the lab was removed')
