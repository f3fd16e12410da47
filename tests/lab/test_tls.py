# SPDX-License-Identifier: Apache-2.0
"""Encryption where it is configured: the message bus, the libvirtds and QEMU, each with the other side's name verified."""
import os
import re
import time

import pytest

import lab as lab_module
from namespaces import wait_until

CA = '/etc/pki/CA/cacert.pem'


def bus(address='198.51.100.10'):
    return {'DEFAULT': {'transport_url': f'rabbit://lab:labpass@{address}:5671/'},
            'oslo_messaging_rabbit': {'ssl': True, 'ssl_ca_file': CA}}


ALL = {**bus(), 'libvirt': {'live_migration_scheme': 'tls', 'live_migration_with_native_tls': True}}


@pytest.fixture(scope='module')
def tls_lab():
    if os.geteuid() != 0:
        pytest.skip('lab tests need root (namespaces, libvirtd)')
    lab = lab_module.Lab(f't{os.getpid()}-tls')
    lab.up(tls=True)
    yield lab
    lab.down()


@pytest.fixture
def lab(tls_lab):
    yield tls_lab
    for agent in list(tls_lab.agents.values()):
        agent.stop()
    tls_lab.agents.clear()
    for guest in list(tls_lab.guests):
        guest.destroy()


def connections_to(box, port):
    """The established connections of a box to a port of another."""
    return [line for line in box.run(['ss', '-Htn', 'state', 'established', f'( dport = :{port} )']).stdout.splitlines() if line.strip()]


def test_a_guest_moves_with_every_byte_between_the_hosts_encrypted(lab):
    for host in lab.hosts:
        lab.agent(host, ALL)
        assert connections_to(lab.hosts[host], 5671) and not connections_to(lab.hosts[host], 5672)
    agent = lab.agents['hosta']
    guest = lab.guest(dirty=4, hot_set=8, fill=32, disk_rate=1, disk_hot=8)
    sniffer = Sniffer(lab)
    record = agent.migrate(guest, 'hostb', 'bandwidth=40')
    assert record['status'] == 'completed', record
    seen = sniffer.stop()
    assert guest.where() == ['hostb'] and guest.verify()['ok']
    assert 16514 in seen and 16509 not in seen, f'connections to the ports {sorted(seen)}'
    data = [p for p in seen if 49152 <= p <= 49215]
    assert data, f'no data went to a migration port: {sorted(seen)}'
    for port in data:
        plain, _, encrypted = seen[port].partition(b'\x16\x03')
        # NBD says its flags (4 bytes) and asks for TLS (IHAVEOPT, option 5, no data) before the handshake; memory nothing
        assert encrypted and plain in (b'', b'\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0\0'), f'port {port} began with {seen[port][:40]!r}'


class Sniffer:
    """The first bytes that hosta sent to each TCP port of hostb (the fabric's link to hostb is read)."""

    def __init__(self, lab):
        import socket
        import threading
        every = 3  # ETH_P_ALL: a bridge takes its ports' frames before any single protocol sees them
        self.socket = lab.fabric.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(every))
        self.socket.bind(('c-hosta', every))
        self.socket.settimeout(0.3)
        self.first, self.ended = {}, False
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.ended:
            try:
                f = self.socket.recv(200)
            except TimeoutError:
                continue
            ip = f[14:]
            tcp = ip[(ip[0] & 15) * 4:]
            if f[12:14] != b'\x08\x00' or ip[9] != 6 or ip[16:20] != bytes([198, 51, 100, 12]):
                continue
            data = tcp[(tcp[12] >> 4) * 4:int.from_bytes(ip[2:4], 'big') - (ip[0] & 15) * 4]
            port = int.from_bytes(tcp[2:4], 'big')
            if len(self.first.get(port, b'')) < 100:
                self.first[port] = self.first.get(port, b'') + bytes(data)

    def stop(self):
        time.sleep(0.2)
        self.ended = True
        self.thread.join()
        self.socket.close()
        return self.first


def test_a_broker_whose_certificate_names_another_host_is_refused_with_both_names(lab):
    host = lab.hosts['hosta']
    with open(host.path('/etc/hosts'), 'a') as f:
        f.write('198.51.100.10 broker.example\n')
    agent = lab.agent(host, {**bus('broker.example')})
    told = wait_until(20, 'word on the certificate', lambda: re.search(r'.*broker\.example.*certificate.*|.*certificate.*broker\.example.*', agent.log()))
    assert 'WARNING' in told[0] or 'ERROR' in told[0], told[0]
    assert agent.computectl('status', parse=True)['rpc']['up'] is False
    assert agent.service.alive() and agent.log().count('\n') < 60, 'the log is flooded'


def test_a_broker_that_nobody_trusted_signed_is_refused(lab):
    agent = lab.agent('hosta', {'DEFAULT': bus()['DEFAULT'], 'oslo_messaging_rabbit': {'ssl': True}})
    wait_until(20, 'word on the certificate', lambda: re.search(r'(WARNING|ERROR).*certificate', agent.log()))
    assert agent.service.alive()


def test_a_destination_whose_certificate_is_not_trusted_gets_no_guest(lab):
    for host in lab.hosts:
        lab.agent(host, ALL)
    guest = lab.guest()
    b, ca = lab.hosts['hostb'], lab.hosts['hostb'].path('/etc/pki/qemu/ca-cert.pem')
    with open(ca) as f:
        good = f.read()
    try:
        with open(os.path.join(lab.dir, 'pki/hostb.pem')) as f, open(ca, 'w') as bad:
            bad.write(f.read())
        record = lab.agents['hosta'].migrate(guest, 'hostb')
        assert record['status'] == 'failed' and re.search('ertificate|TLS', record['message']), record
        assert guest.where() == ['hosta'] and guest.verify()['ok']
        assert not os.path.exists(b.path(guest.dir))
    finally:
        with open(ca, 'w') as f:
            f.write(good)
