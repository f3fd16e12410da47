# SPDX-License-Identifier: Apache-2.0
"""What is refused before anything is touched: one sentence that names what is wanted and what there is."""
import os
import re
import shutil
import signal
import time

import pytest

from namespaces import remove_tree
from scenarios import clean, connected, lines, other_qemu, pair, refused

GONE = '0badc0de-0000-4000-8000-000000000001'


@pytest.fixture
def guest(lab):
    return lab.guest('stays', memory_mb=128)


def test_a_destination_that_cannot_be_is_refused_at_once(lab, guest):
    a, _ = pair(lab)
    for to, words in (('hosta', ['hosta', 'already']), ('not a host', ['not a host', 'destination']),
                      ('../../etc', ['../../etc', 'destination']), ('a' * 300, ['destination']), ('hostb;reboot', ['destination'])):
        before = time.monotonic()
        text = refused(a, guest, to)
        assert all(w in text for w in words), text
        assert time.monotonic() - before < 2
    text = refused(a, guest, uuid=GONE)
    assert GONE in text, text
    clean(lab, guest, 'hosta')


def test_a_destination_without_an_agent_is_named_within_the_timeout(lab, guest):
    a, b = pair(lab)
    before = time.monotonic()
    text = refused(a, guest, 'hostc')
    assert 'hostc' in text and time.monotonic() - before < 20, text
    b.kill(signal.SIGSTOP)
    try:
        before = time.monotonic()
        text = refused(a, guest)
        assert 'hostb' in text and time.monotonic() - before < 15, text
    finally:
        b.kill(signal.SIGCONT)
    b.stop()
    before = time.monotonic()
    text = refused(a, guest)
    assert 'hostb' in text and time.monotonic() - before < 15, text
    b.start()
    connected(b)
    clean(lab, guest, 'hosta')
    # what it was asked while it was away is not done later
    time.sleep(1)
    assert not lines(b, 'unfinished') and guest.where() == ['hosta']


def test_a_guest_that_does_not_run_is_refused(lab, guest):
    a, _ = pair(lab)
    guest.host.virsh('destroy', guest.name)
    text = refused(a, guest)
    assert guest.name in text and 'shutoff' in text, text
    guest.start()
    clean(lab, guest, 'hosta')


def test_too_little_memory_is_refused_with_both_figures(lab, guest):
    a, b = pair(lab)
    b.restart({'DEFAULT': {'reserved_host_memory_mb': 10000000}})
    connected(b)
    text = refused(a, guest)
    assert '128' in text and 'available' in text and 'hostb' in text, text
    clean(lab, guest, 'hosta')


def test_too_little_disk_is_refused_with_both_figures(lab, guest):
    a, b = pair(lab)
    host = lab.hosts['hostb']
    host.run(['mount', '-t', 'tmpfs', '-o', 'size=32m', 'small', '/var/lib/nova/instances'])
    try:
        text = refused(a, guest)
        assert '128' in text and '32' in text and 'free' in text, text
        assert host.run(['ls', '-A', '/var/lib/nova/instances']).stdout == ''
    finally:
        host.run(['umount', '/var/lib/nova/instances'])
    clean(lab, guest, 'hosta')


def test_a_missing_bridge_that_nobody_can_make_is_refused_by_name(lab, guest):
    a, b = pair(lab)
    host, net = lab.hosts['hostb'], lab.networks[0]
    host.ip('link', 'del', net['bridge'])
    try:
        text = refused(a, guest)
        assert net['bridge'] in text and 'missing' in text, text
    finally:
        host.wire_bridges([net])
    clean(lab, guest, 'hosta')


def test_a_directory_in_the_way_is_refused_unless_it_is_an_attempts_leftover(lab, guest):
    a, b = pair(lab)
    directory = lab.hosts['hostb'].path(guest.dir)
    os.makedirs(directory)
    with open(f'{directory}/precious', 'w') as f:
        f.write('not ours')
    text = refused(a, guest)
    assert guest.dir in text and 'leftover' in text, text
    assert os.path.exists(f'{directory}/precious')
    remove_tree(directory)
    clean(lab, guest, 'hosta')


def test_a_domain_in_the_way_is_refused_by_name_and_by_uuid(lab, guest):
    a, b = pair(lab)
    host = lab.hosts['hostb']

    def in_the_way(name, uuid):
        xml = f"<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory>1024</memory><os><type>hvm</type></os></domain>"
        host.run(['virsh', '-q', '-c', 'qemu:///system', 'define', '/dev/stdin'], input=xml)
        try:
            return refused(a, guest)
        finally:
            host.virsh('undefine', name)
    text = in_the_way(guest.name, GONE)
    assert guest.name in text and GONE in text and 'hostb' in text, text
    text = in_the_way('another', guest.uuid)
    assert guest.uuid in text and 'hostb' in text, text
    clean(lab, guest, 'hosta')


def test_an_older_hypervisor_and_one_without_machine_type_cpu_or_firmware_are_refused(lab):
    guest = lab.guest('demanding', memory_mb=128, machine='pc-i440fx-6.2', start=False)
    shutil.copy('/usr/share/seabios/bios-256k.bin', guest.host.path('/var/lib/lab/firmware'))
    xml = guest.xml.replace("<features>", "<cpu mode='custom' match='exact'><model fallback='forbid'>Nehalem</model></cpu><features>")
    xml = xml.replace('<kernel>', "<loader type='rom'>/var/lib/lab/firmware</loader><kernel>")
    guest.host.run(['virsh', '-q', '-c', 'qemu:///system', 'define', '/dev/stdin'], input=xml)
    guest.start()
    a, b = pair(lab)
    text = refused(a, guest)
    assert '/var/lib/lab/firmware' in text and 'firmware' in text, text
    shutil.copy('/usr/share/seabios/bios-256k.bin', lab.hosts['hostb'].path('/var/lib/lab/firmware'))
    with other_qemu(b, lambda t: t.replace('<version>7002', '<version>7001')):
        text = refused(a, guest)
        assert '7.2.' in text and '7.1.' in text and 'older' in text, text
    with other_qemu(b, lambda t: '\n'.join(line for line in t.split('\n') if "'pc-i440fx-6.2'" not in line)):
        text = refused(a, guest)
        assert 'pc-i440fx-6.2' in text and 'pc-i440fx-7.2' in text and 'machine type' in text, text

    def without_sse42(text):
        before, section, after = text.partition("<hostCPU type='tcg'")
        return before + section + re.sub("(<property name='(sse4.2|popcnt)' type='boolean' value=)'true'", "\\1'false'", after)
    with other_qemu(b, without_sse42):
        text = refused(a, guest)
        assert 'Nehalem' in text and 'hypervisor CPU' in text, text
    clean(lab, guest, 'hosta')
    # with all that there it goes, and a newer hypervisor is no reason to refuse
    with other_qemu(b, lambda t: t.replace('<version>7002', '<version>7009')):
        assert a.migrate(guest, 'hostb')['status'] == 'completed'
        assert 'newer' in b.log()
    clean(lab, guest, 'hostb')
    for host in lab.hosts.values():
        os.unlink(host.path('/var/lib/lab/firmware'))
