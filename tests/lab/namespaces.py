# SPDX-License-Identifier: Apache-2.0
"""Box: one machine of the lab, as a set of namespaces (network, mount, UTS, IPC, PID).

Nothing has a name on the machine that could be left behind: each box is held by one process, process 1 of
its own PID namespace. When that ends, for whatever reason, the kernel ends all that runs in the box and
takes its interfaces and mounts with it. What remains is a directory.

/run, /var and /etc are the box's own; /sys is mounted anew, so that it shows the box's own interfaces.
"""
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

CLEAN_ENV = {'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'HOME': '/root',
             'LANG': 'C.UTF-8', 'PYTHONDONTWRITEBYTECODE': '1'}
CLONE_NEWNET = 0x40000000
CRASHES = [-s for s in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)]


class LabError(Exception):
    """Something of the lab itself failed; its text is for the person who runs it."""


def wait_until(seconds, what, test, interval=0.05):
    """Calls test() until it gives something true, and gives that; LabError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        result = test()
        if result:
            return result
        if time.monotonic() > end:
            raise LabError(f'no {what} after {seconds} s')
        time.sleep(interval)


def start_time(pid):
    """The start time of a process in clock ticks since boot (with the pid it names a process for good), or None."""
    try:
        with open(f'/proc/{pid}/stat') as f:
            fields = f.read().rpartition(')')[2].split()
        return None if fields[0] in 'ZX' else int(fields[19])
    except (OSError, IndexError):
        return None


def children(pid):
    try:
        with open(f'/proc/{pid}/task/{pid}/children') as f:
            return [int(p) for p in f.read().split()]
    except OSError:
        return []


def holders(lab_dir, box=None):
    """The pids of the processes that hold boxes of the lab in `lab_dir`, on the machine's own count."""
    found = {}
    for entry in os.listdir('/proc'):
        if not entry.isdigit():
            continue
        try:
            with open(f'/proc/{entry}/cmdline', 'rb') as f:
                words = f.read().decode(errors='replace').split('\0')
        except OSError:
            continue
        if len(words) > 6 and words[0].endswith('python3') and words[4:6] == ['hold', lab_dir]:
            if box in (None, words[6]) and start_time(int(entry)):
                found[int(entry)] = words[6]
    return found


class Service:
    """One process that runs in a box until it is stopped. `pid` counts on the machine, not in the box."""

    def __init__(self, name, pid, started, popen=None, log=None):
        self.name, self.pid, self.started, self.popen, self.log = name, pid, started, popen, log

    def alive(self):
        if self.popen:
            self.popen.poll()
        return start_time(self.pid) == self.started

    def crash(self):
        """The name of the signal by which it ended when that is one of a program's own faults, else None."""
        if self.alive() or not self.popen or self.popen.returncode not in CRASHES:
            return None
        return signal.Signals(-self.popen.returncode).name

    def kill(self, sig):
        if self.alive():
            os.kill(self.pid, sig)
            if self.popen and sig == signal.SIGCONT:
                os.kill(self.popen.pid, sig)  # nsenter stops itself with its child

    def stop(self, seconds=10):
        """TERM, and KILL when it has not ended after `seconds`. Returns the exit status where it is known."""
        self.kill(signal.SIGCONT)
        self.kill(signal.SIGTERM)
        try:
            wait_until(seconds, 'end of ' + self.name, lambda: not self.alive(), 0.02)
        except LabError:
            self.kill(signal.SIGKILL)
            wait_until(10, f'end of {self.name} after SIGKILL', lambda: not self.alive(), 0.02)
        return self.popen.wait(10) if self.popen else None

    def output(self):
        try:
            with open(self.log, errors='replace') as f:
                return f.read()
        except (OSError, TypeError):
            return ''


