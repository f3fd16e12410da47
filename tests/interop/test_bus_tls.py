# SPDX-License-Identifier: Apache-2.0
"""TLS to brokers: the right one is taken, every wrong one is refused before it learns a password."""
import os
import socket
import ssl
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from broker import Broker, free_port  # noqa: E402
from bus_client import Bus  # noqa: E402

SECRET = 's3cret-marker'


class Pki:
    """A certificate authority and what it signs, by openssl's command line."""

    def __init__(self, directory):
        self.d = directory
        for name in ('ca', 'other'):
            self._run('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
                      '-subj', f'/CN={name}', '-keyout', f'{name}.key', '-out', f'{name}.pem')

    def _run(self, *args):
        subprocess.run(['openssl', *args], cwd=self.d, check=True, capture_output=True, timeout=30)

    def path(self, name):
        return os.path.join(self.d, name)

    def issue(self, name, san, ca='ca', usage='serverAuth', start='-1', end='+1'):
        """Certificate and key as one PEM file; start and end in days from now."""
        with open(self.path(f'{name}.ext'), 'w') as f:
            f.write(f'basicConstraints=critical,CA:FALSE\nextendedKeyUsage={usage}\n'
                    + (f'subjectAltName={san}\n' if san else ''))
        self._run('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', f'/CN={name}',
                  '-keyout', f'{name}.key', '-out', f'{name}.csr')
        open(self.path('index'), 'w').close()
        with open(self.path('ca.cnf'), 'w') as f:
            f.write(f'[ca]\ndefault_ca=d\n[d]\ndatabase={self.path("index")}\nnew_certs_dir={self.d}\n'
                    'default_md=sha256\npolicy=p\nrand_serial=yes\nunique_subject=no\n[p]\ncommonName=supplied\n')
        stamp = [subprocess.run(['date', '-u', '-d', f'{days} days', '+%Y%m%d%H%M%SZ'], check=True, text=True,
                                stdout=subprocess.PIPE).stdout.strip() for days in (start, end)]
        self._run('ca', '-batch', '-config', 'ca.cnf', '-cert', f'{ca}.pem', '-keyfile', f'{ca}.key', '-in', f'{name}.csr',
                  '-out', f'{name}.crt', '-extfile', f'{name}.ext', '-startdate', stamp[0], '-enddate', stamp[1], '-notext')
        with open(self.path(f'{name}.pem'), 'w') as out:
            for part in (f'{name}.crt', f'{name}.key'):
                with open(self.path(part)) as f:
                    out.write(f.read())
        return self.path(f'{name}.pem')


@pytest.fixture(scope='module')
def pki(tmp_path_factory):
    return Pki(str(tmp_path_factory.mktemp('pki')))


@pytest.fixture(scope='module')
def broker(pki):
    """RabbitMQ with two TLS ports' worth of trust: one listener that asks for a client certificate."""
    broker = Broker()
    broker.tls_port = free_port()
    pki.issue('good', 'DNS:localhost,IP:127.0.0.1')
    with open(f'{broker.directory}/rabbitmq.conf', 'a') as f:
        f.write(f'listeners.ssl.1 = 127.0.0.1:{broker.tls_port}\nssl_options.cacertfile = {pki.path("ca.pem")}\n'
                f'ssl_options.certfile = {pki.path("good.crt")}\nssl_options.keyfile = {pki.path("good.key")}\n'
                'ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n')
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@pytest.mark.parametrize('host', ['localhost', '127.0.0.1'])
@pytest.mark.parametrize('version', ['', 'TLSv1_3'])
def test_the_right_broker_is_used(broker, pki, host, version):
    client = pki.issue('client', '', usage='clientAuth')
    userinfo = broker.url.split('//')[1].split('@')[0]
    bus = Bus(f'rabbit://{userinfo}@{host}:{broker.tls_port}/?ssl=1', 'compute', ssl_ca_file=pki.path('ca.pem'),
              ssl_cert_file=client, ssl_key_file=client, ssl_version=version)
    since = bus.mark()
    bus.command('burst 300 nova compute.h1')
    assert bus.wait('confirmed', since=since)['confirmed'] == 300
    bus.wait('delivery', count=300)
    bus.publish('nova', 'compute.h1', '{"big":"' + 'x' * 200000 + '"}')
    assert len(bus.wait('delivery', lambda e: 'big' in e['delivery'])['delivery']) > 200000
    bus.quit()


def test_a_missing_client_certificate_is_told(broker, pki):
    bus = Bus(f'rabbit://u:{SECRET}@localhost:{broker.tls_port}/?ssl=1', wait=False, ssl_ca_file=pki.path('ca.pem'))
    assert 'broker localhost' in bus.wait_down()['why']
    bus.quit()


