# SPDX-License-Identifier: Apache-2.0
"""One migration of the lab's guest, by computed or by bare virsh with the same flags, and all that is seen of it.

Times come from QEMU itself (its events, with QEMU's own stamps, on both hosts: `virsh qemu-monitor-event`), from libvirt's events, and
for computed from its timeline; all hosts of the lab share one clock.
"""
import contextlib
import os
import re
import subprocess
import time

import figures  # noqa: F401 (finds the lab)
from agents import program  # noqa: F401 (for those who import this)
from lab import Lab, LabError, prepare_destination
from namespaces import remove_tree, wait_until
from scenarios import newest

FLAGS = ('--auto-converge', '--copy-storage-synchronous-writes')
VIRSH = 'virsh'
EVENT = re.compile(r"^event (\S+) at (\d+\.\d+) for domain '(\S+)': (.*)$", re.M)
LIFECYCLE = re.compile(r"^(\S+ \S+): event 'lifecycle' for domain '(\S+)': (.*)$", re.M)
STATE = re.compile(r'"status":"([^"]+)"')
# the pause, by what QEMU and libvirt do in it
PARTS = (('stop', 'pre-switchover', 'QEMU stops, drains, flushes'), ('pre-switchover', 'device', "libvirt ends the disks' copies"),
         ('device', 'completed', 'last memory and device state'), ('completed', 'resume', "libvirt's Finish, start at the destination"))


@contextlib.contextmanager
def bench_lab(net='bridge', mbit=None, config=None, agents=True):
    """A lab with both agents. mbit: the migration network's rate from the start."""
    lab = Lab(f'bench{os.getpid()}')
    try:
        lab.up(net=net)
        if mbit:
            lab.shape(mbit)
        for host in lab.hosts.values():
            host.spawn('qemu-events', ['stdbuf', '-oL', 'virsh', '-q', '-c', 'qemu:///system', 'qemu-monitor-event', '--loop'])
            host.spawn('events', ['stdbuf', '-oL', 'virsh', '-q', '-c', 'qemu:///system', 'event', '--event', 'lifecycle', '--loop', '--timestamp'])
            if agents:
                lab.agent(host, config)
        yield lab
    finally:
        lab.down()


def configure(lab, **sections):
    """Changes options that can be changed while the agents run."""
    for agent in lab.agents.values():
        agent.write_config(sections)
        agent.computectl('conf', 'reload')


def other(host):
    return 'hostb' if host == 'hosta' else 'hosta'


# --- events -----------------------------------------------------------------------------------------


def qemu_events(host, name, since):
    """[(event or state of the migration, unix time)] of a domain."""
    found = []
    for event, at, domain, data in EVENT.findall(host.services['qemu-events'].output()):
        if domain == name and float(at) >= since:
            state = STATE.search(data)
            found.append((state[1] if event == 'MIGRATION' else f'{event} {state[1]}' if event == 'JOB_STATUS_CHANGE' else event, float(at)))
    return found


def stopped_at(host, name, since):
    """When libvirt told that the source's QEMU is no more (to the millisecond): the last that it tells before its call returns."""
    for at, domain, what in reversed(LIFECYCLE.findall(host.services['events'].output())):
        if domain == name and what == 'Stopped Migrated':
            seconds = unix(at[:-5])
            return seconds if seconds >= since else None
    return None


def unix(text):
    """2026-11-22 12:56:04.805, UTC."""
    whole, _, fraction = text.partition('.')
    return time.mktime(time.strptime(whole + ' UTC', '%Y-%m-%d %H:%M:%S %Z')) - time.timezone + float(f'0.{fraction}')


def first(events, *names):
    return next((at for name, at in events if name in names), None)


def moments(lab, guest, source, to, since):
    """{moment: unix time} of a migration that has ended, from both QEMUs."""
    wait_until(5, 'event of the start at the destination', lambda: first(qemu_events(lab.hosts[to], guest.name, since), 'RESUME'), 0.02)
    seen = qemu_events(lab.hosts[source], guest.name, since)
    return {'first byte': first(seen, 'JOB_STATUS_CHANGE running', 'active'), 'stop': first(seen, 'STOP'),
            **{state: first(seen, state) for state in ('pre-switchover', 'device', 'completed')},
            'stopped': stopped_at(lab.hosts[source], guest.name, since),
            'resume': first(qemu_events(lab.hosts[to], guest.name, since), 'RESUME')}


def pause(at):
    """The pause and its parts, ms."""
    found = {'pause_ms': (at['resume'] - at['stop']) * 1000}
    for begin, end, what in PARTS:
        found[what] = (at[end] - at[begin]) * 1000 if at[begin] and at[end] else None
    return found


# --- migrations -------------------------------------------------------------------------------------


@contextlib.contextmanager
def virsh_process(lab, guest, source, to, *flags):
    """`virsh migrate` as it runs, its destination prepared beforehand: (process, unix time of its start)."""
    src = lab.hosts[source]
    prepare_destination(guest, src, lab.hosts[to])
    begun = time.time()
    process = subprocess.Popen(src.command(lab.virsh_command(guest, to, *flags)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield process, begun
    finally:
        process.kill()
        process.communicate()


def by_virsh(lab, guest, source, to, flags=FLAGS, timeout=300):
    """(start as unix time, seconds of the command)."""
    with virsh_process(lab, guest, source, to, *flags) as (process, begun):
        status = process.wait(timeout)
        seconds = time.time() - begun
        if status:
            raise LabError(f'virsh: {process.stderr.read()}')
    remove_tree(lab.hosts[source].path(guest.dir))
    return begun, seconds


def account(agent, guest):
    """All that an agent knows of the newest migration of a guest away from it: record, timeline, samples."""
    return agent.computectl('report', '--migration', newest(agent, guest)['uuid'], parse=True)


def stamps(record, host):
    """{name: unix time}, the first of each name, of one host."""
    found = {}
    for s in record['timeline']['stamps']:
        if s['host'] == host:
            found.setdefault(s['name'], s['at_us'] / 1e6)
    return found


def by_computed(lab, guest, source, to, settings=(), timeout=300, check=True):
    """The account of the migration."""
    agent = lab.agents[source]
    r = agent.computectl('migrate', guest.uuid, '--to', to, '--wait', '--interval', '0.2', *settings, timeout=timeout, check=False)
    record = account(agent, guest)
    if check and record['status'] != 'completed':
        raise LabError(f'computed: {record["status"]}: {record["message"]} {r.stderr.strip()}')
    return record


def run(lab, guest, system, settings=()):
    """Moves the guest to the other host; what is seen of it. settings: words for `computectl migrate`."""
    source = guest.where()[0]
    to, asked = other(source), time.time()
    if system == VIRSH:
        begun, seconds = by_virsh(lab, guest, source, to)
        record, returned = None, begun + seconds
    else:
        record = by_computed(lab, guest, source, to, settings)
        at = stamps(record, source)
        begun, seconds, returned = at['accepted'], at['ended'] - at['accepted'], at.get('returned')
    if guest.where() != [to]:
        raise LabError(f'{system}: the guest is on {guest.where()}, not on {to}')
    at = moments(lab, guest, source, to, asked)
    return {'system': system, 'record': record, 'at': at, 'total_ms': seconds * 1000, 'first_byte_ms': (at['first byte'] - begun) * 1000,
            'reaction_ms': (returned - at['stopped']) * 1000 if at['stopped'] and returned else None, **pause(at)}
