# SPDX-License-Identifier: Apache-2.0
"""Guests that begin here: their XML and their life, against a real libvirtd and QEMU.

Without it a guest might have XML that libvirt refuses, devices that never go, or a snapshot that is no image."""
import json
import os
import re
import time

import pytest

from guests import BOOT, INSTANCES, emulator
from lab import SOURCE
from namespaces import LabError, wait_until
from test_virt_provider import LOOP_LIMIT_US, Tool


@pytest.fixture
def tool(lab):
    tool = Tool(lab.hosts['hosta'])
    yield tool
    assert tool.stop() == 0


def put(host, name, text):
    """A file that both sides see; virt_tool's commands are lines of words."""
    path = f'{BOOT}/{name}'
    with open(host.path(path), 'w') as f:
        f.write(text)
    return path


def good(answer):
    assert 'error' not in answer, answer
    return answer


def build(tool, guest):
    """The guest's XML as this agent makes it, in place of the lab's own definition."""
    guest.host.virsh('undefine', guest.uuid)
    port = guest.ports[0]
    answer = good(tool.call('build', guest.uuid, name=guest.name, memory=guest.memory_mb, kernel=f'{BOOT}/kernel',
                            initrd=f'{BOOT}/ramdisk', disk=f'{guest.dir}/disk', log=f'{guest.dir}/console.log', mac=port['mac'],
                            tap=port['tap'], bridge=port['network']['bridge'], emulator=emulator(), instances=INSTANCES))
    return put(guest.host, 'guest.xml', answer['xml'])


def state(tool, guest):
    return good(tool.call('state', guest.uuid))['state']


def interfaces(tool, guest):
    return [i['mac'] for i in good(tool.call('guest', guest.uuid))['guest']['interfaces']]


def test_a_guest_is_made_lives_and_goes(lab, tool):
    guest = lab.guest(start=False, nics=2)
    host = guest.host
    xml = build(tool, guest)
    good(tool.call('create', '-', file=xml, paused=1))
    assert state(tool, guest) == 'paused'
    tool.wait('event', uuid=guest.uuid, event='started')
    tool.wait('event', uuid=guest.uuid, event='paused')
    good(tool.call('resume', guest.uuid))
    wait_until(60, 'answer of the guest', guest._answers)

    assert good(tool.call('consoles', guest.uuid))['vnc'] >= 5900
    d = good(tool.call('diagnostics', guest.uuid))['diagnostics']
    assert d['state'] == 'running' and d['num_cpus'] == d['num_disks'] == d['num_nics'] == 1, d
    assert d['nic_details'][0]['mac_address'] == guest.ports[0]['mac'] and d['nic_details'][0]['tx_packets'] > 0, d
    assert d['disk_details'][0]['read_bytes'] > 0 and d['memory_details']['maximum'] == guest.memory_mb, d

    # A port comes, and goes when the guest has let it go.
    port = guest.ports[1]
    two = put(host, 'port.xml', good(tool.call('build_port', '-', mac=port['mac'], tap=port['tap'], bridge=port['network']['bridge']))['xml'])
    good(tool.call('attach', guest.uuid, file=two))
    assert port['mac'] in interfaces(tool, guest)
    assert port['mac'] in host.virsh('dumpxml', '--inactive', guest.uuid)
    took = good(tool.call('detach', guest.uuid, file=two, within=30))['took_us']
    assert port['mac'] not in interfaces(tool, guest) and took < 20e6, took
    assert port['mac'] not in host.virsh('dumpxml', '--inactive', guest.uuid)
    good(tool.call('detach', guest.uuid, file=two, within=1))

    # One that does not listen: the call ends in time, and the next one finds it gone or makes it so.
    good(tool.call('attach', guest.uuid, file=two))
    good(tool.call('suspend', guest.uuid))
    refused = tool.call('detach', guest.uuid, file=two, within=1)
    assert refused.get('code') == 'TIMEOUT', refused
    good(tool.call('resume', guest.uuid))
    good(tool.call('detach', guest.uuid, file=two, within=30))
    assert port['mac'] not in interfaces(tool, guest)

    # A copy of its disk while it runs.
    for format in ('qcow2', 'raw'):
        copy = f'{BOOT}/copy.{format}'
        good(tool.call('copy_disk', guest.uuid, target='vda', path=copy, format=format))
        info = json.loads(host.run(['qemu-img', 'info', '--output=json', copy]).stdout)
        assert info['format'] == format and info['virtual-size'] == 128 << 20 and 'backing-filename' not in info, info
        os.unlink(host.path(copy))
    assert 'mirror' not in good(tool.call('xml', guest.uuid))['xml']
    assert 'error' in tool.call('copy_disk', guest.uuid, target='vdz', path=f'{BOOT}/x', format='raw')

    # Saved, and as it was afterwards; then off, on and off.
    good(tool.call('save', guest.uuid))
    assert state(tool, guest) == 'shutoff'
    good(tool.call('start', guest.uuid))
    good(tool.call('start', guest.uuid))
    wait_until(30, 'answer of the guest', guest._answers)
    guest.verify()
    good(tool.call('shutdown', guest.uuid))
    since = time.monotonic_ns() // 1000
    good(tool.call('power_off', guest.uuid))
    tool.wait('event', uuid=guest.uuid, event='stopped', since=since)
    good(tool.call('power_off', guest.uuid))
    assert tool.call('shutdown', guest.uuid)['code'] == 'INSTANCE_STATE'
    good(tool.call('start', guest.uuid))
    good(tool.call('reboot', guest.uuid))
    good(tool.call('save_remove', guest.uuid))
    good(tool.call('destroy', guest.uuid))
    assert state(tool, guest) == 'none'
    assert tool.longest_us() < LOOP_LIMIT_US


