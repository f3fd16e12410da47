# SPDX-License-Identifier: Apache-2.0
"""What the tests of failures share: agents that notice things soon, guests that take their time, and the proof
that all is well afterwards."""
import contextlib
import ctypes
import difflib
import json
import os
import re
import signal
import time

from namespaces import CLONE_NEWNET, LabError, wait_until

FAULTS = '/etc/computed/faults'


def config(**sections):
    """Short timeouts; one line of log a second."""
    merged = {'DEFAULT': {'rpc_response_timeout': 6, 'graceful_shutdown_timeout': 3, **sections.pop('DEFAULT', {})},
              'libvirt': {'live_migration_log_period': 1, **sections.pop('libvirt', {})}}
    return {**merged, **sections}


def pair(lab, a=None, b=None, **both):
    """An agent on each host; a, b: faults (lines of the fault file) of each. Gives (agent of hosta, of hostb)."""
    return tuple(agent_with(lab, host, faults, **both) for host, faults in (('hosta', a), ('hostb', b)))


def agent_with(lab, host, faults=None, **sections):
    host = lab.host(host)
    arm(host, faults or ())
    # the program, its arguments, and the fault file behind them
    wrapper = ['sh', '-c', f'exec "$@" --fault-file {FAULTS}', 'sh'] if faults else []
    return connected(lab.agent(host, config(**sections), wrapper=wrapper))


def connected(agent, seconds=30):
    def up():
        status = agent.computectl('status', parse=True)
        return status['rpc']['up'] and status['hypervisor']['up']
    wait_until(seconds, f'connections of the agent on {agent.host.name}', up)
    return agent


def arm(host, faults):
    with open(os.open(host.path(FAULTS), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w') as f:
        f.write(''.join(f'{line}\n' for line in faults))


def restart(agent):
    """Starts an agent that has ended, without faults."""
    wait_until(10, 'end of the agent', lambda: not agent.service.alive())
    agent.wrapper = []
    agent.start()
    return connected(agent)


def slow_guest(lab, name='slow', **kw):
    """Copying it takes some 10 s at 8 MiB/s."""
    return lab.guest(name, **{'memory_mb': 128, 'fill': 40, 'hot_set': 8, 'dirty': 1, 'disk_rate': 1, 'disk_hot': 8, **kw})


SLOW = ('bandwidth=8',)


def start(agent, guest, to='hostb', *settings, until=('running',)):
    """Begins a migration and waits for one of the statuses (or its end)."""
    agent.computectl('migrate', guest.uuid, '--to', to, *settings)
    return agent.wait_end(guest, 60, statuses=(*until, 'completed', 'failed', 'cancelled', 'error')) if until else None


def newest(agent, guest, role='source'):
    found = [m for m in agent.computectl('migrations', parse=True)['migrations'] if m['instance'] == guest.uuid and m['role'] == role]
    return max(found, key=lambda m: m['id'], default=None)


def phase(agent, guest, *phases, seconds=40):
    """Waits until the agent's machine is in one of the phases for this guest."""
    def there():
        m = newest(agent, guest)
        return m if m and m['phase'] in phases else None
    return wait_until(seconds, f'phase {" or ".join(phases)} (it is {(newest(agent, guest) or {}).get("phase")})', there)


def refused(agent, guest, to='hostb', *options, uuid=None):
    """A migration that must be refused; gives the words."""
    before = time.monotonic()
    r = agent.computectl('--timeout', 40, 'migrate', uuid or guest.uuid, '--to', to, *options, check=False)
    assert r.returncode != 0, r.stdout
    text = r.stderr.strip()
    assert text and text.count('\n') == 0, text
    assert time.monotonic() - before < 35
    return text


def whole(guest, host):
    """The guest runs on this host alone and all it holds is right."""
    assert guest.where() == [host], guest.where()
    checked = guest.verify()
    assert checked['ok'], checked


def journals(lab):
    return {name: what['journal'] for name, what in lab.scan().items()}


def clean(lab, guest, host, wait=20):
    """All is well: agents answer, journals are empty, the other host has nothing of the guest, the guest is whole."""
    other = lab.hosts['hostb' if host == 'hosta' else 'hosta']
    wait_until(wait, f'empty journals: {journals(lab)}; ' + '; '.join(a.log()[-400:] for a in lab.agents.values()),
               lambda: not any(journals(lab).values()), 0.2)
    for agent in lab.agents.values():
        status = agent.computectl('status', parse=True)
        assert status, status
    found = other.scan()
    assert guest.uuid not in ' '.join(found['files'] + found['instance_dirs']), found
    assert not [d for d in found['domains'] if d[0] == guest.name], found['domains']
    assert not set(guest.taps) & set(found['links']), found['links']
    whole(guest, host)


def stop_process(service, seconds):
    """SIGSTOP for some seconds."""
    service.kill(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        service.kill(signal.SIGCONT)


def kill_libvirtd(host):
    host.services['libvirtd'].kill(signal.SIGKILL)
    wait_until(5, 'end of libvirtd', lambda: not host.services['libvirtd'].alive())


@contextlib.contextmanager
def cut(lab, host):
    """The host's cable of the migration network is out."""
    lab.fabric.ip('link', 'set', f'c-{host}', 'down')
    try:
        yield
    finally:
        lab.fabric.ip('link', 'set', f'c-{host}', 'up')


@contextlib.contextmanager
def network_of(box):
    """This thread is in the box's network."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open('/proc/thread-self/ns/net', os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f'/proc/{box.pid}/ns/net', os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(there, CLONE_NEWNET) != 0:
            raise LabError(f'{box.name}: setns: {os.strerror(ctypes.get_errno())}')
        try:
            yield
        finally:
            libc.setns(own, CLONE_NEWNET)
    finally:
        os.close(own)
        os.close(there)


@contextlib.contextmanager
def other_qemu(agent, change):
    """The libvirtd of an agent's host believes in a QEMU that differs: what it remembers of QEMU goes through change()."""
    host = agent.host
    d = host.path('/var/cache/libvirt/qemu/capabilities')
    files = {}

    def read(f):
        with open(f) as stream:
            return stream.read()
    for f in os.listdir(d):
        files[os.path.join(d, f)] = read(os.path.join(d, f))

    def put(contents, believed):
        host.services['libvirtd'].stop()
        wait_until(10, 'loss of libvirtd', lambda: not agent.computectl('status', parse=True)['hypervisor']['up'])
        for attempt in range(8):  # now and then libvirtd asks QEMU anew and forgets what it was told
            for f, text in contents.items():
                with open(f, 'w') as stream:
                    stream.write(text)
            host.restart_libvirtd()
            host.virsh('domcapabilities')  # what it doubts it asks when it is first needed
            forgotten = [f for f, text in contents.items() if read(f) != text]
            if not believed or not forgotten or attempt == 7:
                break
            host.services['libvirtd'].stop()
        if believed and forgotten:
            f = forgotten[0]
            difference = list(difflib.unified_diff(contents[f].splitlines(True), read(f).splitlines(True)))
            raise AssertionError('libvirtd asks QEMU anew each time:\n' + ''.join(difference[:40]))
        connected(agent)
    put({f: change(text) for f, text in files.items()}, True)
    try:
        yield
    finally:
        put(files, False)


def number(text, pattern):
    found = re.search(pattern, text)
    assert found, text
    return float(found.group(1))


def lines(agent, word):
    return [line for line in agent.log().splitlines() if word in line]


def dump(value):
    return json.dumps(value, indent=1)[:3000]
