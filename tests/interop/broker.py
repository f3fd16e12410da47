# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ of the tests' own: loopback, a free port, its own node, directory, cookie and epmd.

The machine's RabbitMQ, running or not, is not touched; everything is gone after close().
"""
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

SBIN = '/usr/lib/rabbitmq/bin'


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def wait_until(seconds, what, condition, step=0.05):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(step)
    raise AssertionError(f'{what}: not within {seconds} s')


class Broker:
    user, password = 'interop', 'p@ss:word'  # a "/" would break kombu
    vhost = ''

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix='computed-interop-')
        self.port, self.epmd_port, self.dist_port = free_port(), free_port(), free_port()
        self.process = None
        d = self.directory
        self.env = {
            'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'HOME': d, 'LANG': 'C.UTF-8',
            'RABBITMQ_NODENAME': f'interop{self.port}@localhost', 'RABBITMQ_MNESIA_BASE': f'{d}/mnesia',
            'RABBITMQ_LOG_BASE': f'{d}/log', 'RABBITMQ_LOGS': f'{d}/log/rabbit.log', 'RABBITMQ_PID_FILE': f'{d}/pid',
            'RABBITMQ_CONFIG_FILE': f'{d}/rabbitmq', 'RABBITMQ_ENABLED_PLUGINS_FILE': f'{d}/enabled_plugins',
            'RABBITMQ_CONF_ENV_FILE': f'{d}/none', 'RABBITMQ_DIST_PORT': str(self.dist_port),
            'ERL_EPMD_PORT': str(self.epmd_port), 'ERL_EPMD_ADDRESS': '127.0.0.1',
            'ERL_CRASH_DUMP': f'{d}/crash', 'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS':
                '+sbwt none +sbwtdcpu none +sbwtdio none +S 1:1',
        }
        for name in ('mnesia', 'log'):
            os.mkdir(f'{d}/{name}')
        with open(os.open(f'{d}/.erlang.cookie', os.O_WRONLY | os.O_CREAT, 0o400), 'w') as f:
            f.write(secrets.token_hex(12))
        with open(f'{d}/rabbitmq.conf', 'w') as f:
            f.write(f'default_user = {self.user}\ndefault_pass = {self.password}\n'
                    f'listeners.tcp.1 = 127.0.0.1:{self.port}\nheartbeat = 60\nlog.file.level = warning\n')
        with open(f'{d}/enabled_plugins', 'w') as f:
            f.write('[].\n')
        self.epmd = subprocess.Popen(['/usr/bin/epmd', '-port', str(self.epmd_port), '-address', '127.0.0.1'],
                                     env=self.env, stdin=subprocess.DEVNULL, start_new_session=True)

    @property
    def url(self):
        return f'rabbit://{self.user}:p%40ss%3Aword@127.0.0.1:{self.port}/{self.vhost}'

    def start(self):
        with open(f'{self.directory}/output', 'ab') as out:
            self.process = subprocess.Popen([f'{SBIN}/rabbitmq-server'], env=self.env, stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=out, cwd=self.directory, start_new_session=True)
        wait_until(60, 'RabbitMQ', self._ready, 0.1)

    def _ready(self):
        if self.process.poll() is not None:
            with open(f'{self.directory}/output', errors='replace') as f:
                raise AssertionError('RabbitMQ ended: ' + f.read()[-1500:])
        try:
            with socket.create_connection(('127.0.0.1', self.port), 2) as s:
                s.sendall(b'AMQP\0\0\x09\x01')
                return len(s.recv(8)) > 0
        except OSError:
            return False

    def stop(self, kill=False):
        """Ends the node; definitions and durable things stay, start() brings it back."""
        if self.process is None:
            return
        os.killpg(self.process.pid, signal.SIGKILL if kill else signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(5)
        self.process = None

    def ctl(self, *args):
        return subprocess.run([f'{SBIN}/rabbitmqctl', '-q', *args], env=self.env, check=True, timeout=60,
                              stdout=subprocess.PIPE, text=True).stdout

    def close(self):
        self.stop(kill=True)
        self.epmd.terminate()
        self.epmd.wait(5)
        shutil.rmtree(self.directory, ignore_errors=True)
