# SPDX-License-Identifier: Apache-2.0
"""The life of one server on one host, as Nova's API orders it."""
import re
import time

import pytest

from api import ENDED, ApiError
from lab import NETWORKS
from namespaces import LabError, wait_until
from servers import INSTANCES, Server, host_things


@pytest.fixture
def server(fleet):
    return Server(fleet.bed, 'life', 'hosta')


def boots(server):
    """How many times the guest has started, by its uptime."""
    return server.status()['uptime_ms']


def test_a_server_boots_and_the_guest_answers_a_ping(fleet, server):
    shown = server.show()
    assert shown['OS-EXT-STS:power_state'] == 1 and shown['OS-EXT-SRV-ATTR:host'] == 'hosta'
    assert shown['OS-EXT-SRV-ATTR:hypervisor_hostname'] == 'hosta' and shown['OS-SRV-USG:launched_at']
    assert [a['addr'] for n in shown['addresses'].values() for a in n] == [server.ip]
    with server.probe(icmp=True, interval_us=10000) as probe:
        time.sleep(1)
    assert probe.result['lost'] == 0
    assert ('create', 'compute__do_build_and_run_instance', 'Success') in fleet.cloud.events(server.uuid)
    assert fleet.cloud.allocations() == {(server.uuid, 'hosta'): {'VCPU': 1, 'MEMORY_MB': 256, 'DISK_GB': 1}}
    assert fleet.cloud.bindings(server.port) == {'hosta': 'ACTIVE'}
    assert server.verify()['ok']


def test_a_deleted_server_leaves_nothing_on_its_host(fleet, server):
    server.delete()
    wait_until(15, 'empty host', lambda: not host_things(fleet.bed, 'hosta'))
    assert not fleet.cloud.allocations()


def test_a_server_stops_and_starts_again(fleet, server):
    fleet.cloud.action(server.uuid, **{'os-stop': None})
    assert server.wait('SHUTOFF')['OS-EXT-STS:power_state'] == 4
    assert server.where() == []
    fleet.cloud.action(server.uuid, **{'os-start': None})
    assert server.wait('ACTIVE')['OS-EXT-STS:power_state'] == 1
    server.seen_ms = 0
    assert server.answers() and server.where() == ['hosta']


@pytest.mark.parametrize('how', ['SOFT', 'HARD'])
def test_a_reboot_starts_the_guest_anew(fleet, server, how):
    time.sleep(1)
    before = boots(server)
    t0 = time.monotonic()
    fleet.cloud.action(server.uuid, reboot={'type': how})
    server.wait('ACTIVE')
    server.seen_ms = 0
    wait_until(60, 'guest that has started anew', lambda: server._answers() and boots(server) < before + (time.monotonic() - t0) * 1000 - 500)
    assert server.where() == ['hosta']


def test_the_console_output_is_what_the_guest_wrote(fleet, server):
    out = fleet.cloud.action(server.uuid, **{'os-getConsoleOutput': {}})['output']
    assert 'GUEST-UP' in out and 'GUEST-READY' in out
    last = fleet.cloud.action(server.uuid, **{'os-getConsoleOutput': {'length': 2}})['output']
    assert last == '\n'.join(out.split('\n')[-2:])


def test_a_paused_guest_stands_still_and_goes_on(fleet, server):
    fleet.cloud.action(server.uuid, pause=None)
    assert server.wait('PAUSED')['OS-EXT-STS:power_state'] == 3
    with pytest.raises(LabError):
        server.status(timeout=2)
    fleet.cloud.action(server.uuid, unpause=None)
    assert server.wait('ACTIVE')['OS-EXT-STS:power_state'] == 1
    assert server.status(30) and not server.restarted


def test_a_suspended_guest_goes_on_where_it_was(fleet, server):
    server.rate(hot=8, dirty=4)
    fleet.cloud.action(server.uuid, suspend=None)
    assert server.wait('SUSPENDED')['OS-EXT-STS:power_state'] == 4
    assert server.where() == []
    fleet.cloud.action(server.uuid, resume=None)
    server.wait('ACTIVE')
    assert server.answers() and server.verify()['ok']


