# SPDX-License-Identifier: Apache-2.0
"""Servers of the bed as the tests use them, and what a bed must not have after a test."""
import itertools
import json
import os
import re

from api import ENDED
from guests import Guest
from lab import NETWORKS
from namespaces import LabError, wait_until

INSTANCES = '/var/lib/nova/instances'
OCTETS = range(10, 76)  # of data0: below are addresses by hand, above is Neutron's pool


class Server(Guest):
    """A server that was booted through the API, with the lab's guest in it: command, rate, verify, probe of guests.Guest."""

    def __init__(self, bed, name, host=None, flavor='tiny', wait=True, hints=None, **more):
        """host: where to boot it (None: the scheduler decides); hints: for the scheduler; more: further keys of the request."""
        self.lab = self.bed = bed
        self.cloud = bed.cloud
        octet = free_octet(bed)
        self.port = self.cloud.port(octet)
        self.ports = [{'id': self.port, 'network': NETWORKS[0], 'mac': f'fa:16:3e:00:00:{octet:02x}', 'ip': f'203.0.113.{octet}',
                       'tap': 'tap' + self.port[:11]}]
        self.display_name, self._command_id, self.known_mib, self.seen_ms = name, 0, {}, 0
        for p in self.ports:
            bed.fabric.ip('neigh', 'replace', p['ip'], 'lladdr', p['mac'], 'dev', p['network']['fabric'], 'nud', 'permanent')
        body = {'name': name, 'imageRef': self.cloud.by_name('image', 'images', 'guest'), 'networks': [{'port': self.port}],
                'flavorRef': self.cloud.by_name('compute', 'flavors', flavor), **more}
        if host:
            body['host'] = host
        self.uuid = self.cloud.post('compute', '/servers', {'server': body, **({'os:scheduler_hints': hints} if hints else {})})['server']['id']
        self.dir = f'{INSTANCES}/{self.uuid}'
        if wait:
            self.cloud.wait_server(self.uuid, 'ACTIVE')
            self.answers()

    def show(self):
        return self.cloud.server(self.uuid)

    @property
    def name(self):
        return self.show()['OS-EXT-SRV-ATTR:instance_name']

    @property
    def api_host(self):
        """Where the API says that it is."""
        return self.show()['OS-EXT-SRV-ATTR:host']

    @property
    def other_host(self):
        return [h for h in self.bed.hosts if h != self.api_host][0]

    def answers(self, seconds=60):
        """Waits until the guest answers."""
        return wait_until(seconds, f'answer of {self.display_name} ({self.uuid}); its console: {self.console()[-300:]}', self._answers)

    def migrate(self, host=None, seconds=180, block='auto'):
        """Live-migrates it and waits; gives the migration's record."""
        return self.cloud.wait_migration(self.uuid, self.cloud.live_migrate(self.uuid, host, block), seconds)

    def wait(self, status, seconds=120):
        return self.cloud.wait_server(self.uuid, status, seconds)

    def delete(self):
        self.cloud.delete_server(self.uuid)
        self.cloud.delete('network', f'/ports/{self.port}', ok=(404,))


def free_octet(bed):
    used = {int(ip['ip_address'].rsplit('.', 1)[1]) for p in bed.cloud.get('network', '/ports')['ports'] for ip in p['fixed_ips']}
    return next(itertools.filterfalse(used.__contains__, OCTETS))


def host_things(bed, host):
    """Domains, taps and instance directories of a host."""
    h = bed.host(host)
    found = h.scan()
    things = {f'domain {name} ({state})' for name, state in found['domains']}
    things |= {f'directory {d}' for d in found['instance_dirs'] if re.match('instances/[0-9a-f]{8}-', d)}
    things |= {f'interface {i.split("@")[0]}' for i in found['links'] if i.startswith('tap')}
    things |= {f'OVS port {p}' for p in found.get('ovs_ports', ()) if p.startswith('tap')}
    things |= {f'journal {j}' for j in found['journal']}
    return things


