# SPDX-License-Identifier: Apache-2.0
"""The lab's C programs (built once per source, kept in the cache) and the probe."""
import hashlib
import json
import os
import shlex
import signal
import subprocess
import tempfile
import time

from namespaces import LabError

HERE = os.path.dirname(os.path.abspath(__file__))
TICK_PORT = 9001


def cache_dir():
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    d = os.path.join(base, 'computed-lab')
    os.makedirs(d, mode=0o755, exist_ok=True)
    return d


def prune_cache(days=3):
    """Forgets what older sources of the lab's programs left in the cache."""
    for f in os.listdir(cache_dir()):
        path = os.path.join(cache_dir(), f)
        if f.startswith(('guestd-', 'probe-', 'rpc_echo-')) and time.time() - os.path.getmtime(path) > days * 86400:
            os.unlink(path)


def build_c(source, *flags, libraries=()):
    """Compiles one C file of the lab; the result is kept under a name made from its content."""
    source = os.path.join(HERE, source)
    with open(source, 'rb') as f:
        key = hashlib.sha256(f.read() + repr((flags, libraries)).encode()).hexdigest()[:12]
    name = os.path.splitext(os.path.basename(source))[0]
    out = os.path.join(cache_dir(), f'{name}-{key}')
    if os.path.exists(out):
        os.utime(out)
    else:
        prune_cache()
        tmp = f'{out}.{os.getpid()}'
        cmd = [*shlex.split(os.environ.get('CC', 'cc')), '-std=gnu11', '-O2', '-Wall', '-Wextra', *flags, '-o', tmp, source, *(f'-l{name}' for name in libraries)]
        r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        if r.returncode:
            raise LabError(f'{" ".join(cmd)}: {r.stdout[-2000:]}')
        os.rename(tmp, out)
    return out


class Probe:
    """A running probe (tests/lab/probe/probe.c) in one box. stop() gives what it measured."""

    def __init__(self, box, address, ticks=False, icmp=False, one_way=False, interval_us=1000, size=64, trace=None):
        program = build_c('probe/probe.c')
        cmd = ['nice', '-n', '-10', program, '--interval-us', str(interval_us), '--size', str(size)]
        cmd += ['--icmp'] if icmp else []
        cmd += ['--one-way'] if one_way else []
        cmd += ['--ticks', str(TICK_PORT)] if ticks else []
        cmd += ['--trace', trace] if trace else []
        self._box = box
        self._out = tempfile.TemporaryFile()
        self._service = box.spawn(f'probe-{address}{"-icmp" if icmp else ""}', cmd + [address], stdout=self._out)
        self.result = None

    def stop(self):
        if self.result is None:
            self._service.kill(signal.SIGINT)
            status = self._service.popen.wait(90)
            self._box.services.pop(self._service.name, None)
            self._out.seek(0)
            text = self._out.read()
            self._out.close()
            if status or not text:
                raise LabError(f'probe: status {status}: {self._service.output()[-500:]}')
            self.result = json.loads(text)
        return self.result

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()
