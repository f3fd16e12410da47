# SPDX-License-Identifier: Apache-2.0
"""computed and computectl of the build tree, on a host of the lab."""
import json
import os
import re
import shlex
import signal
import time

from namespaces import LabError, wait_until

CONFIG = '/etc/computed/computed.yaml'
# What sanitizers and valgrind write when they found something.
FINDINGS = re.compile(r'^.*(?:ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|ERROR SUMMARY: [1-9]).*$', re.M)


def checker_env():
    """The options of sanitizers that this process was given, for an agent that is built with them."""
    return {k: v for k, v in os.environ.items() if k in ('ASAN_OPTIONS', 'LSAN_OPTIONS', 'TSAN_OPTIONS', 'UBSAN_OPTIONS')}


def program(name):
    from lab import BUILD
    path = os.path.join(BUILD, {'computed': 'agent', 'computectl': 'ctl'}.get(name, ''), name)
    if not os.access(path, os.X_OK):
        raise LabError(f'{path} is not there: build first (./quickstart build), or set COMPUTED_BUILD_DIR')
    return path


def yaml(config):
    """{section: {option: value}} as YAML; each value is written as JSON, which YAML includes."""
    return ''.join(f'{section}:\n' + ''.join(f'  {k}: {json.dumps(v)}\n' for k, v in options.items())
                   for section, options in config.items() if options)


class Agent:
    """computed on one host. extra_config: {section: {option: value}} laid over the lab's own; None removes one."""

    def __init__(self, lab, host, extra_config=None, attach=False, wait=True, env=None, wrapper=()):
        self.lab, self.host, self.env = lab, host, {**checker_env(), **(env or {})}
        self.wrapper = list(wrapper) or shlex.split(os.environ.get('COMPUTED_LAB_WRAPPER', ''))
        self.service = host.services.get('computed')
        self.config = self._config(extra_config or {})
        # a host's log outlives its agents
        self.earlier = len(self.service.output()) if self.service and not attach else 0
        if not attach:
            self.start(wait)

    def _config(self, extra):
        config = {
            'DEFAULT': {'host': self.host.name, 'my_ip': self.host.address, 'transport_url': self.lab.broker.url,
                        'instances_path': '/var/lib/nova/instances', 'state_path': '/var/lib/nova'},
            'libvirt': {'virt_type': 'qemu', 'live_migration_scheme': 'tcp', 'live_migration_inbound_addr': self.host.address},
            'agent': {'control_plane': 'standalone', 'control_socket': '/run/computed/control.sock', 'control_group': ''},
        }
        for section, options in extra.items():
            merged = {**config.get(section, {}), **options}
            config[section] = {k: v for k, v in merged.items() if v is not None}
        return config

    def write_config(self, extra_config=None):
        """Writes the configuration, 0600 as its secrets need it; with extra_config laid over what it was."""
        for section, options in (extra_config or {}).items():
            self.config.setdefault(section, {}).update(options)
        path = self.host.path(CONFIG)
        with open(os.open(path + '.new', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w') as f:
            f.write(yaml(self.config))
        os.rename(path + '.new', path)

    def start(self, wait=True):
        self.write_config()
        os.makedirs(self.host.path('/run/computed'), exist_ok=True)
        self.service = self.host.spawn('computed', [*self.wrapper, program('computed'), '--config-file', CONFIG], env=self.env)
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds=20):
        def ready():
            if not self.service.alive():
                raise LabError(f'computed on {self.host.name} ended: {self.log()[-1500:]}')
            r = self.host.run([program('computectl'), 'status', '--json'], check=False, timeout=10)
            return r.returncode == 0
        wait_until(seconds, f'answer of computed on {self.host.name}', ready, 0.1)
        try:  # it answers before it has a libvirt; a test in which there is none goes on without
            wait_until(20, 'libvirt', lambda: self.computectl('status', parse=True)['hypervisor']['up'], 0.1)
        except LabError:
            pass

    @property
    def pid(self):
        return self.service.pid

    def log(self):
        """What this agent wrote, over all its starts."""
        return self.service.output()[self.earlier:]

    def findings(self):
        """The first lines of what a sanitizer or valgrind reported so far."""
        return FINDINGS.findall(self.log()) if self.service else []

    def stop(self, seconds=15):
        return self.service.stop(seconds) if self.service else None

    def kill(self, sig=signal.SIGKILL):
        self.service.kill(sig)

    def restart(self, extra_config=None):
        self.stop()
        self.write_config(extra_config)
        self.start()

    def computectl(self, *args, timeout=60, check=True, parse=False):
        """Runs computectl on this host. parse: with --json, its parsed output; else the completed process."""
        cmd = [program('computectl'), *map(str, args), *(['--json'] if parse else [])]
        r = self.host.run(cmd, timeout=timeout, check=check)
        return json.loads(r.stdout) if parse else r

    def migrate(self, guest, to, *options, timeout=300):
        """Moves a guest away from this host and waits for the end; its record (see `computectl show`)."""
        self.computectl('migrate', guest.uuid, '--to', to, *options)
        return self.wait_end(guest, timeout)

    def wait_end(self, guest, timeout=300, statuses=('completed', 'failed', 'error', 'cancelled'), watch=None):
        """Waits until the newest migration of a guest has one of the statuses; gives its record. watch sees each look."""
        def ended():
            records = [m for m in self.computectl('migrations', parse=True)['migrations']
                       if m['instance'] == guest.uuid and m['role'] == 'source']
            newest = max(records, key=lambda m: m['id'], default={})
            if watch and newest:
                watch(newest)
            return newest if newest.get('status') in statuses else None
        return wait_until(timeout, f'end of the migration of {guest.name}', ended, 0.05)

    def pss_kib(self):
        """Proportional set size of the agent and its children, in KiB."""
        from namespaces import children
        total, pids = 0, [self.pid]
        while pids:
            pid = pids.pop()
            pids += children(pid)
            with open(f'/proc/{pid}/smaps_rollup') as f:
                total += sum(int(line.split()[1]) for line in f if line.startswith('Pss:'))
        return total

    def cpu_seconds(self):
        """CPU time of the process with all its threads, to the nanosecond (the clock that clock_getcpuclockid(3) names)."""
        return time.clock_gettime((~self.pid << 3) | 2)
