# SPDX-License-Identifier: Apache-2.0
"""Each kind of storage that a guest may have: moved whole, or refused in one sentence before anything is touched."""
import hashlib
import json
import os
import re

import pytest

from guests import INSTANCES
from namespaces import remove_tree, wait_until
from probes import build_c

BASE = f'{INSTANCES}/_base'


def agents(lab, hosta=None, hostb=None, **libvirt):
    for name, extra in (('hosta', hosta), ('hostb', hostb)):
        lab.agent(name, {'libvirt': libvirt, **(extra or {})})
    return lab.agents['hosta']


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.sha256(f.read()).hexdigest()


def names(host, guest):
    return sorted(os.listdir(host.path(guest.dir)))


def moved_whole(guest, to):
    assert guest.where() == [to]
    checked = guest.verify()
    assert checked['ok'] and checked['disk_bytes'] > 0, checked


def refused(agent, guest, *words):
    """The migration to hostb is refused with a sentence that has all the words; the guest never noticed."""
    *options, sentence = words
    r = agent.computectl('migrate', guest.uuid, '--to', 'hostb', *options, check=False)
    assert r.returncode != 0 and re.search(sentence, r.stderr), (r.returncode, r.stdout, r.stderr)
    assert r.stderr.count('\n') == 1, r.stderr
    record = agent.wait_end(guest, 20)
    assert record['status'] == 'failed' and re.search(sentence, record['message']), record
    assert guest.where() == ['hosta']
    return r


@pytest.mark.parametrize('present', (False, True), ids=('absent', 'present'))
def test_an_overlay_gets_its_base_copied_where_it_is_absent_and_kept_where_it_is_present(lab, present):
    a, b = lab.hosts['hosta'], lab.hosts['hostb']
    remove_tree(b.path(BASE))
    agent = agents(lab)
    guest = lab.guest(disk_rate=1, disk_hot=8)
    base = os.path.join(BASE, next(f for f in os.listdir(a.path(BASE)) if re.fullmatch('[0-9a-f]{40}', f)))
    if present:
        os.makedirs(b.path(BASE))
        with open(a.path(base), 'rb') as source, open(b.path(base), 'wb') as copy:
            copy.write(source.read())
        inode = os.stat(b.path(base)).st_ino
    assert agent.migrate(guest, 'hostb')['status'] == 'completed'
    moved_whole(guest, 'hostb')
    assert digest(a.path(base)) == digest(b.path(base))
    assert not present or os.stat(b.path(base)).st_ino == inode, 'the base was made anew'
    info = json.loads(b.run(['qemu-img', 'info', '-U', '--output=json', f'{guest.dir}/disk']).stdout)
    assert info['full-backing-filename'] == base and info['format'] == 'qcow2' and info['virtual-size'] == 128 << 20
    assert not os.path.exists(a.path(guest.dir))


def test_disks_of_both_formats_move_together_with_config_drive_kernel_and_ramdisk(lab):
    a = lab.hosts['hosta']
    agents(lab)
    guest = lab.guest(disk='raw', disks=[{'name': 'disk.local'}, {'name': 'disk.swap', 'format': 'raw', 'mib': 48}], config_drive=True,
                      kernel_in_instance_dir=True, disk_rate=1, disk_hot=8)
    before = names(a, guest)
    small = {n: digest(a.path(f'{guest.dir}/{n}')) for n in ('disk.config', 'kernel', 'ramdisk', 'disk.info')}
    for source, to in (('hosta', 'hostb'), ('hostb', 'hosta')):
        assert lab.agents[source].migrate(guest, to)['status'] == 'completed'
        moved_whole(guest, to)
        here, left = lab.hosts[to], lab.hosts[source]
        assert names(here, guest) == before and not os.path.exists(left.path(guest.dir))
        assert {n: digest(here.path(f'{guest.dir}/{n}')) for n in small if n != 'disk.info'} == {n: small[n] for n in small if n != 'disk.info'}
        with open(here.path(f'{guest.dir}/disk.info')) as f:
            assert json.load(f) == {d['file']: d['format'] for d in guest.disks} | {f'{guest.dir}/disk.config': 'raw'}
        formats = re.findall(r"<driver name='qemu' type='(\w+)'", here.virsh('dumpxml', guest.name))
        assert formats == ['raw', 'qcow2', 'raw', 'raw']


def block_jobs(host, guest):
    answer = host.virsh('qemu-monitor-command', guest.name, '{"execute": "query-block-jobs"}', check=False)
    return json.loads(answer)['return'] if answer else []


