# SPDX-License-Identifier: Apache-2.0
"""Something breaks while a guest is prepared or moved: it runs on where it must, and nothing is left elsewhere."""
import os
import signal
import time

import pytest

from namespaces import children, wait_until
from scenarios import (SLOW, clean, connected, cut, kill_libvirtd, newest, pair, phase, refused, restart, slow_guest, start)

ENDS = ('completed', 'failed', 'cancelled', 'error')


def beam(broker):
    """The processes of RabbitMQ's node, children first."""
    found, pids = [], [broker.service.pid]
    while pids:
        pid = pids.pop()
        found.insert(0, pid)
        pids += children(pid)
    return found


# ---- while the destination prepares ----

def test_a_disk_that_fills_up_during_preparation_is_told_and_all_is_taken_back(lab):
    host = lab.hosts['hostb']
    guest = lab.guest('tight', memory_mb=128, disk='raw', disk_mib=64)
    host.run(['mount', '-t', 'tmpfs', '-o', 'size=96m', 'small', '/var/lib/nova/instances'])
    try:
        a, b = pair(lab, b=['storage.make_disk=delay(4000)'], DEFAULT={'preallocate_images': 'space'})
        a.computectl('migrate', guest.uuid, '--to', 'hostb')
        phase(a, guest, 'preparing')
        time.sleep(1)
        host.run(['dd', 'if=/dev/zero', 'of=/var/lib/nova/instances/greedy', 'bs=1M', 'count=80'], check=False)
        record = a.wait_end(guest, 60)
        assert record['status'] == 'error' and 'hostb' in record['message'], record
        assert 'space' in record['message'].lower() or 'free' in record['message'], record['message']
        wait_until(20, 'empty directory', lambda: host.run(['ls', '-A', '/var/lib/nova/instances']).stdout.split() in (['greedy'], ['_base', 'greedy']))
    finally:
        host.run(['umount', '/var/lib/nova/instances'])
    clean(lab, guest, 'hosta')


def test_a_bridge_is_made_for_a_guest_that_comes_and_goes_when_it_does_not(lab):
    host, net = lab.hosts['hostb'], lab.networks[0]
    guest = slow_guest(lab)
    host.ip('link', 'del', net['bridge'])
    try:
        a, b = pair(lab, net={'bridge_without_uplink': 'yes'})
        start(a, guest, 'hostb', *SLOW)
        assert net['bridge'] in lab.scan()['hostb']['links']
        a.computectl('abort', guest.uuid)
        assert a.wait_end(guest, 30)['status'] == 'cancelled'
        clean(lab, guest, 'hosta')
        assert net['bridge'] not in lab.scan()['hostb']['links']
    finally:
        host.ip('link', 'set', net['uplink'], 'nomaster')
        host.run(['ip', 'link', 'del', net['bridge']], check=False)
        host.wire_bridges([net])


def test_a_leftover_of_an_attempt_is_replaced(lab):
    guest = lab.guest('again', memory_mb=128)
    a, b = pair(lab, b=['storage.prepared=crash'])
    a.computectl('migrate', guest.uuid, '--to', 'hostb')
    wait_until(20, 'crash of the agent', lambda: not b.service.alive())
    for f in os.listdir(lab.hosts['hostb'].path('/var/lib/computed/journal')):
        if os.path.isfile(lab.hosts['hostb'].path(f'/var/lib/computed/journal/{f}')):
            os.unlink(lab.hosts['hostb'].path(f'/var/lib/computed/journal/{f}'))
    # the journal is lost, so only the marker tells what the directory is
    assert os.listdir(lab.hosts['hostb'].path(guest.dir))
    restart(b)
    record = a.wait_end(guest, 60)
    if record['status'] != 'completed':  # the request, which the broker gives again, may be too old by now
        assert record['status'] == 'error', record
        assert a.migrate(guest, 'hostb')['status'] == 'completed'
    clean(lab, guest, 'hostb')


# ---- operators ----

def test_a_migration_is_aborted_while_queued_preparing_and_running(lab):
    first, second = slow_guest(lab, 'first'), lab.guest('second', memory_mb=128)
    a, b = pair(lab, b=['storage.make_disk=delay(3000)@2'])
    start(a, first, 'hostb', *SLOW)
    a.computectl('migrate', second.uuid, '--to', 'hostb')
    record = phase(a, second, 'queued')
    assert newest(a, first)['phase'] == 'running'
    refused(a, first)  # it is on its way already
    a.computectl('abort', second.uuid)
    assert a.wait_end(second, 10)['status'] == 'cancelled'
    assert newest(a, first)['phase'] == 'running'
    a.computectl('abort', first.uuid)
    a.computectl('abort', first.uuid, check=False)
    record = a.wait_end(first, 20)
    assert record['status'] == 'cancelled', record
    r = a.computectl('abort', first.uuid, check=False)
    assert r.returncode != 0 and r.stderr.count('\n') == 1, r
    clean(lab, first, 'hosta')
    a.computectl('migrate', second.uuid, '--to', 'hostb')
    phase(a, second, 'preparing')
    a.computectl('abort', second.uuid)
    assert a.wait_end(second, 20)['status'] == 'cancelled'
    clean(lab, second, 'hosta')
    r = a.computectl('force-complete', second.uuid, check=False)
    assert r.returncode != 0 and r.stderr.count('\n') == 1, r


