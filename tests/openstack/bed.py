#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The OpenStack test bed: an unmodified control plane and two compute hosts, as namespaces of one machine.

    bed.py [--name NAME] up [--net linuxbridge|ovs] [--compute nova|computed|mixed]   make it; says how long each part took
    bed.py [--name NAME] down                                  remove it, whatever state it is in
    bed.py [--name NAME] status                                what runs in it, and what the APIs say
    bed.py [--name NAME] in BOX CMD ...                        run a command in hosta, hostb, ctl or fabric
    bed.py [--name NAME] os ARGS ...                           the openstack client, as admin
    bed.py [--name NAME] compute HOST start [nova|computed] [--program PATH] [SECTION.OPTION=VALUE ...]
    bed.py [--name NAME] compute HOST stop
    bed.py [--name NAME] boot [HOST] [NAME]                    boot a guest with a port of its own, and wait for its answer
    bed.py [--name NAME] migrate SERVER [HOST]                 live-migrate it, and wait for the end
    bed.py [--name NAME] delete SERVER
    bed.py [--name NAME] leaks                                 what is in the bed beyond its servers
    bed.py [--name NAME] sql STATEMENT | rabbitmqctl ARGS ...

The boxes are those of tests/lab (namespaces.py): no name on the machine, and when its holders end, all of it ends. The
control plane (MariaDB, RabbitMQ, Keystone, Placement, Glance, Neutron, Nova) runs in `ctl`; each host has a libvirtd and
a Neutron agent, and either nova-compute or computed. Two flat networks: data0 (203.0.113.0/25, on eth1) and data1
(203.0.113.128/25, on eth2). Guests are the lab's: guestd (tests/lab/guest) answers at 203.0.113.<last octet of the MAC>.
State: $TMPDIR/computed-openstack/NAME, logs in its `log`; schemas and libvirt's probe of QEMU are kept in ~/.cache/computed-lab.
"""
import concurrent.futures
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in (os.path.join(HERE, '..', 'lab'), HERE):
    sys.path.insert(0, os.path.abspath(folder))
import configs  # noqa: E402
import contents  # noqa: E402
import lab as lab_module  # noqa: E402
from agents import checker_env  # noqa: E402
from api import Cloud, now  # noqa: E402
from guests import boot_files  # noqa: E402
from lab import ADDRESS, BUILD, SOURCE, Broker, Host, Lab  # noqa: E402
from namespaces import Box, LabError, remove_tree, wait_until  # noqa: E402
from probes import cache_dir  # noqa: E402

ROOT = os.environ.get('COMPUTED_BED_DIR') or os.path.join(tempfile.gettempdir(), 'computed-openstack')
CONTROL = ADDRESS['ctl']
PACKAGES = ('keystone', 'placement-api', 'glance-api', 'neutron-server', 'nova-api', 'mariadb-server')
# In a host, QEMU is the lab's wrapper (tests/lab/guest/qemu says why); the real one stays reachable here.
REAL_QEMU = '/run/bed/bin/qemu-system-x86_64'
OVER = '/etc/nova/over.conf'
AGENTS = {'nova': 'nova-compute', 'computed': 'computed'}
QEMU = '/usr/bin/qemu-system-x86_64'


class ComputeHost(Host):
    """A host of the lab, made ready for Nova and Neutron. Which agent runs: `nova-compute` or `computed` in services."""

    def configure(self, net):
        super().configure(tls=False)
        saved = os.path.join(cache_dir(), 'libvirt-openstack')
        remove_tree(self.path('/var/cache/libvirt'))
        os.makedirs(self.path('/var/cache/libvirt'))
        if os.path.isdir(saved):
            shutil.copytree(saved, self.path('/var/cache/libvirt'), dirs_exist_ok=True)
        for d in ('var/lib/neutron', 'run/bed/bin', 'run/computed', 'var/lib/computed'):
            os.makedirs(self.path(d), exist_ok=True)
        for files in (configs.nova_host(self.address), configs.neutron_host(net)):
            write_configs(self, files)
        self.run(['sh', '-ec', f'ln -s /usr/share /run/bed/share; ln -s /usr/lib /run/bed/lib; touch {REAL_QEMU}; '
                  f'mount --bind {QEMU} {REAL_QEMU}; mount --bind {qemu_wrapper()} {QEMU}'])

    def wire_ovs(self, networks):
        """Neutron makes br-int; the bridges of the physical networks are the operator's."""
        for i, n in enumerate(networks):
            self.vsctl('add-br', f'br-data{i}', '--', 'set', 'Bridge', f'br-data{i}', 'datapath_type=netdev', '--',
                       'add-port', f'br-data{i}', n['uplink'])

    def libvirtd_ready(self):
        if not self.services['libvirtd'].alive():
            raise LabError(f'libvirtd of {self.name} ended: ' + (self.services['libvirtd'].output() + self.libvirt_log())[-800:])
        return self.run(['virsh', '-q', '-c', 'qemu:///system', 'capabilities'], timeout=280, check=False).returncode == 0

    @property
    def agent(self):
        """The service that is the host's compute agent, or None."""
        found = [s for n in AGENTS.values() if (s := self.services.get(n)) and s.alive()]
        return found[0] if found else None