def test_interfaces_come_and_go(fleet, server):
    network = fleet.cloud.by_name('network', 'networks', NETWORKS[1]['fabric'])
    made = fleet.cloud.post('compute', f'/servers/{server.uuid}/os-interface', {'interfaceAttachment': {'net_id': network}})
    port = made['interfaceAttachment']['port_id']
    tap = 'tap' + port[:11]
    server.wait('ACTIVE')
    assert tap in fleet.bed.hosts['hosta'].virsh('dumpxml', server.name)
    wait_until(30, 'active port', lambda: fleet.cloud.get('network', f'/ports/{port}')['port']['status'] == 'ACTIVE')
    assert fleet.cloud.bindings(port) == {'hosta': 'ACTIVE'}
    assert len(fleet.cloud.get('compute', f'/servers/{server.uuid}/os-interface')['interfaceAttachments']) == 2
    fleet.cloud.delete('compute', f'/servers/{server.uuid}/os-interface/{port}')
    wait_until(60, 'detached interface', lambda: len(
        fleet.cloud.get('compute', f'/servers/{server.uuid}/os-interface')['interfaceAttachments']) == 1, 0.5)
    wait_until(20, 'end of the tap', lambda: f'interface {tap}' not in host_things(fleet.bed, 'hosta'), 0.5)
    assert tap not in fleet.bed.hosts['hosta'].virsh('dumpxml', server.name)
    assert server.status()


def test_diagnostics_and_uptime_are_told(fleet, server):
    d = fleet.cloud.get('compute', f'/servers/{server.uuid}/diagnostics')
    assert d['state'] == 'running' and d['driver'] == 'libvirt' and d['num_nics'] == 1 and d['nic_details'][0]['mac_address'] == server.ports[0]['mac']
    for h in fleet.cloud.get('compute', '/os-hypervisors/detail')['hypervisors']:
        assert h['state'] == 'up' and h['hypervisor_type'] == 'QEMU' and re.search(r'\bup\b', h['uptime'] or '')


@pytest.mark.long
def test_a_snapshot_becomes_an_image_from_which_a_server_boots(fleet, server):
    fleet.cloud.action(server.uuid, createImage={'name': 'snap'})
    image = wait_until(60, 'active image', lambda: next(
        (i for i in fleet.cloud.get('image', '/images')['images'] if i['name'] == 'snap' and i['status'] == 'active'), None), 0.5)
    try:
        server.wait('ACTIVE')
        assert image['size'] > 0 and server.answers()
        copy = Server(fleet.bed, 'copy', 'hosta', imageRef=image['id'])
        assert copy.verify()['ok']
        copy.delete()
    finally:
        fleet.cloud.delete('image', f'/images/{image["id"]}', ok=(404,))


@pytest.mark.long
def test_a_rebuilt_server_starts_from_its_image(fleet, server):
    before = server.status()['uptime_ms']
    time.sleep(2)
    fleet.cloud.action(server.uuid, rebuild={'imageRef': fleet.cloud.by_name('image', 'images', 'guest2')})
    wait_until(20, 'rebuild', lambda: server.show()['status'] == 'REBUILD' or server.show()['OS-EXT-STS:task_state'] is None, 0.1)
    server.wait('ACTIVE')
    server.seen_ms = 0
    server.answers()
    assert server.verify()['ok'] and server.where() == ['hosta'] and server.status()['uptime_ms'] < before + 60000


def test_a_server_with_a_config_drive_gets_one(fleet):
    server = Server(fleet.bed, 'drive', 'hosta', config_drive=True, metadata={'colour': 'blue'})
    assert server.show()['config_drive'] == 'True'
    xml = fleet.bed.hosts['hosta'].virsh('dumpxml', server.name)
    assert "device='cdrom'" in xml and f'{INSTANCES}/{server.uuid}/disk.config' in xml
    label = fleet.bed.hosts['hosta'].run(['blkid', '-p', '-o', 'value', '-s', 'LABEL', f'{INSTANCES}/{server.uuid}/disk.config']).stdout
    assert label.strip() == 'config-2'