def leaks(bed):
    """What is in the bed that none of its servers accounts for, as sentences; [] when all is well."""
    cloud, found = bed.cloud, []
    servers = {s['id']: s for s in cloud.servers()}
    where = {s['id']: s['OS-EXT-SRV-ATTR:host'] for s in servers.values()}
    for (consumer, host), resources in cloud.allocations().items():
        if where.get(consumer) != host:
            found.append(f'Placement: {consumer} holds {resources} of {host}, its server is on {where.get(consumer)}')
    held = {c for c, _ in cloud.allocations()}
    found += [f'Placement: server {i} on {h} holds nothing' for i, h in where.items() if h and i not in held]
    expected = {h: set() for h in bed.hosts}
    for s in servers.values():
        host = where[s['id']]
        if host in expected and s['status'] != 'ERROR':
            state = {'ACTIVE': 'running', 'PAUSED': 'paused'}.get(s['status'], 'shut off')
            expected[host] |= {f'domain {s["OS-EXT-SRV-ATTR:instance_name"]} ({state})', f'directory instances/{s["id"]}'}
    for p in cloud.get('network', '/ports')['ports']:
        bindings = cloud.bindings(p['id'])
        if p['device_id'] in servers and p['binding:host_id'] != where[p['device_id']]:
            found.append(f'Neutron: port {p["id"]} is bound to {p["binding:host_id"]}, its server is on {where[p["device_id"]]}')
        found += [f'Neutron: port {p["id"]} has an inactive binding on {h}' for h, status in bindings.items() if status != 'ACTIVE']
        if 'migrating_to' in (p.get('binding:profile') or {}):
            found.append(f'Neutron: port {p["id"]} still has migrating_to {p["binding:profile"]["migrating_to"]}')
        if p['binding:host_id'] in expected and servers.get(p['device_id'], {}).get('status') in ('ACTIVE', 'PAUSED'):
            expected[p['binding:host_id']].add(f'interface tap{p["id"][:11]}')
            if bed.net == 'ovs':
                expected[p['binding:host_id']].add(f'OVS port tap{p["id"][:11]}')
    for host, things in expected.items():
        here = host_things(bed, host)
        found += [f'{host}: {t} belongs to no server' for t in sorted(here - things)]
        found += [f'{host}: {t} is missing' for t in sorted(things - here)]
    going = [m for m in cloud.get('compute', '/os-migrations')['migrations'] if m['status'] not in (*ENDED, 'done', 'confirmed', 'reverted')]
    found += [f'Nova: migration {m["id"]} of {m["instance_uuid"]} is {m["status"]}' for m in going]
    return found


def scrub(bed):
    """Puts the bed in order after a test that failed; gives what it had to remove."""
    cloud, removed = bed.cloud, []
    for s in cloud.servers():
        removed.append(f'server {s["id"]} ({s["status"]})')
        cloud.action(s['id'], **{'os-resetState': {'state': 'error'}})
        try:
            cloud.delete_server(s['id'], 30)
        except LabError as e:
            removed[-1] += f': {e}'
    for name, h in bed.hosts.items():
        for domain in h.virsh('list', '--all', '--uuid').split():
            removed.append(f'domain {domain} of {name}')
            h.virsh('destroy', domain, check=False)
            h.virsh('undefine', domain, '--managed-save', check=False)
        for d in os.listdir(h.path(INSTANCES)):
            if len(d) == 36:
                removed.append(f'directory {d} of {name}')
                h.run(['rm', '-rf', f'{INSTANCES}/{d}'])
        journal = h.path('/var/lib/computed/journal')
        for f in [f for f in os.listdir(journal) if f.endswith('.json')] if os.path.isdir(journal) else []:
            removed.append(f'journal {f} of {name}, whose agent is stopped')
            bed.compute_stop(name)
            os.unlink(os.path.join(journal, f))
    for (consumer, host), _ in cloud.allocations().items():
        removed.append(f'allocations of {consumer} on {host}')
        cloud.delete('placement', f'/allocations/{consumer}', ok=(404,))
    for p in cloud.get('network', '/ports')['ports']:
        cloud.delete('network', f'/ports/{p["id"]}', ok=(404,))
    return removed


# --- commands of bed.py -----------------------------------------------------------------------------


def find(bed, word):
    found = [s for s in bed.cloud.servers() if word in (s['id'], s['name'])]
    if len(found) != 1:
        raise LabError(f'{len(found)} servers are {word!r}')
    return found[0]


def command_boot(bed, host=None, name='guest'):
    s = Server(bed, name, host)
    print(f'{s.uuid} {s.name} on {s.api_host}, {s.ip}')


def command_migrate(bed, word, host=None):
    server = find(bed, word)
    ident = bed.cloud.live_migrate(server['id'], host)
    m = bed.cloud.wait_migration(server['id'], ident)
    s = bed.cloud.server(server['id'])
    print(f'migration {m["id"]} from {m["source_compute"]} to {m["dest_compute"]}: {m["status"]}; server {s["status"]} on {s["OS-EXT-SRV-ATTR:host"]}')
    if s.get('fault'):
        print(json.dumps(s['fault'], indent=1))


def command_delete(bed, word):
    server = find(bed, word)
    ports = [p['id'] for p in bed.cloud.get('network', f'/ports?device_id={server["id"]}')['ports']]
    bed.cloud.delete_server(server['id'])
    for p in ports:
        bed.cloud.delete('network', f'/ports/{p}', ok=(404,))


def command_leaks(bed):
    found = leaks(bed)
    print('\n'.join(found) or 'none')