def qemu_wrapper():
    """The lab's wrapper around QEMU, calling the real one where a host of the bed has it."""
    with open(os.path.join(HERE, '..', 'lab', 'guest', 'qemu')) as f:
        text = f.read().replace(f'exec {QEMU} ', f'exec {REAL_QEMU} ')
    path = os.path.join(cache_dir(), 'qemu-' + hashlib.sha256(text.encode()).hexdigest()[:12])
    if not os.path.exists(path):
        with open(os.open(f'{path}.{os.getpid()}', os.O_WRONLY | os.O_CREAT, 0o755), 'w') as f:
            f.write(text)
        os.rename(f'{path}.{os.getpid()}', path)
    return path


def write_configs(box, files):
    for path, sections in files.items():
        os.makedirs(os.path.dirname(box.path(path)), exist_ok=True)
        with open(os.open(box.path(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w') as f:
            f.write(configs.ini(sections))
        os.chmod(box.path(path), 0o600)


class Bed(Lab):
    def __init__(self, name='default'):
        super().__init__(name)
        self.dir = os.path.join(ROOT, name)
        self.fabric, self.control = Box(self.dir, 'fabric'), Box(self.dir, 'ctl')
        self.hosts = {n: ComputeHost(self.dir, n) for n in ('hosta', 'hostb')}
        self.boxes = [self.fabric, self.control, *self.hosts.values()]
        self.broker = Broker(self.control)
        self.cloud = Cloud(self)

    # --- up -----------------------------------------------------------------------------------------

    def up(self, net='linuxbridge', compute='nova', keep=False):
        t0 = time.monotonic()
        self.down()
        self.net, self.keep = net, keep
        os.makedirs(os.path.join(self.dir, 'log'), mode=0o700)
        os.chmod(self.dir, 0o700)
        self.save()
        try:
            self._up_all(compute)
        except BaseException:
            self.save()
            if not os.environ.get('COMPUTED_LAB_KEEP_FAILED'):
                print(f'the bed did not come up; the ends of its logs:\n{self.log_ends()}', file=sys.stderr)
                self.down()
            raise
        self.timings['up in all'] = time.monotonic() - t0
        return self

    def _timed(self, what, call):
        result = super()._timed(what, call)
        print(f'{self.timings[what]:7.1f} s  {what}', flush=True)
        return result

    def _up_all(self, compute):
        self._timed('guest kernel and initrd', boot_files)
        keep = [SOURCE, BUILD, self.dir, cache_dir()]
        for box in self.boxes:
            box.start(ADDRESS, keep)
        self._timed('namespaces and network', self._wire)
        self._configure()
        self.broker.start()
        for h in self.hosts.values():
            h.start_libvirtd()
        self._timed('MariaDB', self._database)
        self._timed('schemas', self._schemas)
        self._timed('Keystone', self._keystone)
        self._timed('RabbitMQ', lambda: wait_until(90, 'RabbitMQ', self.broker.ready, 0.1))
        self._control_plane()
        for h in self.hosts.values():
            self._timed(f'libvirtd of {h.name}', lambda h=h: wait_until(300, f'libvirtd of {h.name}', h.libvirtd_ready))
        self._save_libvirt_cache()
        for h in self.hosts.values():
            if self.net == 'ovs':
                h.start_ovs()
                h.wire_ovs(self.networks)
            h.spawn('neutron-agent', [f'neutron-{configs.AGENT[self.net]}-agent', '--config-file', '/etc/neutron/neutron.conf',
                                      '--config-file', '/etc/neutron/agent.ini'])
        self._timed('Placement, Glance, Neutron, Nova answer', self._services_ready)
        self.save()
        for name, h in self.hosts.items():
            kind = {'mixed': {'hosta': 'nova', 'hostb': 'computed'}[name]}.get(compute, compute)
            self.compute_start(name, kind, wait=False)
        self._timed('images, flavors, networks', lambda: contents.fill(self.cloud))
        self._timed('two compute services, two network agents', lambda: contents.wait_hosts(self.cloud, self.hosts))
        self._timed('host mapping', lambda: self.control.run(['nova-manage', 'cell_v2', 'discover_hosts'], timeout=60))
        self._timed('two hypervisors, two resource providers', lambda: contents.wait_resources(self.cloud))
        self.save()

    def _configure(self):
        self.broker.configure(False)
        for files in (configs.keystone(), configs.placement(), configs.glance(), configs.nova_control(), configs.neutron_control(self.net)):
            write_configs(self.control, files)
        for d in ('keystone/fernet-keys', 'keystone/credential-keys', 'glance/images', 'nova', 'neutron', 'mysql'):
            os.makedirs(self.control.path(f'/var/lib/{d}'), exist_ok=True)
        for h in self.hosts.values():
            h.configure(self.net)

    def sql(self, statements, password=configs.PASSWORD, timeout=120):
        cmd = ['mariadb', '--no-defaults', '-N', '-B', '-S', '/run/mysql.sock', '-u', 'root']
        return self.control.run(cmd + ([f'-p{password}'] if password else []), input=statements, timeout=timeout).stdout

    def _database(self):
        self.control.run(['mariadb-install-db', '--no-defaults', '--datadir=/var/lib/mysql', '--user=root', '--skip-test-db',
                          '--auth-root-authentication-method=normal'], timeout=120)
        self.control.spawn('mariadb', ['mariadbd', '--no-defaults', '--user=root', '--datadir=/var/lib/mysql', '--socket=/run/mysql.sock',
                                       '--pid-file=/run/mysql.pid', f'--bind-address={CONTROL}', '--skip-name-resolve', '--max-connections=1000',
                                       '--innodb-flush-log-at-trx-commit=0', '--innodb-doublewrite=0', '--character-set-server=utf8mb3'])

        def answers():
            try:
                return self.sql('select 1', password=None)
            except LabError:
                return None
        wait_until(60, 'MariaDB', answers, 0.2)
        p = configs.PASSWORD
        self.sql(f"alter user root@localhost identified by '{p}'; create user root@'%' identified by '{p}'; "
                 "grant all on *.* to root@'%' with grant option;", password=None)
        self.sql(''.join(f'create database {d};' for d in configs.DATABASES))

    def _schemas(self):
        """Made by the services' own tools once for a set of packages, then kept."""
        versions = subprocess.run(['dpkg-query', '-W', '-f', '${Package}${Version}\n', *PACKAGES], check=True, stdout=subprocess.PIPE).stdout
        with open(os.path.join(HERE, 'configs.py'), 'rb') as f:
            versions += f.read()  # the cell's record has addresses and passwords in it
        saved = os.path.join(cache_dir(), f'openstack-{hashlib.sha256(versions).hexdigest()[:12]}.sql')
        if os.path.exists(saved):
            with open(saved) as f:
                self.sql(f.read(), timeout=300)
            return
        run = self.control.run
        cell0 = configs.database('nova_cell0')

        def nova():
            for args in (['api_db', 'sync'], ['cell_v2', 'map_cell0', '--database_connection', cell0], ['db', 'sync'],
                         ['cell_v2', 'create_cell', '--name', 'cell1']):
                run(['nova-manage', *args], timeout=600)

        def others():
            for cmd in (['keystone-manage', 'db_sync'], ['placement-manage', 'db', 'sync'],
                        ['glance-manage', '--config-file', '/etc/glance/glance-api.conf', 'db_sync'],
                        ['neutron-db-manage', '--config-file', '/etc/neutron/neutron.conf', '--config-file', '/etc/neutron/ml2.ini', 'upgrade', 'heads']):
                run(cmd, timeout=600)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for job in [pool.submit(nova), pool.submit(others)]:
                job.result()
        dump = run(['mariadb-dump', '--no-defaults', '-S', '/run/mysql.sock', '-u', 'root', f'-p{configs.PASSWORD}', '--databases',
                    *configs.DATABASES], timeout=300).stdout
        with open(os.open(f'{saved}.{os.getpid()}', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w') as f:
            f.write(dump)
        os.rename(f'{saved}.{os.getpid()}', saved)

    def _wsgi(self, name, port, program):
        self.control.spawn(name, ['uwsgi_python311', '--http-socket', f'{CONTROL}:{port}', '--wsgi-file', program, '--master', '--lazy-apps',
                                  '--enable-threads', '--processes', '2', '--threads', '4', '--buffer-size', '65535', '--die-on-term',
                                  '--thunder-lock', '--add-header', 'Connection: close', '--need-app', '--disable-logging'])

    def _keystone(self):
        who = ['--keystone-user', 'root', '--keystone-group', 'root']
        url = f'http://{CONTROL}:5000/v3/'
        for cmd in (['fernet_setup', *who], ['credential_setup', *who],
                    ['bootstrap', '--bootstrap-password', configs.PASSWORD, '--bootstrap-region-id', configs.REGION, '--bootstrap-admin-url', url,
                     '--bootstrap-internal-url', url, '--bootstrap-public-url', url]):
            self.control.run(['keystone-manage', *cmd], timeout=120)
        self._wsgi('keystone', 5000, '/usr/bin/keystone-wsgi-public')
        self.http_ready(5000)
        contents.identity(self.cloud)

    def _control_plane(self):
        self._wsgi('placement', 8778, '/usr/bin/placement-api')
        ml2 = ['--config-file', '/etc/neutron/neutron.conf', '--config-file', '/etc/neutron/ml2.ini']
        for name, cmd in (('glance-api', ['glance-api', '--config-file', '/etc/glance/glance-api.conf']), ('neutron-server', ['neutron-server', *ml2]),
                          *((n, [n, '--config-file', '/etc/nova/nova.conf']) for n in ('nova-conductor', 'nova-scheduler', 'nova-api'))):
            self.control.spawn(name, cmd)

    def http_ready(self, port, seconds=120):
        def answers():
            try:
                with self.control.socket() as s:
                    s.settimeout(5)
                    s.connect((CONTROL, port))
                    s.sendall(b'GET / HTTP/1.0\r\nHost: bed\r\n\r\n')
                    return s.recv(12).startswith(b'HTTP/1.')
            except OSError:
                return False
        wait_until(seconds, f'answer at port {port} of ctl', answers, 0.1)

    def _services_ready(self):
        for port in (8778, 9292, 9696, 8774):
            self.http_ready(port)

    def _save_libvirt_cache(self):
        saved, new = os.path.join(cache_dir(), 'libvirt-openstack'), self.hosts['hosta'].path('/var/cache/libvirt')
        if not os.path.isdir(saved) and os.path.isdir(os.path.join(new, 'qemu', 'capabilities')):
            tmp = tempfile.mkdtemp(prefix='libvirt.', dir=cache_dir())
            shutil.copytree(new, tmp, dirs_exist_ok=True)
            try:
                os.rename(tmp, saved)
            except OSError:
                remove_tree(tmp)

    def log_ends(self, lines=12):
        out = ''
        for name in sorted(os.listdir(os.path.join(self.dir, 'log'))):
            with open(os.path.join(self.dir, 'log', name), errors='replace') as f:
                end = [line for line in f if ' INFO ' not in line][-lines:]
            if end:
                out += f'--- {name}\n' + ''.join(end)
        return out

    # --- compute agents -----------------------------------------------------------------------------

    def compute_start(self, host, kind='nova', program=None, extra=None, wait=True, env=None, wrapper=()):
        """Starts nova-compute or computed on a host, with /etc/nova/nova.conf and, laid over it, `extra`
        ({section: {option: value}}); program: another binary than the build tree's. Waits for its report."""
        h = self.host(host)
        self.compute_stop(h)
        program = compute_program(kind, program)
        if kind == 'computed' and not os.access(program, os.X_OK):
            raise LabError(f'{program} is not there: build first (./quickstart build), or set COMPUTED_BUILD_DIR, or --program')
        with open(os.open(h.path(OVER), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w') as f:
            f.write(over_conf(kind, program, extra))
        os.makedirs(h.path('/run/computed'), exist_ok=True)
        since, name = now(), AGENTS[kind]
        service = h.spawn(name, [*wrapper, program, '--config-file', '/etc/nova/nova.conf', '--config-file', OVER],
                          env={**checker_env(), **(env or {})})
        self.save()
        if wait:
            time.sleep(1)  # the record's times have whole seconds

            def up():
                if not service.alive():
                    raise LabError(f'{name} of {h.name} ended: {service.output()[-1500:]}')
                s = self.cloud.services().get(h.name)
                return s and s['state'] == 'up' and (s['updated_at'] or '') > since and self._compute_answers(h.name)
            wait_until(60, f'report of {name} on {h.name}', up, 0.2)
        return service

    def _compute_answers(self, host):
        """Whether the agent itself answers, if Nova knows its node: the last report of the agent before it may be written
        late, and nova-compute, while it starts, ends builds that it was not there for."""
        nodes = [n for n in self.cloud.get('compute', '/os-hypervisors')['hypervisors'] if n['hypervisor_hostname'] == host]
        return not nodes or self.cloud.get('compute', f'/os-hypervisors/{nodes[0]["id"]}')['hypervisor']['uptime']

    def compute_runs(self, host, kind, extra=None, program=None):
        """Whether just that agent with just these options runs on a host."""
        h = self.host(host)
        try:
            with open(h.path(OVER)) as f:
                same = f.read() == over_conf(kind, compute_program(kind, program), extra)
        except OSError:
            return False
        return same and h.agent is not None and h.agent.name == AGENTS[kind]

    def compute_stop(self, host, seconds=20):
        h = self.host(host)
        for name in AGENTS.values():
            service = h.services.pop(name, None)
            if service:
                service.stop(seconds)
        self.save()

    def compute_log(self, host):
        """What the compute agent of a host, and those of its kind before it, have written since the bed came up."""
        h = self.host(host)
        with open(os.path.join(self.dir, 'log', f'{h.agent.name}.{h.name}.log'), errors='replace') as f:
            return f.read()

    def computectl(self, host, *args, timeout=60, check=True):
        return self.host(host).run([os.path.join(BUILD, 'ctl', 'computectl'), *args], timeout=timeout, check=check)

    def openrc(self):
        return {'OS_AUTH_URL': f'http://{CONTROL}:5000/v3', 'OS_USERNAME': 'admin', 'OS_PASSWORD': configs.PASSWORD, 'OS_PROJECT_NAME': 'admin',
                'OS_USER_DOMAIN_NAME': 'Default', 'OS_PROJECT_DOMAIN_NAME': 'Default', 'OS_IDENTITY_API_VERSION': '3',
                'OS_REGION_NAME': configs.REGION, 'OS_COMPUTE_API_VERSION': '2.92'}


def compute_program(kind, program=None):
    return program or {'nova': 'nova-compute', 'computed': os.path.join(BUILD, 'agent', 'computed')}[kind]


def over_conf(kind, program, extra):
    """What is laid over a host's nova.conf."""
    extra = {k: dict(v) for k, v in (extra or {}).items()}
    if kind == 'computed':
        # with Open vSwitch it has no such section, as there is no bridge to wire
        extra['net'] = {'linuxbridge_agent_file': '/etc/neutron/agent.ini', **extra.get('net', {})}
        extra['agent'] = {'control_plane': 'nova', 'control_group': '', 'control_socket': '/run/computed/control.sock', **extra.get('agent', {})}
    return f'# {program}\n' + configs.ini(extra)


def attached(name):
    return Bed(name).attach()


def status(bed):
    lab_module.status(bed)
    for host, s in sorted(bed.cloud.services().items()):
        agent = bed.hosts[host].agent if host in bed.hosts else None
        print(f'compute  {host}: {s["state"]}, {s["status"]}, agent {agent.name if agent else "none"}')
    for a in bed.cloud.get('network', '/agents')['agents']:
        print(f'network  {a["host"]}: {a["agent_type"]}, {"alive" if a["alive"] else "DEAD"}')
    for s in bed.cloud.servers():
        print(f'server   {s["id"]} {s["name"]}: {s["status"]} on {s["OS-EXT-SRV-ATTR:host"]} ({s["OS-EXT-SRV-ATTR:instance_name"]})')


def up(name, args):
    option = dict(zip(args[::2], args[1::2]))
    if len(args) % 2 or set(option) - {'--net', '--compute'}:
        raise LabError(f'up takes --net and --compute, not {" ".join(args)}')
    net, compute = option.get('--net', 'linuxbridge'), option.get('--compute', 'nova')
    if net not in configs.AGENT or compute not in ('nova', 'computed', 'mixed'):
        raise LabError('--net linuxbridge or ovs, --compute nova, computed or mixed')
    bed = Bed(name).up(net, compute, keep=True)
    print(f'{bed.timings["up in all"]:7.1f} s  in all')


def compute(bed, host, what='', *args):
    if what == 'stop' and not args:
        bed.compute_stop(host)
        return
    if what != 'start':
        raise LabError('compute HOST start ... or stop')
    kind, program, extra, args = None, None, {}, list(args)
    while args:
        word = args.pop(0)
        if word in ('nova', 'computed'):
            kind = word
        elif word == '--program' and args:
            program = os.path.abspath(args.pop(0))
        else:
            key, _, v = word.partition('=')
            section, _, option = key.partition('.')
            extra.setdefault(section, {})[option] = v
    kind = kind or ('computed' if program else 'nova')
    bed.compute_start(host, kind, program, extra)
    print(f'{kind} on {host}: up')


def main(argv):
    name = 'default'
    if argv[:1] == ['--name'] and len(argv) > 1:
        name, argv = argv[1], argv[2:]
    verb, args = (argv[0], argv[1:]) if argv else ('help', [])
    if verb in ('help', '--help', '-h'):
        print(__doc__.strip())
    elif verb == 'up':
        up(name, args)
    elif verb == 'down':
        Bed(name).down()
    elif verb == 'status':
        status(attached(name))
    elif verb == 'in' and len(args) > 1:
        bed = attached(name)
        box = {b.name: b for b in bed.boxes}[args[0]]
        os.execvp('nsenter', box.command(args[1:]))
    elif verb == 'os':
        bed = attached(name)
        os.execvp('nsenter', bed.control.command(['env', *(f'{k}={v}' for k, v in bed.openrc().items()), 'openstack', *args]))
    elif verb == 'compute' and args:
        compute(attached(name), *args)
    elif verb == 'sql' and args:
        print(attached(name).sql(' '.join(args)), end='')
    elif verb == 'rabbitmqctl':
        print(attached(name).broker.ctl(*args), end='')
    elif verb in ('boot', 'migrate', 'delete', 'leaks'):
        import servers
        getattr(servers, f'command_{verb}')(attached(name), *args)
    else:
        print(__doc__.strip())
        return 2
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv[1:]))
    except LabError as e:
        sys.exit(f'bed: {e}')