class Impostor:
    """A TLS server that writes down what it hears after the handshake."""

    def __init__(self, pem=None, maximum=None):
        self.heard, self.connections = b'', 0
        self.server = socket.create_server(('127.0.0.1', 0))
        self.port = self.server.getsockname()[1]
        self.context = None
        if pem:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(pem)
            if maximum:
                self.context.minimum_version = ssl.TLSVersion.TLSv1
                self.context.set_ciphers('ALL:@SECLEVEL=0')
                self.context.maximum_version = maximum
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                s, _ = self.server.accept()
            except OSError:
                return
            self.connections += 1
            try:
                s.settimeout(2)
                if self.context:
                    s = self.context.wrap_socket(s, server_side=True)
                self.heard += s.recv(4096)
            except OSError:
                pass
            finally:
                s.close()

    def close(self):
        self.server.close()


def refused(server, words, **options):
    bus = Bus(f'rabbit://u:{SECRET}@localhost:{server.port}/?ssl=1', wait=False, **options)
    try:
        why = bus.wait_down()['why']
        assert words in why and SECRET not in why, why
        assert not bus.describe()['up']
    finally:
        bus.quit()
        server.close()
    assert b'AMQP' not in server.heard and SECRET.encode() not in server.heard and server.connections > 0


def test_wrong_certificates_are_refused_before_anything_is_said(pki):
    ca = pki.path('ca.pem')
    refused(Impostor(pki.issue('alien', 'DNS:localhost', ca='other')), 'certificate is refused', ssl_ca_file=ca)
    refused(Impostor(pki.issue('name', 'DNS:elsewhere.example')), 'does not name the host "localhost"', ssl_ca_file=ca)
    refused(Impostor(pki.issue('prefix', 'DNS:localhost.evil.example')), 'does not name', ssl_ca_file=ca)
    refused(Impostor(pki.issue('partial', 'DNS:local*')), 'does not name', ssl_ca_file=ca)
    refused(Impostor(pki.issue('addressed', 'IP:127.0.0.1')), 'does not name', ssl_ca_file=ca)
    refused(Impostor(pki.issue('expired', 'DNS:localhost', start='-3', end='-1')), 'expired', ssl_ca_file=ca)
    refused(Impostor(pki.issue('future', 'DNS:localhost', start='+1', end='+2')), 'not yet valid', ssl_ca_file=ca)
    refused(Impostor(pki.issue('usage', 'DNS:localhost', usage='clientAuth')), 'certificate is refused', ssl_ca_file=ca)
    refused(Impostor(pki.issue('system', 'DNS:localhost')), 'certificate is refused')  # no CA: the system's
    with open(pki.path('self.pem'), 'w') as out:
        for part in ('other.pem', 'other.key'):
            with open(pki.path(part)) as f:
                out.write(f.read())
    refused(Impostor(pki.path('self.pem')), 'certificate is refused', ssl_ca_file=ca)


def test_an_address_must_be_named_as_an_address(pki):
    server = Impostor(pki.issue('dns-as-ip', 'DNS:127.0.0.1'))
    bus = Bus(f'rabbit://u:{SECRET}@127.0.0.1:{server.port}/?ssl=1', wait=False, ssl_ca_file=pki.path('ca.pem'))
    assert 'does not name the host "127.0.0.1"' in bus.wait_down()['why']
    bus.quit()
    server.close()
    assert SECRET.encode() not in server.heard and b'AMQP' not in server.heard


def test_old_versions_and_plain_servers_are_refused(pki):
    good = pki.issue('modern', 'DNS:localhost')
    refused(Impostor(good, ssl.TLSVersion.TLSv1_1), 'TLS handshake failed', ssl_ca_file=pki.path('ca.pem'))
    refused(Impostor(good, ssl.TLSVersion.TLSv1_2), 'TLS handshake failed', ssl_ca_file=pki.path('ca.pem'), ssl_version='TLSv1_3')
    refused(Impostor(), 'the broker localhost', ssl_ca_file=pki.path('ca.pem'))


def test_switches_for_old_clouds_do_what_they_say(pki):
    heard = []
    for options in ({'ssl_enforce_hostname_verification': False, 'ssl_ca_file': pki.path('ca.pem')},
                    {'ssl_verify_peer': False}):
        server = Impostor(pki.issue('elsewhere', 'DNS:elsewhere.example'))
        bus = Bus(f'rabbit://u:{SECRET}@localhost:{server.port}/?ssl=1', wait=False, **options)
        bus.wait_down('closed')
        bus.quit()
        server.close()
        heard.append(server.heard)
    assert all(h.startswith(b'AMQP\0\0\x09\x01') for h in heard)


def test_files_that_cannot_be_used_are_named(pki):
    for option, more in (('ssl_ca_file', {}), ('ssl_cert_file', {'ssl_key_file': '/nonexistent.key'})):
        bus = Bus(f'rabbit://localhost:{free_port()}/?ssl=1', wait=False, **{option: '/nonexistent.pem'}, **more)
        why = bus.wait_down()['why']
        assert option in why and '/nonexistent.pem' in why
        bus.quit()