def test_a_server_that_cannot_be_built_says_why_and_leaves_nothing(fleet):
    """The image lacks its ramdisk's file: no host can build it."""
    cloud = fleet.cloud
    kernel = cloud.by_name('image', 'images', 'kernel')
    empty = cloud.post('image', '/images', {'name': 'hollow', 'container_format': 'bare', 'disk_format': 'qcow2', 'kernel_id': kernel})['id']
    try:
        cloud.call('PUT', 'image', f'/images/{empty}/file', data=b'this is no disk', headers={'Content-Type': 'application/octet-stream'})
        server = Server(fleet.bed, 'broken', None, imageRef=empty, wait=False)
        shown = server.wait('ERROR')
        assert shown['fault']['message'] and shown['fault']['code'] in (400, 500)
        assert not cloud.allocations()
        server.delete()
    finally:
        cloud.delete('image', f'/images/{empty}', ok=(404,))


@pytest.fixture
def read_only_disk(fleet):
    """hosta's instances_path has become read-only, as a file system with an error does. Its agent is a fresh one, so that the
    scheduler holds no failed build against it."""
    host = fleet.bed.hosts['hosta']
    fleet.agent('hosta', again=True)
    host.run(['mount', '--bind', INSTANCES, INSTANCES])
    try:
        host.run(['mount', '-o', 'remount,bind,ro', INSTANCES])
        yield host
    finally:
        host.run(['umount', '-l', INSTANCES])
        fleet.agent('hosta', again=True)


def hypervisors(cloud):
    """{host name: hypervisor} with the figures that later API versions leave to Placement."""
    found = cloud.get('compute', '/os-hypervisors/detail', headers={'OpenStack-API-Version': 'compute 2.87'})['hypervisors']
    return {h['hypervisor_hostname']: h for h in found}


def test_a_build_that_fails_on_one_host_ends_active_on_the_other(fleet, read_only_disk):
    """The scheduler takes hosta first, since hostb has a server already."""
    cloud = fleet.cloud
    Server(fleet.bed, 'filler', 'hostb')
    wait_until(30, 'figures of hostb with its server', lambda: hypervisors(cloud)['hostb']['running_vms'] == 1, 0.2)
    server = Server(fleet.bed, 'wanderer')
    assert server.api_host == 'hostb' and server.where() == ['hostb'] and server.verify()['ok']
    actions = f'/servers/{server.uuid}/os-instance-actions'
    create = [a for a in cloud.get('compute', actions)['instanceActions'] if a['action'] == 'create'][0]
    assert create['message'] is None and not server.show().get('fault')
    events = cloud.get('compute', f'{actions}/{create["request_id"]}')['instanceAction']['events']
    assert sorted(e['host'] for e in events if e['event'] == 'compute__do_build_and_run_instance') == ['hosta', 'hostb']
    assert cloud.bindings(server.port) == {'hostb': 'ACTIVE'}
    assert [host for consumer, host in cloud.allocations() if consumer == server.uuid] == ['hostb']
    assert not host_things(fleet.bed, 'hosta')


@pytest.fixture
def apart(fleet):
    """Scheduler hints that put servers into one group with anti-affinity."""
    group = fleet.cloud.post('compute', '/os-server-groups', {'server_group': {'name': 'apart', 'policy': 'anti-affinity'}})['server_group']['id']
    yield {'group': group}
    fleet.cloud.delete('compute', f'/os-server-groups/{group}')