class Box:
    """One machine of the lab. `lab_dir` is the lab's directory, `name` the host name."""

    def __init__(self, lab_dir, name):
        self.lab_dir, self.name = lab_dir, name
        self.dir = os.path.join(lab_dir, name)
        self.pid = None
        self.services = {}

    # --- life ---------------------------------------------------------------------------------------

    def start(self, hosts, keep=()):
        """Makes the namespaces. `hosts`: {name: address} for /etc/hosts. The directories in `keep` stay
        visible in the box even where they are below /run, /var or /etc."""
        for d in ('run/lock', 'run/libvirt', 'var/lib', 'var/log', 'var/cache', 'var/tmp'):
            os.makedirs(os.path.join(self.dir, d), exist_ok=True)
        os.symlink('/run', os.path.join(self.dir, 'var/run'))
        os.symlink('/run/lock', os.path.join(self.dir, 'var/lock'))
        subprocess.run(['cp', '-a', '/etc', self.dir], check=True)
        with open(os.path.join(self.dir, 'etc/hosts'), 'w') as f:
            f.write('127.0.0.1 localhost\n::1 localhost\n' + ''.join(f'{a} {n}\n' for n, a in hosts.items()))
        script = os.path.join(self.dir, 'setup.sh')
        with open(script, 'w') as f:
            f.write(self._setup_script(keep))
        log = open(os.path.join(self.lab_dir, 'log', f'hold.{self.name}.log'), 'ab')
        with log:
            outer = subprocess.Popen(
                ['unshare', '--net', '--mount', '--uts', '--ipc', '--pid', '--fork', '--kill-child=KILL', '--mount-proc',
                 '/usr/bin/python3', '-S', '-E', os.path.abspath(__file__), 'hold', self.lab_dir, self.name, script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd='/', env=CLEAN_ENV)
        # nobody waits for it for long: it ends with its only child
        threading.Thread(target=outer.wait, daemon=True).start()

        def ready():
            if outer.poll() is not None:
                raise LabError(f'the namespaces of {self.name} could not be made: ' + self._read_log())
            return os.path.exists(os.path.join(self.dir, 'ready'))
        wait_until(20, f'namespaces of {self.name}', ready, 0.01)
        self.attach()

    def _read_log(self):
        with open(os.path.join(self.lab_dir, 'log', f'hold.{self.name}.log'), errors='replace') as f:
            return f.read()[-500:].strip()

    def _setup_script(self, keep):
        d = self.dir
        keep = [k for k in keep if k.startswith(('/run/', '/var/', '/etc/'))]
        lines = ['set -e', f'hostname {self.name}', 'ip link set lo up',
                 'for i in all default; do echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6 || true; done 2>/dev/null',
                 'echo 0 >/proc/sys/net/ipv6/conf/lo/disable_ipv6 || true']
        for i, k in enumerate(keep):
            lines += [f'mkdir -p {d}/keep{i} {d}/{k}', f'mount --rbind {k} {d}/keep{i}']
        for top in ('run', 'var', 'etc'):
            lines.append(f'mount --bind {d}/{top} /{top}')
        for i, k in enumerate(keep):
            lines.append(f'mount --rbind {d}/keep{i} {k}')
        lines += ['mount -t sysfs sysfs /sys', f'echo ready >{d}/ready']
        return '\n'.join(lines) + '\n'

    def attach(self):
        """Finds a box that another process made."""
        found = list(holders(self.lab_dir, self.name))
        self.pid = found[0] if found else None
        return self.pid is not None

    def destroy(self):
        """Ends all that runs in the box; its interfaces, mounts and processes go with it."""
        for pid in holders(self.lab_dir, self.name):
            os.kill(pid, signal.SIGKILL)
        wait_until(20, f'end of the namespaces of {self.name}', lambda: not holders(self.lab_dir, self.name), 0.02)
        self.pid = None
        self.services.clear()

    # --- running things in it ----------------------------------------------------------------------

    def _enter(self):
        if not self.pid:
            raise LabError(f'{self.name} is not up')
        return ['nsenter', '-t', str(self.pid), '-n', '-m', '-u', '-i', '-p', '-r', '-w', '--']

    def command(self, cmd):
        """The words that run a command in the box, for a subprocess of one's own (terminal, streaming)."""
        return self._enter() + ['env', '-i', *(f'{k}={v}' for k, v in CLEAN_ENV.items()), f'TERM={os.environ.get("TERM", "dumb")}', *cmd]

    def run(self, cmd, timeout=30, check=True, env=None, input=None):
        """Runs a command in the box; text in, text out. With check, a failure is a LabError that quotes it."""
        try:
            r = subprocess.run(self._enter() + list(cmd), env={**CLEAN_ENV, **(env or {})}, cwd='/', timeout=timeout,
                               input=input, stdin=None if input is not None else subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors='replace')
        except subprocess.TimeoutExpired:
            raise LabError(f'{self.name}: {" ".join(cmd)}: not done after {timeout} s') from None
        if check and r.returncode:
            raise LabError(f'{self.name}: {" ".join(cmd)}: status {r.returncode}: {(r.stderr or r.stdout).strip()[-800:]}')
        return r

    def spawn(self, name, cmd, env=None, stdout=None):
        """Starts a service; its output goes to log/NAME.BOX.log (standard output to `stdout` if given)."""
        log = os.path.join(self.lab_dir, 'log', f'{name}.{self.name}.log')
        with open(log, 'ab') as out:
            p = subprocess.Popen(self._enter() + list(cmd), env={**CLEAN_ENV, **(env or {})}, cwd='/', stdin=subprocess.DEVNULL,
                                 stdout=stdout or out, stderr=out, start_new_session=True)

        def child():
            if p.poll() is not None:
                raise LabError(f'{self.name}: {name} ended at once: ' + Service(name, 0, 0, log=log).output()[-500:])
            return [(c, start_time(c)) for c in children(p.pid) if start_time(c)]
        pid, started = wait_until(5, f'process of {name}', child, 0.002)[0]
        service = Service(name, pid, started, p, log)
        self.services[name] = service
        return service

    def socket(self, *args):
        """A socket that lives in the box's network namespace, for use by this process."""
        libc = ctypes.CDLL(None, use_errno=True)
        own = os.open('/proc/thread-self/ns/net', os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(f'/proc/{self.pid}/ns/net', os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(there, CLONE_NEWNET) != 0:
                raise LabError(f'{self.name}: setns: {os.strerror(ctypes.get_errno())}')
            try:
                return socket.socket(*args)
            finally:
                libc.setns(own, CLONE_NEWNET)
        finally:
            os.close(own)
            os.close(there)

    def ip(self, *args):
        """`ip ARGS` in this box's network alone, so that process ids in ARGS count on the machine."""
        r = subprocess.run(['nsenter', '-t', str(self.pid), '-n', 'ip', *args], env=CLEAN_ENV, timeout=10, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if r.returncode:
            raise LabError(f'{self.name}: ip {" ".join(args)}: {r.stderr.strip()}')
        return r.stdout

    def links(self):
        """[{ifname, master, …}] of the box, as `ip -j` says."""
        return json.loads(self.ip('-j', 'link', 'show'))

    def path(self, inside):
        """Where a file that is /run, /var or /etc in the box lies on the machine."""
        return os.path.join(self.dir, inside.lstrip('/'))


def remove_tree(path):
    shutil.rmtree(path, ignore_errors=True)
    if os.path.exists(path):
        shutil.rmtree(path)


def hold(script):
    """Process 1 of a box: sets it up, then does nothing but reap."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    pid = os.posix_spawn('/bin/sh', ['sh', script], os.environ, setsigmask=[])
    if os.waitpid(pid, 0)[1] != 0:
        sys.exit('setup failed')
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


if __name__ == '__main__' and sys.argv[1:2] == ['hold']:
    hold(sys.argv[4])
