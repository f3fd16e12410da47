# SPDX-License-Identifier: Apache-2.0
"""The bed's OpenStack APIs over plain HTTP, from outside the namespaces, without the clients' start-up times.

    cloud = Cloud(bed)
    cloud.get('compute', '/servers/detail?all_tenants=1')['servers']
"""
import json
import threading
import time

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

from configs import CONTROL, PASSWORD
from namespaces import LabError, wait_until

URL = {'identity': f'http://{CONTROL}:5000/v3', 'compute': f'http://{CONTROL}:8774/v2.1', 'image': f'http://{CONTROL}:9292/v2',
       'network': f'http://{CONTROL}:9696/v2.0', 'placement': f'http://{CONTROL}:8778'}
VERSIONS = {'OpenStack-API-Version': 'compute 2.93, placement 1.36'}
ENDED = ('completed', 'failed', 'error', 'cancelled')


class ApiError(LabError):
    def __init__(self, method, url, response):
        self.status = response.status_code
        super().__init__(f'{method} {url}: {response.status_code} {response.text[:600]}')


def adapter(box):
    """An adapter of `requests` whose connections are made in a box."""
    class Connection(HTTPConnection):
        def _new_conn(self):
            s = box.socket()
            s.settimeout(60)
            s.connect((self.host, self.port))
            return s

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args, **kw):
            super().init_poolmanager(*args, **kw)
            self.poolmanager.pool_classes_by_scheme = {'http': Pool}
    return Adapter(max_retries=0)


