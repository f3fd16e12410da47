#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The lab: two compute hosts, a control host with RabbitMQ and a fabric, as namespaces of one machine.

    lab.py [--name NAME] up [--net bridge|ovs] [--keep]   make it; status of what it takes is printed
    lab.py [--name NAME] down                              remove it, whatever state it is in
    lab.py [--name NAME] status                            what runs in it
    lab.py [--name NAME] in BOX CMD ...                    run a command in hosta, hostb, ctl or fabric
    lab.py [--name NAME] guest [HOST] [key=value ...]      start a guest (arguments of guests.Guest)
    lab.py [--name NAME] scan                              taps, bridges, domains and files, as JSON
    lab.py sweep                                           remove labs whose maker has died
    lab.py prepare                                         build and fetch what is kept in the cache

                      fabric
      lab0 198.51.100.254   data0 203.0.113.126   data1 203.0.113.254
        |       |      |         |         |           |        |
      ctl .10 hosta .11 hostb .12  hosta eth1 hostb eth1   eth2     eth2
      (RabbitMQ) (eth0)  (eth0)        in brq... or br-int of the host

Each box has network, mount, UTS, IPC and PID namespaces of its own (namespaces.py), and no name on the
machine: several labs, told apart by --name, run at once. Everything lies in /tmp/computed-lab/NAME;
what is slow to make (guest kernel, libvirt's probe of QEMU) is kept in ~/.cache/computed-lab.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guests as guests_module  # noqa: E402
import pki  # noqa: E402
from agents import Agent  # noqa: E402
from guests import BOOT, Guest, boot_files  # noqa: E402
from namespaces import Box, LabError, holders, remove_tree, start_time, wait_until  # noqa: E402
from probes import Probe, build_c, cache_dir  # noqa: E402

ROOT = os.environ.get('COMPUTED_LAB_DIR', '/tmp/computed-lab')
SOURCE = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..'))
BUILD = os.environ.get('COMPUTED_BUILD_DIR', os.path.join(SOURCE, 'build'))
ADDRESS = {'ctl': '198.51.100.10', 'hosta': '198.51.100.11', 'hostb': '198.51.100.12'}
NETWORKS = [
    {'id': '5c1a7d3e-9b2f-4f6a-8d0e-6b1c2f3a4d50', 'fabric': 'data0', 'gateway': '203.0.113.126', 'uplink': 'eth1', 'tag': 0},
    {'id': '8e4b2c6f-0d7a-4b1e-9c3f-7a5d8e9f0b61', 'fabric': 'data1', 'gateway': '203.0.113.254', 'uplink': 'eth2', 'tag': 2},
]


class Host(Box):
    """A compute host: a box with a libvirtd (and an Open vSwitch) of its own. `crashes` tells how its libvirtd ended by
    itself so far."""

    def __init__(self, lab_dir, name):
        super().__init__(lab_dir, name)
        self.crashes = []

    @property
    def address(self):
        return ADDRESS[self.name]

    def virsh(self, *args, timeout=30, check=True):
        return self.run(['virsh', '-q', '-c', 'qemu:///system', *args], timeout=timeout, check=check).stdout

    def configure(self, tls):
        last = self.address.rpartition('.')[2]
        etc = self.path('/etc/libvirt')
        remove_tree(etc)
        os.makedirs(f'{etc}/qemu')
        for d in ('var/lib/libvirt/images', 'var/cache/libvirt', 'var/log/libvirt/qemu', 'var/lib/nova/instances', BOOT,
                  'etc/computed', 'run/computed'):
            os.makedirs(self.path(d), exist_ok=True)
        # libvirtd looks its default user up even where qemu.conf names another; libvirt-daemon-system would make it
        for table, line in (('passwd', 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n'),
                            ('group', 'libvirt-qemu:x:64055:\n')):
            with open(self.path(f'/etc/{table}'), 'r+') as f:
                if '\nlibvirt-qemu:' not in f.read():
                    f.write(line)
        debug = 'log_filters = "1:qemu.qemu_monitor 1:qemu.qemu_migration"\n' if os.environ.get('COMPUTED_LAB_DEBUG') else ''
        with open(f'{etc}/libvirtd.conf', 'w') as f:
            f.write(f'host_uuid = "000000{last}-1111-2222-3333-4444555577{last}"\nlisten_tls = {int(tls)}\nlisten_tcp = 1\n'
                    f'auth_tcp = "none"\nauth_unix_rw = "none"\nlisten_addr = "{self.address}"\n{debug}'
                    f'log_outputs = "{1 if debug else 3}:file:/var/log/libvirt/libvirtd.log"\n')
        with open(f'{etc}/qemu.conf', 'w') as f:
            f.write('user = "root"\ngroup = "root"\nsecurity_driver = "none"\ncgroup_controllers = []\nnamespaces = []\n'
                    f'stdio_handler = "file"\nmigration_host = "{self.address}"\nmigration_address = "{self.address}"\n')
        saved = os.path.join(cache_dir(), 'libvirt')
        if os.path.isdir(saved):
            shutil.copytree(saved, self.path('/var/cache/libvirt'), dirs_exist_ok=True)

    def start_libvirtd(self):
        return self.spawn('libvirtd', ['libvirtd', '--listen'])

    def libvirt_log(self):
        try:
            with open(self.path('/var/log/libvirt/libvirtd.log'), errors='replace') as f:
                return f.read()
        except OSError:
            return ''

    def libvirtd_ready(self):
        if not self.services['libvirtd'].alive():
            raise LabError(f'libvirtd of {self.name} ended: ' + (self.services['libvirtd'].output() + self.libvirt_log())[-800:])
        # an agent that connects asks for all emulators of the machine; libvirtd takes seconds for each that it does not know
        return all(self.run(['virsh', '-q', '-c', 'qemu:///system', *what], timeout=240, check=False).returncode == 0
                   for what in (['capabilities'], ['domcapabilities', '--virttype', 'qemu'],
                                ['domcapabilities', '--virttype', 'qemu', '--emulatorbin', guests_module.emulator()]))

    def restart_libvirtd(self, seconds=60):
        """Starts a libvirtd that has ended again, and keeps in mind when it ended by a fault of its own."""
        crash = self.services['libvirtd'].crash()
        if crash:
            self.crashes.append(f'libvirtd of {self.name} ended by {crash}')
        pid = self.path('/run/libvirtd.pid')  # one that was killed has left it
        if os.path.exists(pid):
            os.unlink(pid)
        self.start_libvirtd()
        wait_until(seconds, f'libvirtd of {self.name}', self.libvirtd_ready)

    def wire_bridges(self, networks):
        for n in networks:
            br = n['bridge']
            for args in (['link', 'add', br, 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0'],
                         ['link', 'set', n['uplink'], 'master', br], ['link', 'set', br, 'up']):
                self.ip(*args)

    def start_ovs(self):
        for d in ('/etc/openvswitch', '/run/openvswitch', '/var/lib/openvswitch', '/var/log/openvswitch'):
            os.makedirs(self.path(d), exist_ok=True)
        db = '/etc/openvswitch/conf.db'
        if os.path.exists(self.path(db)):
            os.unlink(self.path(db))
        self.run(['ovsdb-tool', 'create', db, '/usr/share/openvswitch/vswitch.ovsschema'])
        self.spawn('ovsdb', ['ovsdb-server', db, '--remote=punix:/run/openvswitch/db.sock',
                             '--remote=db:Open_vSwitch,Open_vSwitch,manager_options', '--pidfile'])
        wait_until(20, f'ovsdb of {self.name}',
                   lambda: self.run(['ovs-vsctl', '--no-wait', '--timeout=2', 'init'], check=False).returncode == 0)
        self.vsctl('--no-wait', 'set-manager', 'ptcp:6640:127.0.0.1', '--', 'set', 'Open_vSwitch', '.',
                   f'external-ids:hostname={self.name}', f'external-ids:system-id={self.name}')
        self.spawn('vswitchd', ['ovs-vswitchd', 'unix:/run/openvswitch/db.sock', '--pidfile'])

    def wire_ovs(self, networks):
        self.vsctl('add-br', 'br-int', '--', 'set', 'Bridge', 'br-int', 'datapath_type=netdev')
        for n in networks:
            # also for tag 0: a port without a tag is a trunk, and two of them between the hosts are a loop
            self.vsctl('add-port', 'br-int', n['uplink'], f'tag={n["tag"]}')

    def vsctl(self, *args):
        return self.run(['ovs-vsctl', '--timeout=10', *args]).stdout

    def scan(self):
        """What a migration could leave behind, for comparison before and after."""
        links = self.links()
        ports = {}
        for link in links:
            if link.get('master'):
                ports.setdefault(link['master'], []).append(link['ifname'])
        nova = self.path('/var/lib/nova')
        files = sorted(os.path.relpath(os.path.join(d, f), nova) for d, _, fs in os.walk(nova) for f in fs)
        dirs = sorted(os.path.relpath(os.path.join(nova, 'instances', d), nova) for d in os.listdir(f'{nova}/instances')
                      if d != '_base')
        states = [line.split(None, 2) for line in self.virsh('list', '--all').splitlines() if line.strip()]
        found = {'links': sorted(link['ifname'] for link in links), 'bridges': {b: sorted(p) for b, p in sorted(ports.items())},
                 'domains': sorted([s[1], s[2]] for s in states), 'files': files, 'instance_dirs': dirs}
        journal = self.path('/var/lib/computed/journal')
        found['journal'] = sorted(f for _, _, fs in os.walk(journal) for f in fs)
        if 'vswitchd' in self.services:
            found['ovs_ports'] = sorted(self.vsctl('list-ports', 'br-int').split())
        return found


class Broker:
    """RabbitMQ in the control host: its own node, directory, cookie and epmd."""

    user, password, port = 'lab', 'labpass', 5672

    def __init__(self, box):
        self.box = box
        self.url = f'rabbit://{self.user}:{self.password}@{ADDRESS["ctl"]}:{self.port}/'
        self.service = None

    def _env(self):
        d = '/var/lib/rabbit'
        return {'RABBITMQ_NODENAME': 'rabbit@ctl', 'RABBITMQ_MNESIA_BASE': f'{d}/mnesia', 'RABBITMQ_LOG_BASE': f'{d}/log',
                'RABBITMQ_LOGS': f'{d}/log/rabbit.log', 'RABBITMQ_PID_FILE': f'{d}/pid', 'ERL_CRASH_DUMP': f'{d}/erl_crash.dump', 'HOME': d,
                'RABBITMQ_CONFIG_FILE': f'{d}/rabbitmq', 'RABBITMQ_ENABLED_PLUGINS_FILE': f'{d}/enabled_plugins',
                'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': '+sbwt none +sbwtdcpu none +sbwtdio none'}

    def configure(self, tls):
        d = self.box.path('/var/lib/rabbit')
        os.makedirs(f'{d}/mnesia', exist_ok=True)
        os.makedirs(f'{d}/log', exist_ok=True)
        cookie = f'{d}/.erlang.cookie'
        if not os.path.exists(cookie):
            with open(os.open(cookie, os.O_WRONLY | os.O_CREAT, 0o400), 'w') as f:
                f.write(os.urandom(12).hex())
        with open(f'{d}/rabbitmq.conf', 'w') as f:
            f.write(f'default_user = {self.user}\ndefault_pass = {self.password}\nloopback_users = none\n'
                    f'listeners.tcp.1 = {ADDRESS["ctl"]}:{self.port}\n')
            if tls:
                f.write(f'listeners.ssl.1 = {ADDRESS["ctl"]}:5671\nssl_options.verify = verify_peer\n'
                        'ssl_options.fail_if_no_peer_cert = false\nssl_options.cacertfile = /etc/pki/CA/cacert.pem\n'
                        'ssl_options.certfile = /etc/pki/libvirt/servercert.pem\n'
                        'ssl_options.keyfile = /etc/pki/libvirt/private/serverkey.pem\n')
        with open(f'{d}/enabled_plugins', 'w') as f:
            f.write('[].\n')

    def start(self):
        self.service = self.box.spawn('rabbitmq', ['/usr/lib/rabbitmq/bin/rabbitmq-server'], env=self._env())

    def ready(self):
        if not self.service.alive():
            raise LabError('RabbitMQ of the lab ended: ' + self.service.output()[-800:])
        try:
            with self.box.socket() as s:
                s.settimeout(2)
                s.connect((ADDRESS['ctl'], self.port))
                s.sendall(b'AMQP\0\0\x09\x01')
                return len(s.recv(8)) > 0
        except OSError:
            return False

    def stop(self, seconds=20):
        """Stops the node; its data stays, start() brings it back."""
        self.service.stop(seconds)

    def ctl(self, *args, timeout=30):
        return self.box.run(['/usr/lib/rabbitmq/bin/rabbitmqctl', '-q', *args], env=self._env(), timeout=timeout).stdout


class Lab:
    def __init__(self, name='lab'):
        if not name.replace('-', '').isalnum():
            raise LabError(f'lab name {name!r}: letters, digits and hyphens only')
        self.name, self.dir = name, os.path.join(ROOT, name)
        self.fabric, self.control = Box(self.dir, 'fabric'), Box(self.dir, 'ctl')
        self.hosts = {n: Host(self.dir, n) for n in ('hosta', 'hostb')}
        self.boxes = [self.fabric, self.control, *self.hosts.values()]
        self.broker = Broker(self.control)
        self.networks = [dict(n, bridge='brq' + n['id'][:11]) for n in NETWORKS]
        self.net, self.keep, self.tls, self.disk_cache = 'bridge', False, False, 'none'
        self.guests, self.agents, self._guest_count = [], {}, 0
        self.timings = {}

    # --- up and down --------------------------------------------------------------------------------

    def up(self, net='bridge', keep=False, broker=True, tls=False, bridges=('hosta', 'hostb'), timeout=120):
        """bridges: the hosts whose tenant bridges are made beforehand. tls: libvirt, QEMU and the broker (port 5671)
        listen for TLS as well, with certificates in each host's /etc/pki."""
        t0 = time.monotonic()
        self.down()
        self.net, self.keep, self.tls = net, keep, tls
        os.makedirs(os.path.join(self.dir, 'log'), mode=0o700)
        os.chmod(self.dir, 0o700)
        self.save()
        try:
            self._up(broker, bridges, timeout)
        except BaseException:
            self.timings['failed'] = time.monotonic() - t0
            if not os.environ.get('COMPUTED_LAB_KEEP_FAILED'):
                self.down()
            raise
        self.timings['up'] = time.monotonic() - t0
        return self

    def _up(self, broker, bridges, timeout):
        kernel, initrd = self._timed('guest files', boot_files)
        keep = [SOURCE, BUILD, self.dir, cache_dir()]
        for box in self.boxes:
            box.start(ADDRESS, keep)
        self._timed('network', self._wire)
        if self.tls:
            self._timed('certificates', self._certify)
        if broker:
            self.broker.configure(self.tls)
            self.broker.start()
        for h in self.hosts.values():
            h.configure(self.tls)
            shutil.copy(kernel, h.path(f'{BOOT}/kernel'))
            shutil.copy(initrd, h.path(f'{BOOT}/ramdisk'))
            if self.net == 'ovs':
                h.start_ovs()
            h.start_libvirtd()
        for name, h in self.hosts.items():
            if name in bridges:
                h.wire_ovs(self.networks) if self.net == 'ovs' else h.wire_bridges(self.networks)
        self.disk_cache = self._disk_cache()
        for h in self.hosts.values():
            self._timed(f'libvirtd {h.name}', lambda h=h: wait_until(timeout, f'libvirtd of {h.name}', h.libvirtd_ready))
        if broker:
            self._timed('rabbitmq', lambda: wait_until(timeout, 'RabbitMQ', self.broker.ready, 0.1))
        self._save_libvirt_cache()
        self.save()

    def _timed(self, what, call):
        t0 = time.monotonic()
        result = call()
        self.timings[what] = time.monotonic() - t0
        return result

    def _wire(self):
        fabric = self.fabric
        bridges = [('lab0', '198.51.100.254/24', None)]
        bridges += [(n['fabric'], n['gateway'] + '/25', f'02:00:00:00:{i:02x}:fe') for i, n in enumerate(self.networks)]
        for name, address, mac in bridges:
            fabric.ip('link', 'add', name, *(['address', mac] if mac else []), 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0')
            fabric.ip('addr', 'add', address, 'dev', name)
            fabric.ip('link', 'set', name, 'up')
        for box in [self.control, *self.hosts.values()]:
            links = [('c', 'eth0', 'lab0')]
            if box is not self.control:
                links += [('d', 'eth1', 'data0'), ('e', 'eth2', 'data1')]
            for prefix, inside, bridge in links:
                outside = f'{prefix}-{box.name}'
                fabric.ip('link', 'add', outside, 'type', 'veth', 'peer', 'name', inside, 'netns', str(box.pid))
                fabric.ip('link', 'set', outside, 'master', bridge, 'up')
                box.ip('link', 'set', inside, 'up')
            box.ip('addr', 'add', ADDRESS[box.name] + '/24', 'dev', 'eth0')

    def _certify(self):
        d = os.path.join(self.dir, 'pki')
        pki.make_authority(d)
        for box in [self.control, *self.hosts.values()]:
            pki.make_certificate(d, box.name, ADDRESS[box.name])
            pki.install(d, box.name, box)

    def _disk_cache(self):
        """Nova's choice: O_DIRECT where the file system has it."""
        path = self.hosts['hosta'].path('/var/lib/nova/instances/.directio.test')
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_DIRECT, 0o600))
            return 'none'
        except OSError:
            return 'writethrough'
        finally:
            if os.path.exists(path):
                os.unlink(path)

    def _save_libvirt_cache(self):
        saved, new = os.path.join(cache_dir(), 'libvirt'), self.hosts['hosta'].path('/var/cache/libvirt')
        if not os.path.isdir(os.path.join(new, 'qemu', 'capabilities')):
            return
        tmp = tempfile.mkdtemp(prefix='libvirt.', dir=cache_dir())
        shutil.copytree(new, tmp, dirs_exist_ok=True)
        remove_tree(saved)
        try:
            os.rename(tmp, saved)
        except OSError:  # another lab was faster
            remove_tree(tmp)

    def down(self):
        """Ends and removes all of this lab, also one that another process made or that half failed."""
        for agent in self.agents.values():
            agent.stop()
        self.agents = {}
        for box in reversed(self.boxes):
            box.destroy()
        if os.path.exists(self.dir):
            wait_until(10, f'removal of {self.dir}', lambda: remove_tree(self.dir) or True)
        try:
            os.rmdir(ROOT)
        except OSError:
            pass
        self.guests, self._guest_count = [], 0

    # --- state, for other processes -----------------------------------------------------------------

    def save(self):
        state = {'net': self.net, 'keep': self.keep, 'tls': self.tls, 'disk_cache': self.disk_cache, 'guest_count': self._guest_count,
                 'owner': [os.getpid(), start_time(os.getpid())],
                 'guests': [{k: v for k, v in vars(g).items() if k not in ('lab', 'host')} | {'host': g.host.name} for g in self.guests],
                 'services': {b.name: {s.name: [s.pid, s.started] for s in b.services.values()} for b in self.boxes}}
        tmp = os.path.join(self.dir, 'state.json.tmp')
        with open(tmp, 'w') as f:
            json.dump(state, f)
        os.rename(tmp, os.path.join(self.dir, 'state.json'))

    def attach(self):
        """Takes up a lab that another process made."""
        try:
            with open(os.path.join(self.dir, 'state.json')) as f:
                state = json.load(f)
        except (OSError, ValueError):
            raise LabError(f'there is no lab {self.name!r} in {ROOT}') from None
        for b in self.boxes:
            if not b.attach():
                raise LabError(f'lab {self.name!r}: {b.name} is not up; take it down and up again')
        from namespaces import Service
        for b in self.boxes:
            for name, (pid, started) in state['services'].get(b.name, {}).items():
                b.services[name] = Service(name, pid, started, log=os.path.join(self.dir, 'log', f'{name}.{b.name}.log'))
        self.net, self.keep, self.tls, self.disk_cache = state['net'], state['keep'], state['tls'], state['disk_cache']
        self._guest_count = state['guest_count']
        self.broker.service = self.control.services.get('rabbitmq')
        for saved in state['guests']:
            g = Guest.__new__(Guest)
            vars(g).update(saved, lab=self, host=self.hosts[saved['host']])
            self.guests.append(g)
        for h in self.hosts.values():
            if 'computed' in h.services:
                self.agents[h.name] = Agent(self, h, attach=True)
        return self

    # --- using it -----------------------------------------------------------------------------------

    def host(self, name):
        return name if isinstance(name, Host) else self.hosts[name]

    def next_guest(self):
        self._guest_count += 1
        return self._guest_count

    def guest(self, name=None, host='hosta', **kw):
        return Guest(self, host, name, **kw)

    def agent(self, host, extra_config=None, **kw):
        """Starts computed of the build tree on a host and waits until it says that it is ready."""
        a = Agent(self, self.host(host), extra_config, **kw)
        self.agents[a.host.name] = a
        self.save()
        return a

    def probe(self, address, **kw):
        return Probe(self.fabric, address, **kw)

    def shape(self, mbit=None):
        """Limits what each host may receive on the migration network, in Mbit/s; None: no limit."""
        for name in self.hosts:
            dev = f'c-{name}'
            if mbit:
                self.fabric.run(['tc', 'qdisc', 'replace', 'dev', dev, 'root', 'tbf', 'rate', f'{mbit}mbit', 'burst', '256kb', 'latency', '50ms'])
            else:
                self.fabric.run(['tc', 'qdisc', 'del', 'dev', dev, 'root'], check=False)

    def scan(self):
        return {n: h.scan() for n, h in self.hosts.items()}

    def virsh_migrate(self, guest, to, *flags, copy='inc', scheme='tcp', timeout=300):
        """Bare `virsh migrate` of a guest with its disks, prepared as Nova would: the peer to compare with, and the
        lab's own proof. Returns seconds of the virsh command alone."""
        src = self.hosts[guest.where()[0]]
        prepare_destination(guest, src, self.host(to))
        t0 = time.monotonic()
        src.run(self.virsh_command(guest, to, *flags, copy=copy, scheme=scheme), timeout=timeout)
        seconds = time.monotonic() - t0
        remove_tree(src.path(guest.dir))
        return seconds


    def virsh_command(self, guest, to, *flags, copy='inc', scheme='tcp'):
        address = self.host(to).address
        disks = [f'--copy-storage-{copy}', '--migrate-disks', ','.join(d['target'] for d in guest.disks)] if copy else []
        return ['virsh', '-q', '-c', 'qemu:///system', 'migrate', '--live', '--p2p', '--persistent', '--undefinesource', *flags, *disks,
                guest.name, f'qemu+{scheme}://{address}/system', '--migrateuri', f'tcp://{address}']


def prepare_destination(guest, src, dst):
    """Empty disks of the right kind, copied base images and small files: what pre_live_migration does."""
    source_dir, dest_dir = src.path(guest.dir), dst.path(guest.dir)
    os.makedirs(dest_dir)
    names = [os.path.basename(d['file']) for d in guest.disks]
    for f in os.listdir(source_dir):
        if f not in names and f != 'console.log':
            shutil.copy(os.path.join(source_dir, f), dest_dir)
    os.makedirs(dst.path(f'{guests_module.INSTANCES}/_base'), exist_ok=True)
    for d in guest.disks:
        info = json.loads(src.run(['qemu-img', 'info', '-U', '-f', d['format'], '--output=json', d['file']]).stdout)
        base = info.get('full-backing-filename')
        if base and not os.path.exists(dst.path(base)):
            shutil.copy(src.path(base), dst.path(base))
        dst.run(['qemu-img', 'create', '-q', '-f', d['format'], *(['-b', base, '-F', 'raw'] if base else []), d['file'],
                 str(info['virtual-size'])])


def sweep():
    """Removes the labs whose maker has died, if they are not meant to be kept."""
    for name in os.listdir(ROOT) if os.path.isdir(ROOT) else []:
        try:
            with open(os.path.join(ROOT, name, 'state.json')) as f:
                state = json.load(f)
        except (OSError, ValueError):
            state = {'keep': False, 'owner': [0, 0]}
            if time.time() - os.path.getmtime(os.path.join(ROOT, name)) < 60:
                continue  # perhaps being made just now
        pid, started = state['owner']
        if not state['keep'] and start_time(pid) != started:
            print(f'lab {name}: left behind, removed')
            Lab(name).down()


def status(lab):
    for b in lab.boxes:
        for s in b.services.values():
            print(f'{b.name:8} {s.name:12} {s.pid:8} {"running" if s.alive() else "ENDED"}')
    for g in lab.guests:
        print(f'guest    {g.name} {g.display_name} {g.uuid} on {", ".join(g.where()) or "NO HOST"}'
              + (f', {g.ip}' if g.ports else ''))


def value(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


def main(argv):
    name = 'lab'
    if argv[:1] == ['--name'] and len(argv) > 1:
        name, argv = argv[1], argv[2:]
    verb, args = (argv[0], argv[1:]) if argv else ('help', [])
    lab = Lab(name)
    if verb == 'up':
        lab.up(net=args[args.index('--net') + 1] if '--net' in args else 'bridge', keep=True)
        print(', '.join(f'{k} {v:.1f} s' for k, v in lab.timings.items()))
    elif verb == 'down':
        lab.down()
    elif verb == 'status':
        status(lab.attach())
    elif verb == 'in' and len(args) > 1:
        lab.attach()
        box = {b.name: b for b in lab.boxes}[args[0]]
        os.execvp('nsenter', box.command(args[1:]))
    elif verb == 'guest':
        lab.attach()
        host = args.pop(0) if args and '=' not in args[0] else 'hosta'
        g = lab.guest(host=host, **{k: value(v) for k, _, v in (a.partition('=') for a in args)})
        print(f'{g.name} {g.uuid} {g.ip if g.ports else "no network"}')
    elif verb == 'scan':
        print(json.dumps(lab.attach().scan(), indent=1))
    elif verb == 'sweep':
        sweep()
    elif verb == 'prepare':
        boot_files()
        guests_module.base_image()
        build_c('probe/probe.c')
    else:
        print(__doc__.strip())
        return 0 if verb in ('help', '--help') else 2
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv[1:]))
    except LabError as e:
        sys.exit(f'lab: {e}')
