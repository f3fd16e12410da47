# SPDX-License-Identifier: Apache-2.0
"""What a fresh cloud is filled with: service users and endpoints, images, flavors and networks."""
import os
import subprocess

from configs import CONTROL, PASSWORD, REGION
from guests import base_image, boot_files
from lab import NETWORKS
from namespaces import wait_until

SERVICES = (('placement', 'placement', ':8778'), ('glance', 'image', ':9292'), ('neutron', 'network', ':9696'), ('nova', 'compute', ':8774/v2.1'))
# name, MiB of memory, GiB of disk; Tempest uses the first two
FLAVORS = (('1', 'tiny', 256, 1), ('2', 'tiny2', 320, 1), ('3', 'medium', 512, 1), ('4', 'big', 1024, 1))


def identity(cloud):
    roles = {r['name']: r['id'] for r in cloud.get('identity', '/roles')['roles']}
    project = cloud.post('identity', '/projects', {'project': {'name': 'service', 'domain_id': 'default'}})['project']['id']
    for name, kind, path in SERVICES:
        user = cloud.post('identity', '/users', {'user': {'name': name, 'password': PASSWORD, 'domain_id': 'default',
                                                          'default_project_id': project}})['user']['id']
        for role in ('admin', 'service'):
            if role in roles:
                cloud.put('identity', f'/projects/{project}/users/{user}/roles/{roles[role]}', None)
        service = cloud.post('identity', '/services', {'service': {'name': name, 'type': kind}})['service']['id']
        for interface in ('public', 'internal', 'admin'):
            cloud.post('identity', '/endpoints', {'endpoint': {'service_id': service, 'interface': interface, 'region_id': REGION,
                                                               'url': f'http://{CONTROL}{path}'}})


def image(cloud, name, path, disk_format, **properties):
    made = cloud.post('image', '/images', {'name': name, 'container_format': 'bare', 'disk_format': disk_format, 'visibility': 'public',
                                           **properties})['id']
    with open(path, 'rb') as f:
        cloud.call('PUT', 'image', f'/images/{made}/file', data=f, headers={'Content-Type': 'application/octet-stream'})
    return made


def disk_image():
    """The lab's base image as qcow2."""
    raw = base_image()
    path = raw.replace('.raw', '.qcow2')
    if not os.path.exists(path):
        subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, f'{path}.{os.getpid()}'], check=True, timeout=60)
        os.rename(f'{path}.{os.getpid()}', path)
    return path


def fill(cloud):
    kernel, initrd = boot_files()
    # bare/raw: Nova's disk image check refuses the formats aki and ari when it fetches them for a migration
    boot = {'kernel_id': image(cloud, 'kernel', kernel, 'raw'), 'ramdisk_id': image(cloud, 'initrd', initrd, 'raw'),
            'os_command_line': 'console=ttyS0 quiet panic=1'}
    for name in ('guest', 'guest2'):
        image(cloud, name, disk_image(), 'qcow2', **boot)
    for ident, name, ram, disk in FLAVORS:
        cloud.post('compute', '/flavors', {'flavor': {'id': ident, 'name': name, 'ram': ram, 'disk': disk, 'vcpus': 1}})
    for i, n in enumerate(NETWORKS):
        network = cloud.post('network', '/networks', {'network': {
            'name': n['fabric'], 'shared': True, 'provider:network_type': 'flat', 'provider:physical_network': f'physnet{i}',
            'port_security_enabled': False}})['network']['id']
        cloud.post('network', '/subnets', {'subnet': {
            'name': n['fabric'], 'network_id': network, 'ip_version': 4, 'cidr': f'203.0.113.{128 * i}/25', 'enable_dhcp': False,
            'gateway_ip': None, 'allocation_pools': [{'start': f'203.0.113.{128 * i + 80}', 'end': f'203.0.113.{128 * i + 120}'}]}})
    # the bed is one project of an administrator: no limits
    cloud.put('compute', f'/os-quota-sets/{cloud.project}', {'quota_set': {'instances': -1, 'cores': -1, 'ram': -1}})


def wait_hosts(cloud, hosts):
    wait_until(120, 'two compute services up', lambda: {h for h, s in cloud.services().items() if s['state'] == 'up'} >= set(hosts), 0.25)
    wait_until(90, 'two network agents', lambda: len({a['host'] for a in cloud.get('network', '/agents')['agents'] if a['alive']}) >= 2, 0.25)


def wait_resources(cloud):
    wait_until(60, 'two hypervisors', lambda: len(cloud.get('compute', '/os-hypervisors')['hypervisors']) == 2, 0.25)
    wait_until(60, 'two resource providers', lambda: len(cloud.providers()) == 2, 0.25)
