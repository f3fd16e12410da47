# SPDX-License-Identifier: Apache-2.0
"""The lab proves itself without the agent: a guest that works is moved by bare virsh and is found whole."""
import os
import ssl
import struct
import subprocess
import sys
import time

import pytest

from lab import ROOT, Lab, holders

HERE = os.path.dirname(os.path.abspath(__file__))


def phases():
    """A stopwatch: note(what) prints the time since the last note."""
    last = [time.monotonic()]

    def note(what):
        now = time.monotonic()
        print(f'{what}: {now - last[0]:.2f} s')
        last[0] = now
    return note


def move_and_verify(lab, **guest_args):
    note = phases()
    g = lab.guest('mover', hot_set=16, dirty=4, fill=32, disk_rate=1, disk_hot=16, **guest_args)
    note('guest up')
    with g.probe(ticks=True) as probe:
        time.sleep(1)
        for to in ('hostb', 'hosta'):
            seconds = lab.virsh_migrate(g, to)
            note(f'migrate to {to} (virsh alone {seconds:.2f} s)')
            assert g.where() == [to]
            checked = g.verify()
            note(f'verify {checked}')
            assert checked['ok'], checked
            assert checked['bad_pages'] == checked['bad_blocks'] == 0
    r = probe.result
    print('probe:', r)
    assert r['sent'] > 2000 and r['received'] > 500 and r['duplicated'] == 0
    assert r['ticks'] > 500
    status = g.status()
    assert status['page_writes'] > 1000 and all(d['block_writes'] > 16 for d in status['disks'])
    g.destroy()
    note('guest removed')


def test_a_guest_moved_by_virsh_keeps_memory_disks_and_network(lab):
    move_and_verify(lab, nics=2, config_drive=True, disks=[{'name': 'disk.eph0', 'format': 'raw', 'mib': 64}])


def test_a_guest_on_open_vswitch_moved_by_virsh_keeps_memory_disk_and_network(lab_ovs):
    move_and_verify(lab_ovs)


def mix(x):
    """guestd's mix()."""
    mask = (1 << 64) - 1
    x = (x + 0x9e3779b97f4a7c15) & mask
    x = ((x ^ (x >> 30)) * 0xbf58476d1ce4e5b9) & mask
    x = ((x ^ (x >> 27)) * 0x94d049bb133111eb) & mask
    return x ^ (x >> 31)


def find_hot_page(guest, index):
    """(pid, address) of page `index` of the guest's hot set in its QEMU's memory."""
    pid = guest.qemu_pids()[0]
    with open(f'/proc/{pid}/maps') as f:
        spans = [[int(x, 16) for x in line.split()[0].split('-')] for line in f]
    start, end = next(s for s in spans if 0 <= s[1] - s[0] - (guest.memory_mb << 20) <= 65536)  # see guest/qemu
    with open(f'/proc/{pid}/mem', 'rb', buffering=0) as f:
        f.seek(start)
        memory = f.read(end - start)
    for at in range(0, len(memory), 4096):
        page, seq, check = struct.unpack_from('<3Q', memory, at)
        if page == index and seq and check == mix(page ^ (seq << 20)):
            return pid, start + at
    raise AssertionError('no such page in the guest')


def test_the_guest_finds_a_page_that_is_one_round_old(lab):
    """The verification itself can fail: a good but old page is put back from outside."""
    g = lab.guest('aged', hot_set=4, dirty=4)
    time.sleep(1.5)
    pid, at = find_hot_page(g, 5)
    with open(f'/proc/{pid}/mem', 'r+b', buffering=0) as f:
        f.seek(at)
        old = f.read(4096)
        time.sleep(2)
        g.rate(dirty=0)
        assert g.verify()['ok']
        f.seek(at)
        f.write(old)
    bad = g.verify()
    assert not bad['ok'] and bad['bad_pages'] == 1 and 'hot page 5 has sequence' in bad['first'], bad


def test_the_guest_finds_a_damaged_block_of_its_disk(lab):
    g = lab.guest('damaged', disk_hot=4, disk_rate=4)
    time.sleep(2)
    g.rate(disk=0)
    assert g.verify()['ok']
    g.host.virsh('qemu-monitor-command', g.name, '--hmp', 'qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend "write -P 0x5a 25M 4k"')
    bad = g.verify()
    assert not bad['ok'] and bad['bad_blocks'] == 1 and '/dev/vda' in bad['first'], bad


def test_bandwidth_is_limited_on_request(lab):
    g = lab.guest('slow', fill=48)
    lab.shape(100)
    seconds = lab.virsh_migrate(g, 'hostb')
    lab.shape(None)
    print(f'{seconds:.1f} s at 100 Mbit/s')
    assert seconds > 5, 'at 12.5 MB/s, 48 MiB of random memory and 16 MiB of disk cannot be there sooner'
    assert g.verify()['ok']


def test_a_guest_is_moved_by_virsh_over_tls():
    secure = Lab(f't{os.getpid()}-tls')
    try:
        secure.up(tls=True)
        g = secure.guest('secret', fill=16)
        secure.virsh_migrate(g, 'hostb', '--tls', scheme='tls')
        assert g.where() == ['hostb'] and g.verify()['ok']
        with secure.broker.box.socket() as s:
            s.settimeout(5)
            s.connect(('198.51.100.10', 5671))
            context = ssl.create_default_context(cafile=secure.hosts['hosta'].path('/etc/pki/CA/cacert.pem'))
            with context.wrap_socket(s, server_hostname='ctl') as t:
                t.sendall(b'AMQP\0\0\x09\x01')
                assert t.recv(1)
    finally:
        secure.down()


def uses_of(directory):
    """The pids of all processes that name the directory in their arguments."""
    found = []
    for entry in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{entry}/cmdline', 'rb') as f:
                if directory.encode() in f.read():
                    found.append(entry)
        except OSError:
            pass
    return found


def test_a_lab_whose_maker_was_killed_leaves_nothing_after_sweep():
    name = f't{os.getpid()}-crash'
    code = (f'import sys, os, signal; sys.path.insert(0, {HERE!r}); from lab import Lab; '
            f'lab = Lab({name!r}); lab.up(); lab.guest(); os.kill(os.getpid(), signal.SIGKILL)')
    directory = os.path.join(ROOT, name)
    try:
        assert subprocess.run([sys.executable, '-c', code], timeout=120).returncode == -9
        assert len(holders(directory)) == 4
        subprocess.run([sys.executable, os.path.join(HERE, 'lab.py'), 'sweep'], check=True, timeout=60)
        assert not holders(directory) and not os.path.exists(directory)
        assert not uses_of(directory)
    finally:
        Lab(name).down()


def test_two_labs_run_side_by_side(lab):
    other = Lab(f't{os.getpid()}-other')
    try:
        other.up()
        mine, its = lab.guest('mine'), other.guest('its')
        assert mine.ip != '' and its.status()['ok'] and mine.status()['ok']
        assert other.scan()['hostb']['domains'] == []
    finally:
        other.down()
    assert not os.path.exists(other.dir)


if __name__ == '__main__':
    sys.exit(pytest.main(['-s', '-v', __file__]))
