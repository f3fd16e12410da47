# SPDX-License-Identifier: Apache-2.0
"""Drives tests/interop/bus_tool: the bus alone as a process (see bus_tool.c for its commands)."""
import functools
import json
import os
import subprocess
import tempfile
import threading
import time

from broker import wait_until

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QUICK = {'rabbit_retry_interval': 1, 'rabbit_retry_backoff': 0, 'kombu_reconnect_delay': 0.1}


@functools.lru_cache(None)
def program():
    """bus_tool: $BUS_TOOL, or that of the build tree, which makes it first."""
    if 'BUS_TOOL' in os.environ:
        return os.environ['BUS_TOOL']
    build = os.environ.get('COMPUTED_BUILD_DIR') or (
        '.' if os.path.exists('config.status') else os.path.join(SOURCE, 'build'))
    path = 'tests/interop/bus_tool'
    subprocess.run(['make', '-s', '-C', build, path], check=True, stdout=subprocess.DEVNULL, timeout=300)
    return os.path.join(build, path)


class Bus:
    def __init__(self, url, *topics, host='h1', wait=True, **options):
        self.config = tempfile.NamedTemporaryFile('w', suffix='.yaml', prefix='computed-bus-')
        values = dict(QUICK, **options)
        self.config.write('DEFAULT:\n  transport_url: ' + json.dumps(url) + '\noslo_messaging_rabbit:\n'
                          + ''.join(f'  {k}: {json.dumps(v)}\n' for k, v in values.items()))
        self.config.flush()
        self.process = subprocess.Popen([program(), self.config.name, host, *topics], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1, errors='replace')
        self.events, self.errors, self.changed = [], [], threading.Condition()
        self.threads = [threading.Thread(target=self._read, args=(f, into), daemon=True)
                        for f, into in ((self.process.stdout, self.events), (self.process.stderr, self.errors))]
        for thread in self.threads:
            thread.start()
        if wait:
            self.wait('up', lambda e: e['up'])

    def _read(self, stream, into):
        for line in stream:
            with self.changed:
                into.append(json.loads(line) if into is self.events else line)
                self.changed.notify_all()

    def mark(self):
        return len(self.events)

    def find(self, key, condition=lambda e: True, since=0):
        return [e for e in self.events[since:] if key in e and condition(e)]

    def wait(self, key, condition=lambda e: True, since=0, seconds=20, count=1):
        deadline = time.monotonic() + seconds
        with self.changed:
            while True:
                found = self.find(key, condition, since)
                if len(found) >= count:
                    return found[-1]
                left = deadline - time.monotonic()
                assert left > 0, f'no event "{key}" within {seconds} s; last: {self.events[-5:]} {self.errors[-5:]}'
                assert self.process.poll() is None, f'bus_tool ended: {self.process.returncode} {self.errors[-20:]}'
                self.changed.wait(min(left, 0.5))

    def wait_down(self, words='', since=0, seconds=20):
        return self.wait('why', lambda e: not e['up'] and words in (e['why'] or ''), since, seconds)

    def wait_up(self, since=0, seconds=20):
        return self.wait('why', lambda e: e['up'], since, seconds)

    def command(self, line):
        self.process.stdin.write(line + '\n')

    def publish(self, exchange, key, body, mandatory=False, expiration_ms=0, deadline_ms=0):
        self.command(f'publish {exchange or "-"} {key} {int(mandatory)} {expiration_ms} {deadline_ms} {body}')

    def outcome(self, body, seconds=20):
        return self.wait('outcome', lambda e: e['body'] == body, seconds=seconds)['outcome']

    def describe(self, seconds=5):
        since = self.mark()
        self.command('describe')
        return self.wait('describe', since=since, seconds=seconds)

    def rss_kib(self):
        with open(f'/proc/{self.process.pid}/status') as f:
            return int([line for line in f if line.startswith('VmRSS')][0].split()[1])

    def wakeups(self):
        """Voluntary context switches of each thread, by its name."""
        found = {}
        base = f'/proc/{self.process.pid}/task'
        for task in os.listdir(base):
            with open(f'{base}/{task}/status') as f:
                lines = dict(line.split(':', 1) for line in f)
            found[lines['Name'].strip()] = int(lines['voluntary_ctxt_switches'])
        return found

    def quit(self, wait_ms=1000):
        """Ends it as the agent ends; the exit code tells what the sanitizers found."""
        if self.process.poll() is None:
            try:
                self.command(f'quit {wait_ms}')
            except BrokenPipeError:
                pass
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        for thread in self.threads:
            thread.join(5)
        self.config.close()
        assert self.process.returncode == 0, f'exit {self.process.returncode}: {"".join(self.errors)[-6000:]}'


def queues(broker, vhost='/'):
    rows = json.loads(broker.ctl('list_queues', '-p', vhost, 'name', 'durable', 'auto_delete', 'arguments',
                                 'consumers', 'messages', 'exclusive', '--formatter', 'json'))
    return {row['name']: row for row in rows}


def arguments(row):
    """{"x-expires": 1800000}, whichever form the broker's command gives."""
    given = row['arguments']
    return given if isinstance(given, dict) else {name: value for name, _, value in given}


def wait_queue(broker, name, condition=lambda row: True, vhost='/', seconds=20):
    return wait_until(seconds, f'queue {name}', lambda: (lambda row: row if row and condition(row) else None)(
        queues(broker, vhost).get(name)), 0.2)