def test_an_abort_that_comes_before_libvirts_job_is_obeyed_as_well(lab):
    guest = slow_guest(lab)
    a, b = pair(lab, a=['virt.migrate.before=delay(700)@1'])
    for pause in (0, 0, 0.05, 0.1, 0.2, 0.3):
        a.computectl('migrate', guest.uuid, '--to', 'hostb', *SLOW)
        phase(a, guest, 'running')
        time.sleep(pause)
        a.computectl('abort', guest.uuid)
        record = a.wait_end(guest, 60)
        assert record['status'] == 'cancelled', record
    assert 'libvirt does not take the abort yet' in a.log()  # at least the first time, when it had no job
    clean(lab, guest, 'hosta')


def test_the_second_guest_waits_for_its_place_and_a_second_force_is_refused(lab):
    first, second = slow_guest(lab, 'first', memory_mb=192, dirty=20, hot_set=32), lab.guest('second', memory_mb=128)
    a, b = pair(lab)
    start(a, first, 'hostb', *SLOW, until=('running',))
    a.computectl('migrate', second.uuid, '--to', 'hostb')
    phase(a, second, 'queued')
    a.computectl('force-complete', first.uuid)
    r = a.computectl('force-complete', first.uuid, check=False)
    assert r.returncode != 0 and 'force' in r.stderr, r
    assert a.wait_end(first, 60)['status'] == 'completed'
    assert a.wait_end(second, 60)['status'] == 'completed'
    clean(lab, first, 'hostb')
    clean(lab, second, 'hostb')


# ---- the message bus ----

def test_a_minute_without_rabbitmq_in_the_middle_of_a_copy_changes_nothing(lab):
    guest = slow_guest(lab, memory_mb=160, fill=60)
    a, b = pair(lab)
    start(a, guest, 'hostb', *SLOW)
    node = beam(lab.broker)
    for pid in node:
        os.kill(pid, signal.SIGSTOP)
    try:
        end = time.monotonic() + 60
        wait_until(60, 'end of the copy', lambda: newest(a, guest)['phase'] == 'finishing')
        assert guest.where() == ['hostb']
        time.sleep(max(0, end - time.monotonic()))
        assert newest(a, guest)['phase'] == 'finishing'
    finally:
        for pid in node + [lab.broker.service.popen.pid]:
            os.kill(pid, signal.SIGCONT)
    record = a.wait_end(guest, 60)
    assert record['status'] == 'completed', record
    clean(lab, guest, 'hostb')


def test_rabbitmq_that_dies_with_its_queues_in_the_middle_of_a_copy_changes_nothing(lab):
    guest = slow_guest(lab)
    a, b = pair(lab)
    start(a, guest, 'hostb', *SLOW)
    for pid in beam(lab.broker):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    lab.broker.service.popen.wait(10)
    wait_until(60, 'end of the copy', lambda: newest(a, guest)['phase'] == 'finishing')
    lab.broker.start()
    wait_until(60, 'RabbitMQ', lab.broker.ready)
    record = a.wait_end(guest, 60)
    assert record['status'] == 'completed', record
    clean(lab, guest, 'hostb')


# ---- libvirtd, QEMU, the network ----

@pytest.mark.parametrize('victim', ['hosta', 'hostb'])
def test_libvirtd_that_dies_in_the_middle_leaves_the_guest_at_the_source(lab, victim):
    guest = slow_guest(lab)
    a, b = pair(lab)
    start(a, guest, 'hostb', *SLOW)
    time.sleep(2)
    kill_libvirtd(lab.hosts[victim])
    time.sleep(5)
    assert newest(a, guest)
    lab.hosts[victim].restart_libvirtd()
    record = a.wait_end(guest, 60)
    assert record['status'] == 'failed' and record['message'], record
    connected(a), connected(b)
    clean(lab, guest, 'hosta', wait=40)
    assert a.migrate(guest, 'hostb')['status'] == 'completed'
    clean(lab, guest, 'hostb')


def test_qemu_that_dies_at_the_destination_leaves_the_guest_at_the_source(lab):
    guest = slow_guest(lab)
    a, b = pair(lab)
    before = guest.qemu_pids()
    start(a, guest, 'hostb', *SLOW)
    time.sleep(2)
    arrival = [p for p in guest.qemu_pids() if p not in before]
    assert len(arrival) == 1
    os.kill(arrival[0], signal.SIGKILL)
    record = a.wait_end(guest, 30)
    assert record['status'] == 'failed' and record['message'], record
    clean(lab, guest, 'hosta')


def test_a_migration_network_that_is_cut_for_long_leaves_the_guest_at_the_source(lab):
    """QEMU waits for its connections for as long as TCP does, 15 minutes unless the operator says otherwise; the
    guest's disk may wait with it. Here TCP gives up after some 10 s."""
    guest = slow_guest(lab)
    a, b = pair(lab)
    for host in lab.hosts.values():
        host.run(['sh', '-c', 'echo 5 >/proc/sys/net/ipv4/tcp_retries2'])
    try:
        start(a, guest, 'hostb', *SLOW)
        time.sleep(2)
        with cut(lab, 'hostb'):
            wait_until(90, 'word of the failure', lambda: newest(a, guest)['phase'] not in ('running', 'observing'))
            assert guest.where() == ['hosta']
            assert b.computectl('migrations', parse=True) and a.computectl('status', parse=True)
        record = a.wait_end(guest, 120)
        assert record['status'] == 'failed' and record['message'], record
        clean(lab, guest, 'hosta', wait=60)
    finally:
        for host in lab.hosts.values():
            host.run(['sh', '-c', 'echo 15 >/proc/sys/net/ipv4/tcp_retries2'])
