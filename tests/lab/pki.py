# SPDX-License-Identifier: Apache-2.0
"""A certificate authority of the lab and a certificate for each box, where libvirt, QEMU and RabbitMQ look for them."""
import os
import shutil
import subprocess


def _openssl(*args, **kw):
    subprocess.run(['openssl', *args], check=True, timeout=30, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kw)


def make_authority(d):
    os.makedirs(d, exist_ok=True)
    _openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-subj', '/CN=lab CA',
             '-addext', 'keyUsage=critical,keyCertSign,cRLSign', '-keyout', f'{d}/ca.key', '-out', f'{d}/ca.pem')


def make_certificate(d, name, address):
    """d/NAME.pem and d/NAME.key, good for NAME and its address, as server and as client."""
    with open(f'{d}/{name}.ext', 'w') as f:
        f.write('basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n'
                f'extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=DNS:{name},IP:{address}\n')
    _openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', f'/CN={name}',
             '-keyout', f'{d}/{name}.key', '-out', f'{d}/{name}.csr')
    _openssl('x509', '-req', '-in', f'{d}/{name}.csr', '-CA', f'{d}/ca.pem', '-CAkey', f'{d}/ca.key', '-CAcreateserial',
             '-days', '30', '-extfile', f'{d}/{name}.ext', '-out', f'{d}/{name}.pem')


def install(d, name, box):
    """Puts the box's certificate into its /etc/pki under the names that libvirt and QEMU use."""
    places = {'CA/cacert.pem': 'ca.pem', 'qemu/ca-cert.pem': 'ca.pem'}
    for role in ('server', 'client'):
        places |= {f'libvirt/{role}cert.pem': f'{name}.pem', f'libvirt/private/{role}key.pem': f'{name}.key',
                   f'qemu/{role}-cert.pem': f'{name}.pem', f'qemu/{role}-key.pem': f'{name}.key'}
    for place, source in places.items():
        path = box.path(f'/etc/pki/{place}')
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(f'{d}/{source}', path)
