# SPDX-License-Identifier: Apache-2.0
"""The lab's guest: Debian's cloud kernel, an initrd whose only program is guestd, a domain as Nova defines it."""
import glob
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid as uuidlib
from xml.sax.saxutils import escape

from namespaces import LabError, remove_tree, wait_until
from probes import TICK_PORT, Probe, build_c, cache_dir

MODULES = ['failover', 'net_failover', 'virtio_ring', 'virtio', 'virtio_pci_legacy_dev', 'virtio_pci_modern_dev',
           'virtio_pci', 'virtio_net', 'virtio_blk']
CONTROL_PORT = 9000
SO_NO_CHECK = 11  # see guestd's udp_open()
BASE_MIB = 24
INSTANCES = '/var/lib/nova/instances'
BOOT = '/var/lib/lab'  # kernel and initrd lie here on every host


def guestd():
    return build_c('guest/guestd.c', '-static', '-pthread')


def emulator():
    """guest/qemu, where libvirt finds it unchanged the next time and need not ask it again what it can do."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'guest', 'qemu')
    with open(source, 'rb') as f:
        path = os.path.join(cache_dir(), 'qemu-' + hashlib.sha256(f.read()).hexdigest()[:12])
    if not os.path.exists(path):
        shutil.copy(source, f'{path}.{os.getpid()}')
        os.chmod(f'{path}.{os.getpid()}', 0o755)
        os.rename(f'{path}.{os.getpid()}', path)
    return path


def cpio(files):
    """A newc archive of [(name, mode, content)]: the kernel's initramfs format."""
    out = bytearray()
    for ino, (name, mode, data) in enumerate([*files, ('TRAILER!!!', 0, b'')], 1):
        path = name.encode() + b'\0'
        fields = (ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        out += b'070701' + b''.join(b'%08x' % f for f in fields) + path
        out += b'\0' * (-len(out) % 4) + data
        out += b'\0' * (-len(out) % 4)
    return bytes(out)


def _kernel_from(root):
    """(vmlinuz, directory of modules) of the newest cloud kernel installed below `root`, or None."""
    for image in sorted(glob.glob(f'{root}/boot/vmlinuz-*-cloud-*'), reverse=True):
        modules = f'{root}/lib/modules/{os.path.basename(image)[len("vmlinuz-"):]}/kernel/drivers'
        if glob.glob(f'{modules}/net/virtio_net.ko'):
            return image, modules
    return None


def _download_kernel(d):
    """Unpacks the package of Debian's cloud kernel below d. Nothing is installed."""
    deps = subprocess.run(['apt-cache', 'depends', 'linux-image-cloud-amd64'], stdout=subprocess.PIPE, text=True, timeout=60).stdout
    names = [line.split()[1] for line in deps.splitlines() if 'Depends: linux-image' in line]
    if not names:
        raise LabError('apt-cache knows no linux-image-cloud-amd64: the guest needs that kernel (apt-get update?)')
    subprocess.run(['apt-get', 'download', names[0]], cwd=d, check=True, timeout=300, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    subprocess.run(['dpkg-deb', '-x', glob.glob(f'{d}/linux-image-*.deb')[0], d], check=True, timeout=120)


def kernel():
    """The cached directory with vmlinuz and the modules; made from the machine's package or a download."""
    d = os.path.join(cache_dir(), 'kernel')
    if not os.path.exists(f'{d}/vmlinuz'):
        tmp = tempfile.mkdtemp(prefix='kernel.', dir=cache_dir())
        try:
            found = _kernel_from('')
            if not found:
                _download_kernel(tmp)
                found = _kernel_from(tmp)
            os.makedirs(f'{tmp}/new')
            for m in MODULES:
                files = glob.glob(f'{found[1]}/**/{m}.ko', recursive=True) or glob.glob(f'{found[1]}/../net/**/{m}.ko', recursive=True)
                if files:
                    shutil.copy(files[0], f'{tmp}/new/')
            shutil.copy(found[0], f'{tmp}/new/vmlinuz')
            if not os.path.exists(d):
                os.rename(f'{tmp}/new', d)
        finally:
            remove_tree(tmp)
    return d


def boot_files():
    """(vmlinuz, initrd), made when guestd's source or the kernel changed."""
    k = kernel()
    initrd = f'{guestd()}.initrd'
    if not os.path.exists(initrd):
        files = [('dev', 0o040755, b''), ('mod', 0o040755, b'')]
        for m in sorted(glob.glob(f'{k}/*.ko')):
            with open(m, 'rb') as f:
                files.append((f'mod/{os.path.basename(m)}', 0o100644, f.read()))
        with open(guestd(), 'rb') as f:
            files.append(('init', 0o100755, f.read()))
        with open(f'{initrd}.{os.getpid()}', 'wb') as f:
            f.write(cpio(files))
        os.rename(f'{initrd}.{os.getpid()}', initrd)
    os.utime(initrd)
    return f'{k}/vmlinuz', initrd


def base_image(disk_id=1):
    """A raw image that guestd recognises, the "Glance image" of the lab."""
    path = f'{guestd()}.base{disk_id}.raw'
    if not os.path.exists(path):
        tmp = f'{path}.{os.getpid()}'
        with open(tmp, 'wb') as f:
            f.truncate(BASE_MIB << 20)
        subprocess.run([guestd(), 'header', tmp, str(disk_id)], check=True, timeout=30)
        os.rename(tmp, path)
    os.utime(path)
    return path


class Guest:
    """One guest. `host` is where it was made; where() says where it runs now."""

    def __init__(self, lab, host, name=None, memory_mb=256, vcpus=1, disk='qcow2-overlay', disk_mib=128, disks=(),
                 network=True, nics=1, config_drive=False, machine='pc', kernel_in_instance_dir=False,
                 dirty=0, hot_set=0, fill=0, disk_rate=0, disk_hot=0, sync=False, start=True, mtu=1500):
        """disk: 'qcow2-overlay' (on a raw base in _base, as Nova makes it), 'qcow2', 'raw' or None.
        disks: further disks, dicts of name, format ('qcow2' or 'raw') and mib. nics: 0 to 2, the second on the
        second tenant network. dirty, disk_rate: MiB/s; hot_set, fill, disk_hot: MiB."""
        self.lab, self.number = lab, lab.next_guest()
        self.host = lab.host(host)
        self.id = self.number
        self.uuid = str(uuidlib.uuid4())
        self.name = f'instance-{self.id:08x}'
        self.display_name = name or f'guest{self.number}'
        self.memory_mb, self.vcpus, self.machine = memory_mb, vcpus, machine
        self.dir = f'{INSTANCES}/{self.uuid}'
        octet = 10 + (self.number - 1) % 116  # below the gateway's; there are never so many at once
        self.ports = [{'id': str(uuidlib.uuid4()), 'network': lab.networks[n], 'mac': f'fa:16:3e:00:00:{octet + 128 * n:02x}',
                       'ip': f'203.0.113.{octet + 128 * n}'} for n in range(nics if network else 0)]
        for p in self.ports:
            p['tap'] = 'tap' + p['id'][:11]
        self.boot_dir = self.dir if kernel_in_instance_dir else BOOT
        self.disks = []
        self.config_drive, self.mtu = config_drive, mtu
        self._command_id = 0
        self.known_mib, self.seen_ms = {}, 0  # what it has to remember, and for how long it has run
        self._make_files(disk, disk_mib, disks)
        for p in self.ports:
            lab.fabric.ip('neigh', 'replace', p['ip'], 'lladdr', p['mac'], 'dev', p['network']['fabric'], 'nud', 'permanent')
        lab.guests.append(self)
        lab.save()
        self.xml = self._domain_xml()
        with open(self.host.path(f'{self.dir}/libvirt.xml'), 'w') as f:
            f.write(self.xml)
        self.host.virsh('define', f'{self.dir}/libvirt.xml')
        os.unlink(self.host.path(f'{self.dir}/libvirt.xml'))
        if start:
            self.start()
            if self.ports and (dirty or hot_set or fill or disk_rate or disk_hot):
                self.rate(hot=hot_set, fill=fill, diskhot=disk_hot, sync=int(sync))
                self.rate(dirty=dirty, disk=disk_rate)

    # --- making it ----------------------------------------------------------------------------------

    def _make_files(self, disk, disk_mib, disks):
        base_dir = f'{INSTANCES}/_base'
        os.makedirs(self.host.path(self.dir))
        os.makedirs(self.host.path(base_dir), exist_ok=True)
        if disk == 'qcow2-overlay':
            base = f'{base_dir}/{hashlib.sha1(b"lab image").hexdigest()}'
            if not os.path.exists(self.host.path(base)):
                shutil.copy(base_image(), self.host.path(base))
            self._qemu_img('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'raw', f'{self.dir}/disk', f'{disk_mib}M')
            self.disks.append({'file': f'{self.dir}/disk', 'format': 'qcow2', 'target': 'vda'})
        elif disk:
            self._add_disk('disk', disk, disk_mib)
        for d in disks:
            self._add_disk(d['name'], d.get('format', 'qcow2'), d.get('mib', 64))
        if self.config_drive:
            self._make_config_drive()
        info = {d['file']: d['format'] for d in self.disks}
        if self.config_drive:
            info[f'{self.dir}/disk.config'] = 'raw'
        with open(self.host.path(f'{self.dir}/disk.info'), 'w') as f:
            json.dump(info, f)
        if self.boot_dir == self.dir:
            for name in ('kernel', 'ramdisk'):
                shutil.copy(self.host.path(f'{BOOT}/{name}'), self.host.path(f'{self.dir}/{name}'))

    def _add_disk(self, name, fmt, mib):
        """A disk without a base, with the known blocks at its start."""
        number = len(self.disks)
        path = f'{self.dir}/{name}'
        self._qemu_img('convert', '-q', '-f', 'raw', '-O', fmt, base_image(number + 1), self.host.path(path), on_machine=True)
        self._qemu_img('resize', '-q', '-f', fmt, self.host.path(path), f'{mib}M', on_machine=True)
        self.disks.append({'file': path, 'format': fmt, 'target': f'vd{"abcdefgh"[number]}'})

    def _qemu_img(self, *args, on_machine=False):
        if on_machine:
            subprocess.run(['qemu-img', *args], check=True, timeout=60)
        else:
            self.host.run(['qemu-img', *args])

    def _make_config_drive(self):
        with tempfile.TemporaryDirectory() as d:
            os.makedirs(f'{d}/openstack/latest')
            with open(f'{d}/openstack/latest/meta_data.json', 'w') as f:
                json.dump({'uuid': self.uuid, 'name': self.display_name, 'hostname': self.display_name}, f)
            subprocess.run(['genisoimage', '-quiet', '-o', self.host.path(f'{self.dir}/disk.config'), '-ldots', '-allow-lowercase',
                            '-allow-multidot', '-l', '-publisher', 'lab', '-J', '-r', '-V', 'config-2', d], check=True, timeout=30, stderr=subprocess.DEVNULL)

    def _disk_xml(self):
        out = ''
        for d in self.disks:
            out += (f"<disk type='file' device='disk'><driver name='qemu' type='{d['format']}' cache='{self.lab.disk_cache}'/>"
                    f"<source file='{d['file']}'/><target dev='{d['target']}' bus='virtio'/></disk>\n")
        if self.config_drive:
            out += (f"<disk type='file' device='cdrom'><driver name='qemu' type='raw' cache='{self.lab.disk_cache}'/>"
                    f"<source file='{self.dir}/disk.config'/><target dev='hda' bus='ide'/><readonly/></disk>\n")
        return out

    def _interface_xml(self):
        out = ''
        for p in self.ports:
            net = p['network']
            if self.lab.net == 'ovs':
                where = (f"<source bridge='br-int'/><virtualport type='openvswitch'><parameters interfaceid='{p['id']}'/></virtualport>"
                         + (f"<vlan><tag id='{net['tag']}'/></vlan>" if net['tag'] else ''))
            else:
                where = f"<source bridge='{net['bridge']}'/>"
            out += (f"<interface type='bridge'><mac address='{p['mac']}'/><model type='virtio'/>{where}"
                    f"<mtu size='{self.mtu}'/><target dev='{p['tap']}'/></interface>\n")
        return out

    def _metadata_xml(self):
        ports = ''.join(f'<nova:port uuid="{p["id"]}"><nova:ip type="fixed" address="{p["ip"]}" ipVersion="4"/></nova:port>'
                        for p in self.ports)
        return f"""<metadata><nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
<nova:package version="26.2.2"/><nova:name>{escape(self.display_name)}</nova:name>
<nova:creationTime>{time.strftime('%Y-%m-%d %H:%M:%S')}</nova:creationTime>
<nova:flavor name="m1.lab"><nova:memory>{self.memory_mb}</nova:memory><nova:disk>1</nova:disk><nova:swap>0</nova:swap>
<nova:ephemeral>0</nova:ephemeral><nova:vcpus>{self.vcpus}</nova:vcpus></nova:flavor>
<nova:owner><nova:user uuid="11111111111111111111111111111111">lab</nova:user>
<nova:project uuid="22222222222222222222222222222222">lab</nova:project></nova:owner>
<nova:root type="image" uuid="33333333-3333-3333-3333-333333333333"/><nova:ports>{ports}</nova:ports>
</nova:instance></metadata>"""

    def _domain_xml(self):
        log = f"<log file='{self.dir}/console.log' append='off'/>"
        return f"""<domain type='qemu'>
<uuid>{self.uuid}</uuid><name>{self.name}</name><memory unit='KiB'>{self.memory_mb * 1024}</memory><vcpu>{self.vcpus}</vcpu>
{self._metadata_xml()}
<sysinfo type='smbios'><system><entry name='manufacturer'>OpenStack Foundation</entry><entry name='product'>OpenStack Nova</entry>
<entry name='serial'>{self.uuid}</entry><entry name='uuid'>{self.uuid}</entry><entry name='family'>Virtual Machine</entry></system></sysinfo>
<os><type machine='{self.machine}'>hvm</type><kernel>{self.boot_dir}/kernel</kernel><initrd>{self.boot_dir}/ramdisk</initrd>
<cmdline>console=ttyS0 quiet panic=1</cmdline><boot dev='hd'/><smbios mode='sysinfo'/></os>
<features><acpi/><apic/></features>
<clock offset='utc'/>
<devices><emulator>{emulator()}</emulator>
{self._disk_xml()}{self._interface_xml()}<serial type='pty'>{log}<target port='0'/></serial>
<console type='pty'>{log}<target type='serial' port='0'/></console>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
<memballoon model='virtio'><stats period='10'/></memballoon>
</devices></domain>
"""

    # --- using it -----------------------------------------------------------------------------------

    @property
    def ip(self):
        return self.ports[0]['ip']

    @property
    def taps(self):
        return [p['tap'] for p in self.ports]

    def start(self):
        self.known_mib, self.seen_ms = {}, 0
        self.host.virsh('start', self.name)
        if self.ports:
            wait_until(60, f'answer of guest {self.name} (its console: {self.console()[-300:]})', self._answers)

    def _answers(self):
        try:
            return self.status(timeout=0.5)
        except LabError:
            return None

    def console(self):
        for h in self.lab.hosts.values():
            try:
                with open(h.path(f'{self.dir}/console.log'), errors='replace') as f:
                    return f.read()
            except OSError:
                pass
        return ''

    def command(self, text, timeout=60):
        """One command to guestd (see guest/guestd.c), resent until answered; gives its answer."""
        self._command_id += 1
        ident = f'{os.getpid()}.{time.monotonic_ns()}.{self._command_id}'
        with self.lab.fabric.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
            end = time.monotonic() + timeout
            while time.monotonic() < end:
                s.settimeout(min(0.5, timeout))
                try:
                    s.sendto(f'{ident} {text}'.encode(), (self.ip, CONTROL_PORT))
                    while True:
                        got, _, answer = s.recv(8192).decode().partition(' ')
                        if got == ident:
                            return json.loads(answer)
                except OSError:
                    pass
        raise LabError(f'guest {self.name} did not answer "{text}" within {timeout} s')

    def status(self, timeout=10):
        found = self.command('status', timeout)
        self.restarted = found['uptime_ms'] < self.seen_ms
        self.seen_ms = max(self.seen_ms, found['uptime_ms'])
        return found

    def rate(self, timeout=60, **keys):
        """Changes what the guest does: dirty=, disk= MiB/s; hot=, fill=, diskhot= MiB; sync=0|1."""
        r = self.command('rate ' + ' '.join(f'{k}={v}' for k, v in keys.items()), timeout)
        if not r['ok']:
            raise LabError(f'guest {self.name}: {keys}: {r["first"]}')
        self.known_mib.update((k, v) for k, v in keys.items() if k in ('hot', 'fill'))

    def verify(self, timeout=120):
        """The guest reads all of its memory and disks back; {ok, first, bad_pages, …}. A guest that has started anew
        finds nothing wrong and has lost everything: that is not ok either."""
        found = self.command('verify', timeout)
        self.status(timeout)
        if self.restarted or found['memory_bytes'] != sum(self.known_mib.values()) << 20:
            found.update(ok=False, first=f'the guest has started anew, its console: {self.console()[-1000:]}')
        return found

    def ticks(self, on=True):
        p = self.ports[0]
        self.command(f'ticks addr={p["network"]["gateway"]} port={TICK_PORT if on else 0}')

    def probe(self, ticks=False, **kw):
        if ticks:
            self.ticks()
        return Probe(self.lab.fabric, self.ip, ticks=ticks, **kw)

    def where(self):
        """The names of the hosts on which the domain runs (a list, so that two or none are seen)."""
        return [n for n, h in self.lab.hosts.items() if self.name in h.virsh('list', '--name', '--state-running').split()]

    def qemu_pids(self):
        """The pids of its QEMU processes on all hosts, as the machine counts."""
        found = []
        for entry in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open(f'/proc/{entry}/cmdline', 'rb') as f:
                    words = f.read().split(b'\0')
            except OSError:
                continue
            if b'qemu-system' in words[0] and self.uuid.encode() in words:
                found.append(int(entry))
        return found

    def destroy(self):
        """Removes domain and files from every host."""
        for h in self.lab.hosts.values():
            h.virsh('destroy', self.name, check=False)
            h.virsh('undefine', self.name, check=False)
            remove_tree(h.path(self.dir))
        if self in self.lab.guests:
            self.lab.guests.remove(self)
            self.lab.save()