def test_a_bandwidth_limit_is_divided_among_the_disks(lab):
    agent = agents(lab, live_migration_bandwidth=16)
    guest = lab.guest(disks=[{'name': 'disk.local', 'format': 'raw', 'mib': 64}], disk_rate=1, disk_hot=8, fill=64)
    agent.computectl('migrate', guest.uuid, '--to', 'hostb')
    speeds = wait_until(30, 'two block jobs', lambda: len(block_jobs(lab.hosts['hosta'], guest)) == 2
                        and [j['speed'] for j in block_jobs(lab.hosts['hosta'], guest)])
    assert speeds == [8 << 20, 8 << 20]
    assert agent.wait_end(guest, 120)['status'] == 'completed'
    moved_whole(guest, 'hostb')


@pytest.mark.parametrize('synchronous', (True, False), ids=('on', 'off'))
def test_a_disk_written_faster_than_the_limit_moves_with_synchronous_writes_and_only_with_them(lab, synchronous):
    agent = agents(lab, live_migration_synchronous_writes=synchronous, live_migration_bandwidth=4, live_migration_timeout_scale='total',
                   live_migration_completion_timeout=150 if synchronous else 15, live_migration_downtime=2000)
    guest = lab.guest(memory_mb=128, disk_rate=12, disk_hot=12)
    looks = []
    agent.computectl('migrate', guest.uuid, '--to', 'hostb')
    record = agent.wait_end(guest, 200, watch=lambda m: looks.append((m['disk']['total'], m['memory']['processed'])) if m.get('disk') else None)
    assert record['status'] == ('completed' if synchronous else 'cancelled'), record
    if not synchronous:  # blocks were sent again and again; memory would have followed when the disks are the same
        assert max(disk for disk, _ in looks) > 24 << 20 and max(memory for _, memory in looks) == 0, looks
    moved_whole(guest, 'hostb' if synchronous else 'hosta')


def test_without_block_migration_local_disks_are_refused_in_one_sentence(lab):
    agent = agents(lab)
    guest = lab.guest()
    before = lab.scan()
    refused(agent, guest, '--shared', 'local disks on hosta.*needs shared storage')
    assert lab.scan() == before


def test_over_commit_counts_what_disks_use_and_without_it_their_full_size_must_fit(lab):
    free_mib = os.statvfs(lab.hosts['hostb'].path(INSTANCES))
    free_mib = free_mib.f_bavail * free_mib.f_frsize >> 20
    agent = agents(lab, hostb={'DEFAULT': {'reserved_host_disk_mb': free_mib - 512}})
    guest = lab.guest(disk='qcow2', disk_mib=2048)
    before = lab.scan()
    r = refused(agent, guest, r'needs 2\.\d* GiB of disk')
    assert re.search('MiB', r.stderr), 'what is free is not told: ' + r.stderr
    assert lab.scan() == before
    assert agent.migrate(guest, 'hostb', '--disk-over-commit')['status'] == 'completed'
    moved_whole(guest, 'hostb')


# --- one directory for both hosts ------------------------------------------------------------------------------

@pytest.fixture
def shared(lab):
    """The lab with hosta's instances directory on both hosts, which libvirtd takes for NFS."""
    a, b = lab.hosts['hosta'], lab.hosts['hostb']
    preload = build_c('shared_fs.c', '-shared', '-fPIC', '-D_GNU_SOURCE')

    def libvirtds(env):
        for host in (a, b):
            host.services['libvirtd'].stop()
            host.spawn('libvirtd', ['libvirtd', '--listen'], env=env)
        for host in (a, b):
            wait_until(60, f'libvirtd of {host.name}', host.libvirtd_ready)
    b.run(['mount', '--bind', a.path(INSTANCES), INSTANCES])
    libvirtds({'LD_PRELOAD': preload})
    yield lab
    for agent in lab.agents.values():
        agent.stop()
    for guest in list(lab.guests):
        guest.destroy()
    libvirtds({})
    b.run(['umount', INSTANCES])


def test_on_shared_storage_no_disk_is_copied_and_nothing_is_removed(shared):
    host = shared.hosts['hosta']
    agent = agents(shared)
    guest = shared.guest(config_drive=True, disks=[{'name': 'disk.local', 'format': 'raw'}], disk_rate=1, disk_hot=8)
    before = names(host, guest)
    inodes = {n: os.stat(host.path(f'{guest.dir}/{n}')).st_ino for n in before}
    for source, to in (('hosta', 'hostb'), ('hostb', 'hosta')):
        record = shared.agents[source].migrate(guest, to)
        assert record['status'] == 'completed' and record['disk']['total'] == 0, record
        moved_whole(guest, to)
        assert {n: os.stat(host.path(f'{guest.dir}/{n}')).st_ino for n in names(host, guest)} == inodes
    refused(agent, guest, '--block', 'storage that both hosts share')
    assert names(host, guest) == before
    assert not [f for f in os.listdir(host.path(INSTANCES)) if f not in ('_base', guest.uuid)], 'a probe file is left'
    moved_whole(guest, 'hosta')