def test_a_host_refuses_what_the_scheduler_let_pass_against_a_server_group(fleet, apart):
    """A host named with the zone passes all filters, and so does a forced live migration: only the host looks again."""
    cloud = fleet.cloud
    one = Server(fleet.bed, 'one', 'hosta', hints=apart)
    second = Server(fleet.bed, 'second', wait=False, hints=apart, availability_zone='nova:hosta')
    assert 'Anti-affinity' in second.wait('ERROR')['fault']['message']
    assert list(cloud.allocations()) == [(one.uuid, 'hosta')] and one.where() == ['hosta']
    second.delete()
    other = Server(fleet.bed, 'other', 'hostb', hints=apart)
    before = {m['id'] for m in cloud.migrations(one.uuid)}
    cloud.post('compute', f'/servers/{one.uuid}/action', {'os-migrateLive': {'host': 'hostb', 'block_migration': 'auto', 'force': True}},
               headers={'OpenStack-API-Version': 'compute 2.67'})
    record = wait_until(60, 'end of the forced migration', lambda: next(
        (m for m in cloud.migrations(one.uuid) if m['id'] not in before and m['status'] in ENDED), None), 0.2)
    assert record['status'] == 'error'
    assert one.wait('ACTIVE')['OS-EXT-SRV-ATTR:host'] == 'hosta' and one.status() and one.where() == ['hosta']
    assert other.api_host == 'hostb' and sorted(cloud.allocations()) == sorted([(one.uuid, 'hosta'), (other.uuid, 'hostb')])


@pytest.mark.long
def test_a_host_that_nova_does_not_know_is_mapped_by_discover_hosts_alone(fleet):
    """hosta is taken out of Nova with all its records, loses its identity, and comes as a new host."""
    bed, cloud, host = fleet.bed, fleet.cloud, fleet.bed.hosts['hosta']
    bed.compute_stop('hosta')
    former, provider = cloud.services()['hosta']['id'], cloud.providers()['hosta']
    cloud.delete('compute', f'/os-services/{former}')
    host.run(['rm', '-f', '/var/lib/nova/compute_id'])
    try:
        assert 'hosta' not in cloud.services() and 'hosta' not in cloud.providers()
        fleet.agent('hosta', again=True)
        wait_until(30, 'resource provider of the new host', lambda: 'hosta' in cloud.providers(), 0.2)
        assert cloud.services()['hosta']['id'] != former and cloud.providers()['hosta'] != provider
        assert 'hosta' not in hypervisors(cloud)  # it belongs to no cell yet
    finally:
        bed.control.run(['nova-manage', 'cell_v2', 'discover_hosts'], timeout=60)
    shown = wait_until(30, 'hypervisor of the new host', lambda: hypervisors(cloud).get('hosta'), 0.2)
    uuid = cloud.providers()['hosta']
    held = cloud.get('placement', f'/resource_providers/{uuid}/inventories')['inventories']
    assert (shown['id'], shown['state'], shown['status'], shown['hypervisor_type']) == (uuid, 'up', 'enabled', 'QEMU')
    assert (shown['host_ip'], shown['service']['host']) == (host.address, 'hosta')
    assert (shown['vcpus'], shown['memory_mb'], shown['local_gb']) == tuple(held[c]['total'] for c in ('VCPU', 'MEMORY_MB', 'DISK_GB'))
    assert min(shown['vcpus'], shown['memory_mb'], shown['local_gb']) > 0 and held['MEMORY_MB']['reserved'] == 512
    assert (shown['vcpus_used'], shown['memory_mb_used'], shown['running_vms']) == (0, 512, 0)
    if fleet.kind == 'computed':  # Zed's nova-compute has no such file
        assert host.run(['cat', '/var/lib/nova/compute_id']).stdout.strip() == uuid
    server = Server(bed, 'first', 'hosta')
    assert server.where() == ['hosta'] and server.verify()['ok']
    assert cloud.allocations() == {(server.uuid, 'hosta'): {'VCPU': 1, 'MEMORY_MB': 256, 'DISK_GB': 1}}


def test_a_disabled_host_gets_no_servers(fleet):
    fleet.cloud.set_service('hosta', status='disabled', disabled_reason='test')
    try:
        shown = fleet.cloud.services()['hosta']
        assert (shown['status'], shown['disabled_reason']) == ('disabled', 'test')
        wait_until(30, 'trait COMPUTE_STATUS_DISABLED', lambda: 'COMPUTE_STATUS_DISABLED' in fleet.cloud.get(
            'placement', f'/resource_providers/{fleet.cloud.providers()["hosta"]}/traits')['traits'])
        assert Server(fleet.bed, 'elsewhere').api_host == 'hostb'
    finally:
        fleet.cloud.set_service('hosta', status='enabled')
    wait_until(30, 'end of the trait', lambda: 'COMPUTE_STATUS_DISABLED' not in fleet.cloud.get(
        'placement', f'/resource_providers/{fleet.cloud.providers()["hosta"]}/traits')['traits'])