class Cloud:
    """One user's access. Every call gives the answer's JSON ({} where there is none), or raises ApiError."""

    def __init__(self, bed, user='admin', project='admin'):
        self.bed, self.user, self.project_name = bed, user, project
        self.local = threading.local()
        self.token = self.project = None

    def session(self):
        s = getattr(self.local, 'session', None)
        if not s:
            s = self.local.session = requests.Session()
            s.mount('http://', adapter(self.bed.control))
            s.headers.update(VERSIONS)
        return s

    def login(self):
        domain = {'name': 'Default'}
        url = URL['identity'] + '/auth/tokens'
        r = self.session().post(url, json={'auth': {
            'identity': {'methods': ['password'], 'password': {'user': {'name': self.user, 'domain': domain, 'password': PASSWORD}}},
            'scope': {'project': {'name': self.project_name, 'domain': domain}}}})
        if r.status_code != 201:
            raise ApiError('POST', url, r)
        self.token, self.project = r.headers['X-Subject-Token'], r.json()['token']['project']['id']

    def call(self, method, service, path, ok=(), headers=None, **kw):
        """ok: statuses above 299 that are no failure either. Gives (status, JSON or {})."""
        if not self.token:
            self.login()
        url = URL[service] + path
        for again in (True, False):
            r = self.session().request(method, url, headers={'X-Auth-Token': self.token, **(headers or {})}, timeout=60, **kw)
            if r.status_code != 401 or not again:
                break
            self.login()
        if r.status_code >= 300 and r.status_code not in ok:
            raise ApiError(method, url, r)
        return r.status_code, r.json() if r.text and 'json' in r.headers.get('content-type', '') else {}

    def get(self, service, path, **kw):
        return self.call('GET', service, path, **kw)[1]

    def post(self, service, path, body, **kw):
        return self.call('POST', service, path, json=body, **kw)[1]

    def put(self, service, path, body, **kw):
        return self.call('PUT', service, path, json=body, **kw)[1]

    def delete(self, service, path, **kw):
        return self.call('DELETE', service, path, **kw)[1]

    # --- what the tests ask for ---------------------------------------------------------------------

    def by_name(self, service, kind, name):
        found = [x for x in self.get(service, f'/{kind}')[kind] if x['name'] == name]
        if not found:
            raise LabError(f'there is no {name!r} among the {kind}')
        return found[0]['id']

    def server(self, server_id):
        return self.get('compute', f'/servers/{server_id}')['server']

    def servers(self):
        return self.get('compute', '/servers/detail?all_tenants=1')['servers']

    def action(self, server_id, **action):
        """action(id, pause=None), action(id, **{'os-getConsoleOutput': {}}) …"""
        return self.post('compute', f'/servers/{server_id}/action', action)

    def wait_server(self, server_id, status, seconds=120, task_done=True):
        """Waits for a status (and the end of the task); gives the server."""
        def there():
            s = self.server(server_id)
            if s['status'] == 'ERROR' and status != 'ERROR':
                raise LabError(f'server {server_id} is in ERROR: {json.dumps(s.get("fault"))[:1500]}')
            return s if s['status'] == status and not (task_done and s['OS-EXT-STS:task_state']) else None
        return wait_until(seconds, f'status {status} of server {server_id}', there, 0.25)

    def delete_server(self, server_id, seconds=60):
        self.delete('compute', f'/servers/{server_id}', ok=(404,))
        wait_until(seconds, f'end of server {server_id}', lambda: self.call('GET', 'compute', f'/servers/{server_id}', ok=(404,))[0] == 404, 0.25)

    def live_migrate(self, server_id, host=None, block='auto', force=None):
        """Asks for it and gives the id of the migration's record."""
        before = {m['id'] for m in self.migrations(server_id)}
        self.action(server_id, **{'os-migrateLive': {'host': host, 'block_migration': block}})
        return wait_until(20, f'migration record of {server_id}',
                          lambda: max((m['id'] for m in self.migrations(server_id) if m['id'] not in before), default=None), 0.05)

    def migrations(self, server_id):
        return self.get('compute', f'/os-migrations?instance_uuid={server_id}')['migrations']

    def migration(self, server_id, migration_id):
        return [m for m in self.migrations(server_id) if m['id'] == migration_id][0]

    def wait_migration(self, server_id, migration_id, seconds=180, statuses=ENDED):
        return wait_until(seconds, f'migration {migration_id} of {server_id} in {"/".join(statuses)}',
                          lambda: (lambda m: m if m['status'] in statuses else None)(self.migration(server_id, migration_id)), 0.1)

    def events(self, server_id):
        """[(action, event, result)] of the server, oldest first."""
        found = []
        for a in reversed(self.get('compute', f'/servers/{server_id}/os-instance-actions')['instanceActions']):
            one = self.get('compute', f'/servers/{server_id}/os-instance-actions/{a["request_id"]}')['instanceAction']
            found += [(a['action'], e['event'], e['result']) for e in reversed(one['events'])]
        return found

    def services(self):
        """{host: service} of the compute services."""
        return {s['host']: s for s in self.get('compute', '/os-services?binary=nova-compute')['services']}

    def set_service(self, host, **changes):
        return self.put('compute', f'/os-services/{self.services()[host]["id"]}', changes)

    def providers(self):
        """{host: uuid} of the resource providers."""
        return {p['name']: p['uuid'] for p in self.get('placement', '/resource_providers')['resource_providers']}

    def allocations(self):
        """{(consumer, host): resources} of all compute hosts."""
        found = {}
        for host, uuid in self.providers().items():
            for consumer, a in self.get('placement', f'/resource_providers/{uuid}/allocations')['allocations'].items():
                found[consumer, host] = a['resources']
        return found

    def bindings(self, port_id):
        """{host: status} of a port's bindings; none for a port of nobody."""
        found = self.get('network', f'/ports/{port_id}/bindings', ok=(400, 404))
        return {b['host']: b['status'] for b in found.get('bindings', ())}

    def port(self, octet, network='data0'):
        """A fresh port: the guest takes 203.0.113.<last octet of its MAC>."""
        name = f'{network}-{octet}'
        for p in self.get('network', f'/ports?name={name}')['ports']:
            self.delete('network', f'/ports/{p["id"]}', ok=(404,))
        return self.post('network', '/ports', {'port': {
            'name': name, 'network_id': self.by_name('network', 'networks', network), 'mac_address': f'fa:16:3e:00:00:{octet:02x}',
            'fixed_ips': [{'ip_address': f'203.0.113.{octet}'}]}})['port']['id']

    def settled(self, host, since, seconds=60):
        """Waits until the compute service of a host reports anew."""
        def up():
            s = self.services().get(host)
            return s and s['state'] == 'up' and s['updated_at'] and s['updated_at'] > since
        wait_until(seconds, f'compute service of {host} up', up, 0.2)


def now():
    return time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())
