# SPDX-License-Identifier: Apache-2.0
"""The destination's files, prepared from a real source: bases, config drive and boot files come through the
storage streams of the source's libvirtd, and bare virsh then moves a working guest onto what was prepared."""
import hashlib
import json
import os
import signal
import threading
import time

import pytest

import lab as lab_module
from guests import INSTANCES
from namespaces import remove_tree

TOOL = os.path.join(lab_module.BUILD, 'tests/lab/storage_tool')
MIGRATION = '11111111-2222-4333-8444-555555555555'
BASE = f'{INSTANCES}/_base'


def tool(host, *args, stdin='', timeout=120):
    return json.loads(host.run([TOOL, *args], input=stdin, timeout=timeout).stdout)


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.file_digest(f, 'sha256').hexdigest() if hasattr(hashlib, 'file_digest') else hashlib.sha256(f.read()).hexdigest()


class Case:
    """A guest on hosta and an empty hostb; cleans up what the lab's own fixture does not look at."""

    def __init__(self, lab, **kw):
        self.lab, self.a, self.b = lab, lab.hosts['hosta'], lab.hosts['hostb']
        self.clean_base()
        self.guest = lab.guest(**{'network': False, **kw})  # without a network nobody waits until it has booted
        self.uri = f'qemu+tcp://{self.a.address}/system'

    def clean_base(self):
        remove_tree(self.b.path(BASE))

    def disk_info(self):
        answer = tool(self.a, 'disk-info', stdin=self.a.virsh('dumpxml', self.guest.name))
        assert answer['ok'], answer
        return answer

    def prepare(self, disk, path=INSTANCES, uri=None, timeout=120):
        return tool(self.b, 'prepare', path, self.guest.uuid, MIGRATION, uri or self.uri, stdin=json.dumps(disk), timeout=timeout)

    def pools(self):
        return self.a.virsh('pool-list', '--all', '--name').split()

    def gone(self):
        base = self.b.path(BASE)
        return not os.path.exists(self.b.path(self.guest.dir)) and (not os.path.exists(base) or os.listdir(base) == [])


def test_a_guest_runs_on_what_was_prepared(lab):
    case = Case(lab, network=True, config_drive=True, kernel_in_instance_dir=True, disk_rate=1, disk_hot=16)
    info = case.disk_info()
    assert info['copy'] == ['vda'] and 0 < info['need'] < info['need_full']
    answer = case.prepare(info['disk'])
    assert answer['ok'], answer
    assert answer['paths'] == {}
    overlay = info['disk'][0]
    for name in ('disk.config', 'kernel', 'ramdisk'):
        assert digest(case.a.path(f'{case.guest.dir}/{name}')) == digest(case.b.path(f'{case.guest.dir}/{name}'))
    base = f'{BASE}/{overlay["backing_file"]}'
    assert digest(case.a.path(base)) == digest(case.b.path(base))
    assert os.stat(case.b.path(base)).st_blocks <= os.stat(case.a.path(base)).st_blocks + 256, 'holes were filled'
    assert sorted(os.listdir(case.b.path(case.guest.dir))) == ['.computed-migration', 'console.log', 'disk', 'disk.config', 'disk.info', 'kernel', 'ramdisk']
    assert case.pools() == [], 'a pool was left on the source'
    case.a.run(['virsh', '-q', '-c', 'qemu:///system', 'migrate', '--live', '--p2p', '--persistent', '--undefinesource', '--copy-storage-inc',
                '--migrate-disks', 'vda', case.guest.name, f'qemu+tcp://{case.b.address}/system', '--migrateuri', f'tcp://{case.b.address}'], timeout=200)
    assert tool(case.b, 'settle', INSTANCES, case.guest.uuid)['ok']
    assert tool(case.a, 'remove', INSTANCES, case.guest.uuid)['ok']
    assert not os.path.exists(case.a.path(case.guest.dir))
    assert case.guest.where() == ['hostb'] and case.guest.verify()['ok']


def test_a_source_that_cannot_be_reached_leaves_nothing(lab):
    case = Case(lab)
    disk = case.disk_info()['disk']
    answer = case.prepare(disk, uri='qemu+tcp://198.51.100.77:9/system')
    assert not answer['ok'] and answer['code'] == 'HYPERVISOR' and answer['undone'], answer
    assert case.gone()


