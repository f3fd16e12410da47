# SPDX-License-Identifier: Apache-2.0
"""The hypervisor interface by itself (virt_tool), against two real libvirtds and QEMUs."""
import json
import os
import signal
import subprocess
import threading
import time

import pytest

from lab import BUILD, prepare_destination, remove_tree
from namespaces import LabError, wait_until

LOOP_LIMIT_US = 20000


class Tool:
    """virt_tool on a host: commands in, answers and news out. Times are the machine's monotonic clock in us."""

    def __init__(self, host, **arguments):
        binary = os.path.join(BUILD, 'tests', 'lab', 'virt_tool')
        self.host, self.news, self.answers, self.number = host, [], {}, 0
        self.process = subprocess.Popen(host.command([binary, *(f'{k}={v}' for k, v in arguments.items())]),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self.wait('up', 30)

    def _read(self):
        for line in self.process.stdout:
            o = json.loads(line)
            with self.changed:
                if 'id' in o:
                    self.answers[o['id']] = o
                else:
                    self.news.append(o)
                self.changed.notify_all()

    def send(self, command, *words, **options):
        self.number += 1
        ident = str(self.number)
        self.process.stdin.write(' '.join([ident, command, *words, *(f'{k}={v}' for k, v in options.items())]) + '\n')
        return ident

    def answer(self, ident, timeout=60):
        with self.changed:
            if not self.changed.wait_for(lambda: ident in self.answers, timeout):
                raise LabError(f'virt_tool of {self.host.name} did not answer {ident} within {timeout} s; news: {self.news[-5:]}')
            return self.answers.pop(ident)

    def call(self, command, *words, timeout=60, **options):
        return self.answer(self.send(command, *words, **options), timeout)

    def find(self, what, since=0, **fields):
        return [n for n in self.news if n['news'] == what and n['t'] >= since and all(n.get(k) == v for k, v in fields.items())]

    def wait(self, what, timeout=30, since=0, **fields):
        with self.changed:
            if not self.changed.wait_for(lambda: self.find(what, since, **fields), timeout):
                raise LabError(f'virt_tool of {self.host.name}: no {what} {fields} within {timeout} s; news: {self.news[-5:]}')
            return self.find(what, since, **fields)[0]

    def longest_us(self):
        return max(self.call('slow')['slow'].values(), default=0)

    def stop(self):
        if self.process.poll() is None:
            self.process.stdin.write('0 quit\n')
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        return self.process.returncode


@pytest.fixture
def tools(lab):
    made = []

    def make(host, **arguments):
        tool = Tool(lab.hosts[host], **arguments)
        made.append(tool)
        return tool
    yield make
    for service in ('hosta', 'hostb'):
        lab.hosts[service].services['libvirtd'].kill(signal.SIGCONT)
    assert [t.stop() for t in made] == [0] * len(made)


def now():
    return time.monotonic_ns() // 1000


def migrate(tool, guest, to, **options):
    return tool.send('migrate', guest.uuid, uri=f'qemu+tcp://{to.address}/system', migrate_uri=f'tcp://{to.address}',
                     disks=','.join(d['target'] for d in guest.disks), **options)


def disk_moving(tool, guest):
    def look():
        s = tool.call('sample', guest.uuid)
        return s if s.get('disk_processed', 0) > 1 << 20 or s.get('memory_bps', 0) else None
    return wait_until(30, 'copying', look)


def times(tool, guest, since):
    return {n['event']: n for n in tool.news if n['news'] == 'event' and n['uuid'] == guest.uuid and n['t'] >= since}


def test_a_guest_is_moved_with_its_disks_and_every_event_is_told(lab, tools):
    guest = lab.guest(hot_set=16, dirty=2, fill=24, nics=1)
    a, b = tools('hosta'), tools('hostb')
    for source, target in ((a, b), (b, a)):
        start = now()
        prepare_destination(guest, source.host, target.host)
        answer = source.answer(migrate(source, guest, target.host, bandwidth=200, synchronous_writes=1), 120)
        assert answer['outcome'] == 'completed', answer
        assert 'error' not in answer
        there = source.wait('event', 5, start, event='stopped-migration')
        here = target.wait('event', 5, start, event='resumed-migration')
        paused = times(source, guest, start)['paused-migration']
        assert paused['t'] < here['t'] < there['t']
        assert source.find('iteration', start)
        done = source.wait('job-completed', 5, start)
        assert done['completed'] and done['memory_total'] > 200 << 20
        assert target.call('state', guest.uuid)['state'] == 'running'
        assert source.call('state', guest.uuid)['state'] == 'none'
        measured = target.call('completed', guest.uuid)
        print(f'moved in {answer["took_us"] / 1e6:.2f} s; pause to resume {(here["t"] - paused["t"]) / 1000:.1f} ms, '
              f'libvirt says {measured["downtime_ms"]} ms; told after at most '
              f'{max(n["told"] - n["t"] for n in source.news + target.news)} us; loop {source.longest_us()} us')
        refused = target.call('destroy_incoming', guest.uuid)
        assert refused['code'] == 'INSTANCE_STATE', refused
        remove_tree(source.host.path(guest.dir))
    assert guest.verify()['ok']
    assert max(a.longest_us(), b.longest_us()) < LOOP_LIMIT_US


def test_an_abort_in_the_middle_leaves_the_guest_at_home(lab, tools):
    guest = lab.guest(fill=24)
    a, b = tools('hosta'), tools('hostb')
    prepare_destination(guest, a.host, b.host)
    ident = migrate(a, guest, b.host, bandwidth=4)
    disk_moving(a, guest)
    begun = now()
    assert 'error' not in a.call('abort', guest.uuid)
    answer = a.answer(ident, 30)
    print(f'abort to end of the call: {(answer["t"] - begun) / 1000:.0f} ms')
    assert (answer['outcome'], answer['code']) == ('cancelled', 'CANCELLED'), answer
    assert a.call('state', guest.uuid)['state'] == 'running'
    assert b.call('state', guest.uuid)['state'] == 'none'
    assert a.call('abort', guest.uuid)['code'] == 'INSTANCE_STATE'
    remove_tree(b.host.path(guest.dir))
    assert guest.verify()['ok']


def processor_ns(tool, guest):
    answer = tool.call('processor_ns', guest.uuid)
    assert 'error' not in answer, answer
    return answer['processor_ns']


def measured(tool, guest):
    """The answer once it has a figure over a second."""
    answer = tool.call('dirty_rate_look', guest.uuid, seconds=1)
    assert 'error' not in answer, answer
    return answer if answer['dirty_rate'] >= 0 else None


def test_the_dirty_rate_of_a_guest_is_measured_before_it_is_moved(lab, tools):
    guest = lab.guest(memory_mb=256, hot_set=128, dirty=1)
    a = tools('hosta')
    rates, busy = {}, {}
    for mib_s in (1, 40, 80):
        guest.rate(dirty=mib_s)
        time.sleep(1)
        before, begun = processor_ns(a, guest), time.monotonic()
        answer = a.call('dirty_rate_begin', guest.uuid, seconds=1)
        assert 'error' not in answer, answer
        rates[mib_s] = wait_until(10, 'the dirty rate', lambda: measured(a, guest), 0.1)['dirty_rate'] / 1048576
        busy[mib_s] = (processor_ns(a, guest) - before) / 1e9 / (time.monotonic() - begun)
    print('dirty rate of the guest: measured, MiB/s', rates, 'processors', busy)
    # pages are sampled, 512 for each GiB: the figure is coarse, its order is not
    assert rates[1] < 20 and 20 <= rates[40] <= 80 and 40 <= rates[80] <= 150, rates
    # what the policy takes for granted of an idle guest: no guest dirties more than 4 GiB in a second of processor time
    assert all(0 < busy[mib_s] < 2.5 and rates[mib_s] <= 4096 * busy[mib_s] + 16 for mib_s in rates), (rates, busy)


def test_an_abort_in_the_memory_phase_leaves_the_guest_at_home(lab, tools):
    guest = lab.guest(disk_mib=32, hot_set=32, dirty=64)
    a, b = tools('hosta'), tools('hostb')
    prepare_destination(guest, a.host, b.host)
    ident = migrate(a, guest, b.host, bandwidth=16)
    a.wait('iteration', 60)
    assert 'error' not in a.call('abort', guest.uuid)
    assert a.answer(ident, 30)['outcome'] == 'cancelled'
    assert guest.where() == ['hosta']
    remove_tree(b.host.path(guest.dir))


def test_post_copy_ends_a_migration_that_does_not_converge(lab, tools):
    guest = lab.guest(disk_mib=32, hot_set=48, dirty=96)
    a, b = tools('hosta'), tools('hostb')
    prepare_destination(guest, a.host, b.host)
    start = now()
    ident = migrate(a, guest, b.host, bandwidth=24, post_copy=1, auto_converge=1)
    a.wait('iteration', 90, iteration=2)
    assert 'error' not in a.call('downtime', guest.uuid, ms=1)
    assert 'error' not in a.call('post_copy', guest.uuid)
    answer = a.answer(ident, 120)
    assert answer['outcome'] == 'completed', answer
    assert {'paused-postcopy', 'stopped-migration'} <= set(times(a, guest, start))
    assert 'resumed-postcopy' in times(b, guest, start)
    assert guest.where() == ['hostb']
    remove_tree(a.host.path(guest.dir))
    assert guest.verify()['ok']


def test_disks_that_share_a_limit_do_not_slow_memory(lab, tools):
    guest = lab.guest(disk_mib=64, fill=160, disks=[{'name': 'disk.eph0', 'format': 'raw', 'mib': 64}])
    a, b = tools('hosta'), tools('hostb')
    prepare_destination(guest, a.host, b.host)
    ident = migrate(a, guest, b.host, bandwidth=64, disk_bandwidth=8)
    disk_moving(a, guest)
    begun, first = time.monotonic(), a.call('sample', guest.uuid)
    time.sleep(2)
    second = a.call('sample', guest.uuid)
    seconds = time.monotonic() - begun
    assert 'error' not in a.call('bandwidth', guest.uuid, mib=96)
    memory = a.wait('iteration', 90)
    answer = a.answer(ident, 90)
    assert answer['outcome'] == 'completed', answer
    disk_rate = (second['disk_processed'] - first['disk_processed']) / seconds / (1 << 20)
    memory_seconds = (times(a, guest, 0)['paused-migration']['t'] - memory['t']) / 1e6
    print(f'disks together {disk_rate:.1f} MiB/s; memory phase {memory_seconds:.2f} s')
    assert disk_rate < 2 * 8 * 1.3
    assert memory_seconds < 160 / 16, 'memory went at the speed of one disk'
    remove_tree(a.host.path(guest.dir))


def test_a_stopped_libvirtd_holds_nobody_for_long(lab, tools):
    guest = lab.guest()
    a = tools('hosta', interval=1, count=2)
    libvirtd = a.host.services['libvirtd']
    stopped = now()
    libvirtd.kill(signal.SIGSTOP)
    hanging = [a.send('state', guest.uuid) for _ in range(6)]
    begun = time.monotonic()
    answers = [a.answer(i, 30) for i in hanging]
    held = time.monotonic() - begun
    assert all(x.get('code') == 'HYPERVISOR' for x in answers), answers
    down = a.wait('down', 10, stopped)
    quick = a.call('state', guest.uuid, timeout=5)
    print(f'six calls held {held:.1f} s, told down after {(down["t"] - stopped) / 1e6:.1f} s ("{down["why"]}"), '
          f'then a call fails in {quick["took_us"]} us; loop {a.longest_us()} us')
    assert held < 1 * (2 + 1) + 2
    assert quick['code'] == 'HYPERVISOR' and quick['took_us'] < 200000
    again = now()
    libvirtd.kill(signal.SIGCONT)
    up = a.wait('up', 20, again)
    print(f'up {(up["t"] - again) / 1e6:.2f} s after it went on')
    assert a.call('state', guest.uuid)['state'] == 'running'
    a.call('suspend', guest.uuid)
    a.wait('event', 5, again, event='paused')
    a.call('resume', guest.uuid)
    a.wait('event', 5, again, event='resumed')
    assert a.longest_us() < LOOP_LIMIT_US


def test_a_migration_outlives_a_stopped_libvirtd(lab, tools):
    """The call's end is not known, the guest is found where it is."""
    guest = lab.guest(fill=16)
    a, b = tools('hosta', interval=1, count=1), tools('hostb')
    prepare_destination(guest, a.host, b.host)
    ident = migrate(a, guest, b.host, bandwidth=8)
    disk_moving(a, guest)
    libvirtd = a.host.services['libvirtd']
    libvirtd.kill(signal.SIGSTOP)
    answer = a.answer(ident, 30)
    libvirtd.kill(signal.SIGCONT)
    assert answer['outcome'] == 'unknown', answer
    a.wait('event', 90, answer['t'], event='stopped-migration')
    wait_until(10, 'the guest on one host, running', lambda: len(guest.where()) == 1)
    where = guest.where()[0]
    print(f'after the call ended unknown ("{answer["error"]}") the guest runs on {where}')
    assert where == 'hostb', 'a peer-to-peer migration goes on without its client'
    remove_tree(a.host.path(guest.dir))
    assert guest.verify()['ok']
    assert a.longest_us() < LOOP_LIMIT_US


@pytest.mark.parametrize('phase', ['disk', 'memory'])
@pytest.mark.parametrize('victim', ['hosta', 'hostb'])
def test_a_killed_libvirtd_leaves_the_guest_running_at_home(lab, tools, victim, phase):
    guest = lab.guest(disk_mib=32, hot_set=32, dirty=32)
    a, b = tools('hosta'), tools('hostb')
    prepare_destination(guest, a.host, b.host)
    ident = migrate(a, guest, b.host, bandwidth=4 if phase == 'disk' else 16)
    disk_moving(a, guest) if phase == 'disk' else a.wait('iteration', 60)
    host = lab.hosts[victim]
    killed = now()
    host.services['libvirtd'].kill(signal.SIGKILL)
    answer = a.answer(ident, 60)
    tool = a if victim == 'hosta' else b
    down = tool.wait('down', 10, killed)
    print(f'{victim} killed in the {phase} phase: outcome {answer["outcome"]} after {(answer["t"] - killed) / 1e6:.2f} s ("{answer["error"]}"), '
          f'down told after {(down["t"] - killed) / 1000:.1f} ms')
    assert answer['outcome'] == ('unknown' if victim == 'hosta' else 'failed'), answer
    host.restart_libvirtd()
    up = tool.wait('up', 30, killed)
    wait_until(30, 'the guest running at home alone', lambda: guest.where() == ['hosta'])
    state = b.call('state', guest.uuid)
    print(f'up again {(up["t"] - killed) / 1e6:.2f} s after; on the destination: {state}; events a: '
          f'{[n["event"] for n in a.find("event", killed)]} b: {[n["event"] for n in b.find("event", killed)]}')
    if state['state'] != 'none':
        assert 'error' not in b.call('destroy_incoming', guest.uuid)
    assert b.call('state', guest.uuid)['state'] == 'none'
    assert a.call('state', guest.uuid)['state'] == 'running'
    remove_tree(b.host.path(guest.dir))
    assert guest.verify()['ok']
    assert max(a.longest_us(), b.longest_us()) < LOOP_LIMIT_US


def test_the_destination_is_checked_against_the_real_guest(lab, tools):
    guest = lab.guest()
    a, b = tools('hosta'), tools('hostb')
    facts = a.call('guest', guest.uuid)['guest']

    def check(**changes):
        return b.call('check', json.dumps({**facts, **changes}, separators=(',', ':')).replace(' ', '\\u0020'))
    fits = check()
    assert 'error' not in fits and fits['warning'] is None, fits
    cpu = "<cpu mode='custom' match='exact'><model>Icelake-Server</model><feature policy='require' name='avx512f'/></cpu>"
    refusals = {
        'cpu': check(cpu_xml=cpu), 'machine': check(machine='pc-i440fx-9.1'), 'emulator': check(emulator='/opt/qemu'),
        'memory': check(memory_kib=1 << 40), 'firmware': check(firmware='/usr/share/OVMF/NOT_THERE.fd'),
        'version': check(hypervisor_version=10000000),
    }
    for what, answer in refusals.items():
        print(f'{what}: {answer.get("error")}')
        assert answer.get('code') == ('NO_SPACE' if what == 'memory' else 'PRECHECK'), (what, answer)
    assert 'newer' in check(hypervisor_version=6002000)['warning']
    assert 'already' in a.call('check', json.dumps(facts, separators=(',', ':')).replace(' ', '\\u0020'))['error']