def test_the_richest_guest_is_one_that_libvirt_takes(lab, tool):
    with open(os.path.join(SOURCE, 'tests', 'data', 'build', 'rich.xml')) as f:
        xml = f.read()
    uuid = re.search('<uuid>(.*)</uuid>', xml).group(1)
    # This machine may have neither KVM nor UEFI; SPICE and qxl are not in every QEMU.
    xml = xml.replace("type=\"kvm\"", "type=\"qemu\"").replace('/usr/bin/qemu-system-x86_64', emulator())
    if not os.path.isdir('/usr/share/OVMF'):
        xml = re.sub(r' firmware="efi"', '', re.sub(r'<firmware>.*?</firmware>', '', xml, flags=re.S))
    if 'spice' not in lab.hosts['hosta'].virsh('domcapabilities', '--virttype', 'qemu'):
        xml = re.sub(r'<graphics type="spice".*?</graphics>|<channel type="spicevmc">.*?</channel>', '', xml, flags=re.S)
        xml = xml.replace('type="qxl"', 'type="vga"')
    path = put(lab.hosts['hosta'], 'rich.xml', xml)
    try:
        good(tool.call('define', '-', file=path))
        guest = good(tool.call('guest', uuid))['guest']
        assert guest['name'] == 'instance-0000002b' and len(guest['disks']) == 3 and len(guest['interfaces']) == 2
    finally:
        tool.call('destroy', uuid)


def test_a_host_tells_what_it_has(lab, tool):
    r = good(tool.call('resources'))
    assert r['cpus'] >= 1 and r['memory_mb'] > r['memory_used_mb'] > 0 and r['local_gb'] > 0, r
    assert r['type'] == 'QEMU' and r['hypervisor_version'] > 4002000 and r['guests'] == 0
    assert ['x86_64', 'qemu', 'hvm'] in r['supported_instances'] or os.uname().machine != 'x86_64'
    assert r['cpu_info']['arch'] == os.uname().machine and r['cpu_info']['topology']['cores'] >= 1
    for trait in ('COMPUTE_NODE', 'COMPUTE_STORAGE_BUS_VIRTIO', 'COMPUTE_NET_VIF_MODEL_VIRTIO', 'COMPUTE_IMAGE_TYPE_QCOW2'):
        assert trait in r['traits'], r['traits']
    assert r['traits'] == sorted(set(r['traits']))
    assert 'load average' in r['uptime']
    print(json.dumps(r, indent=1))