def test_a_missing_base_is_named_and_leaves_nothing(lab):
    case = Case(lab)
    disk = case.disk_info()['disk']
    disk[0].update(backing_file='nosuchbase', backing_path=f'{BASE}/nosuchbase')
    answer = case.prepare(disk)
    assert not answer['ok'] and 'nosuchbase' in answer['error'] and answer['undone'], answer
    assert case.gone() and case.pools() == []


def test_a_base_of_another_size_than_announced_is_refused(lab):
    case = Case(lab)
    disk = case.disk_info()['disk']
    disk[0]['backing_size'] -= 512
    answer = case.prepare(disk)
    assert not answer['ok'] and answer['code'] == 'DISK' and 'announced' in answer['error'], answer
    assert case.gone()


def test_the_administrators_own_pool_is_used_and_left(lab):
    case = Case(lab)
    disk = case.disk_info()['disk']
    case.a.virsh('pool-create-as', 'theirs', 'dir', '--target', BASE)
    try:
        assert case.prepare(disk)['ok']
        assert case.pools() == ['theirs']
    finally:
        case.a.virsh('pool-destroy', 'theirs')
    assert tool(case.b, 'remove', INSTANCES, case.guest.uuid)['ok']


def test_many_copies_at_once_get_along(lab):
    case = Case(lab)
    disk = case.disk_info()['disk']
    roots = [f'/var/tmp/storage{i}' for i in range(4)]
    answers = {}

    def one(root):
        answers[root] = case.prepare(disk, path=root)
    for root in roots:
        os.makedirs(case.b.path(root))
    threads = [threading.Thread(target=one, args=(root,)) for root in roots]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    try:
        assert [answers[r]['ok'] for r in roots] == [True] * 4, answers
        want = digest(case.a.path(f'{BASE}/{disk[0]["backing_file"]}'))
        for r in roots:
            assert digest(case.b.path(f'{r}/_base/{disk[0]["backing_file"]}')) == want
            assert answers[r]['paths'][disk[0]['path']] == f'{r}/{case.guest.uuid}/disk'
        assert case.pools() == []
    finally:
        for r in roots:
            remove_tree(case.b.path(r))


@pytest.mark.parametrize('told', [True, False])
def test_a_full_disk_is_told_with_needed_and_free_and_leaves_nothing(lab, told):
    """Told: refused before anything is made. Not told (a Python source): found while the base is written."""
    case = Case(lab)
    disk = case.disk_info()['disk']
    base = case.a.path(f'{BASE}/big')
    with open(base, 'wb') as f:
        f.write(os.urandom(1 << 20) * 16)
    disk[0].update(backing_file='big', backing_path=f'{BASE}/big', backing_size=16 << 20)
    if not told:
        del disk[0]['backing_size']
    root = '/var/tmp/small'
    case.b.run(['sh', '-c', f'mkdir -p {root} && mount -t tmpfs -o size=8m small {root}'])
    try:
        answer = case.prepare(disk, path=root)
        assert not answer['ok'] and answer['code'] == 'NO_SPACE' and answer['undone'], answer
        assert 'bytes' in answer['error'] and 'free' in answer['error']
        left = case.b.run(['find', root, '-type', 'f']).stdout
        assert left == ''
    finally:
        case.b.run(['umount', root])
        os.unlink(base)


def test_a_source_that_hangs_in_the_copy_is_given_up(lab):
    case = Case(lab)
    disk = case.disk_info()['disk']
    base = case.a.path(f'{BASE}/big')
    with open(base, 'wb') as f:
        for _ in range(24):
            f.write(os.urandom(1 << 20) * 4)
    disk[0].update(backing_file='big', backing_path=f'{BASE}/big', backing_size=96 << 20)
    answer = {}
    lab.shape(100)
    t = threading.Thread(target=lambda: answer.update(case.prepare(disk)))
    service = case.a.services['libvirtd']
    try:
        t.start()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            parts = [f for f in os.listdir(case.b.path(BASE))] if os.path.exists(case.b.path(BASE)) else []
            if parts and os.stat(case.b.path(f'{BASE}/{parts[0]}')).st_blocks * 512 > 1 << 20:
                break
            time.sleep(0.02)
        service.kill(signal.SIGSTOP)
        t0 = time.monotonic()
        t.join(60)
        assert not t.is_alive() and time.monotonic() - t0 < 45
        assert not answer['ok'] and answer['undone'], answer
        assert case.gone()
    finally:
        service.kill(signal.SIGCONT)
        t.join()
        os.unlink(base)
        for pool in case.pools():
            case.a.virsh('pool-destroy', pool)