def test_a_guest_that_ends_by_itself_is_seen(fleet, server):
    fleet.bed.hosts['hosta'].virsh('destroy', server.name)
    assert server.wait('SHUTOFF', 60)['OS-EXT-STS:power_state'] == 4
    fleet.cloud.action(server.uuid, **{'os-start': None})
    server.wait('ACTIVE')


@pytest.mark.parametrize('resume', [True, False])
def test_a_host_that_rebooted_starts_its_guests_again_if_it_is_to(bare_fleet, resume):
    """resume_guests_state_on_host_boot; without it the server is shown as it is, shut off."""
    fleet = bare_fleet
    fleet.agents()
    server = Server(fleet.bed, 'rebooted', 'hosta')
    fleet.bed.compute_stop('hosta')
    fleet.bed.hosts['hosta'].virsh('destroy', server.name)
    fleet.agent('hosta', extra={'DEFAULT': {'resume_guests_state_on_host_boot': resume}})
    if resume:
        server.seen_ms = 0
        assert server.answers() and server.wait('ACTIVE')['OS-EXT-STS:power_state'] == 1
        assert server.where() == ['hosta'] and server.verify()['ok']
    else:
        assert server.wait('SHUTOFF', 60)['OS-EXT-STS:power_state'] == 4 and server.where() == []


@pytest.mark.long
@pytest.mark.parametrize('left', ['off', 'running'])
def test_guests_of_a_dead_host_are_evacuated(fleet, server, left):
    """And the host that comes back does away with what it has of them: one that died whole, and one whose guests ran on."""
    bed = fleet.bed
    bed.compute_stop('hosta')
    if left == 'off':
        bed.hosts['hosta'].virsh('destroy', server.name)
    assert any(t.startswith('domain ') for t in host_things(bed, 'hosta'))
    fleet.cloud.set_service('hosta', forced_down=True)
    try:
        fleet.cloud.action(server.uuid, evacuate={})
        server.wait('ACTIVE')
        server.seen_ms = 0
        assert server.api_host == 'hostb' and 'hostb' in server.where()
        assert {h for c, h in fleet.cloud.allocations() if c == server.uuid} == {'hosta', 'hostb'}
        if left == 'off':
            assert server.answers() and server.where() == ['hostb']
    finally:  # Nova takes a host back once its agent has done away with what was evacuated
        fleet.agent('hosta', again=True, wait=False)
        wait_until(60, 'completed evacuation', lambda: all(m['status'] == 'completed' for m in fleet.cloud.migrations(server.uuid)), 0.5)
        fleet.cloud.set_service('hosta', forced_down=False)
    assert [m['migration_type'] for m in fleet.cloud.migrations(server.uuid)] == ['evacuation']
    wait_until(60, 'hosta up', lambda: fleet.cloud.services()['hosta']['state'] == 'up', 0.5)
    assert not host_things(bed, 'hosta')  # domain, directory, taps: all went before the record was completed
    assert fleet.cloud.allocations() == {(server.uuid, 'hostb'): {'VCPU': 1, 'MEMORY_MB': 256, 'DISK_GB': 1}}
    assert fleet.cloud.bindings(server.port) == {'hostb': 'ACTIVE'}
    assert server.where() == ['hostb'] and server.answers()
    with server.probe(icmp=True, interval_us=10000) as probe:
        time.sleep(1)
    assert probe.result['lost'] == 0
    assert server.verify()['ok'] and server.show()['status'] == 'ACTIVE'


def test_a_request_that_makes_no_sense_is_refused(fleet, server):
    for action in ({'unpause': None}, {'resume': None}, {'os-start': None}):
        with pytest.raises(ApiError) as refused:
            fleet.cloud.action(server.uuid, **action)
        assert refused.value.status == 409
    assert server.show()['OS-EXT-STS:task_state'] is None
