# SPDX-License-Identifier: Apache-2.0
"""Drives tests/interop/rpc_tool: our RPC room as a process (see rpc_tool.c for its commands)."""
import itertools
import json
import os
import queue
import subprocess
import threading
import time

PROGRAM = os.environ.get('RPC_TOOL', 'tests/interop/rpc_tool')


class Failure(Exception):
    def __init__(self, event):
        super().__init__(event['text'])
        self.code, self.cls, self.module, self.raw = event['code'], event['class'], event['module'], event['raw']


class Tool:
    def __init__(self, directory, url, host=None, wait=True, **options):
        self.host = host
        config = os.path.join(directory, f'{host or "client"}-{time.monotonic_ns()}.conf')
        rabbit = {'rabbit_retry_interval': 1, 'rabbit_retry_backoff': 0, 'kombu_reconnect_delay': 0.2}
        with open(os.open(config, os.O_WRONLY | os.O_CREAT, 0o600), 'w') as f:
            default = {k: v for k, v in options.items() if k.startswith('rpc_')}
            rabbit.update({k: v for k, v in options.items() if not k.startswith('rpc_')})
            f.write(f'[DEFAULT]\ntransport_url = {url}\n' + ''.join(f'{k} = {v}\n' for k, v in default.items()))
            f.write('[oslo_messaging_rabbit]\n' + ''.join(f'{k} = {v}\n' for k, v in rabbit.items()))
        self.process = subprocess.Popen([PROGRAM, config] + ([host] if host else []), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
        self.ids = itertools.count(1)
        self.errors, self.answers, self.requests, self.states, self.statuses = [], {}, queue.Queue(), queue.Queue(), queue.Queue()
        self.lock = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()
        if wait:
            self.wait_state(True)

    def _read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            kind = event['event']
            if kind == 'request':
                self.requests.put(event)
            elif kind == 'state':
                self.states.put(event)
            elif kind == 'status':
                self.statuses.put(event)
            else:
                with self.lock:
                    self.answers[event['id']] = event
                    self.lock.notify_all()

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line)

    def command(self, op, **members):
        self.process.stdin.write(json.dumps({'op': op, **members}) + '\n')
        self.process.stdin.flush()

    def wait_state(self, up, seconds=30):
        deadline = time.monotonic() + seconds
        while True:
            event = self.states.get(timeout=max(0.1, deadline - time.monotonic()))
            if event['up'] == up:
                return event

    def send(self, op, method, **members):
        number = next(self.ids)
        self.command(op, id=number, method=method, **members)
        return number

    def answer(self, number, seconds=30):
        with self.lock:
            if not self.lock.wait_for(lambda: number in self.answers, seconds):
                raise AssertionError('no answer; ' + ''.join(self.errors[-5:]))
            event = self.answers.pop(number)
        if event['event'] == 'failure':
            raise Failure(event)
        return event['result']

    def call(self, method, seconds=30, **members):
        return self.answer(self.send('call', method, **members), seconds)

    def cast(self, method, seconds=30, **members):
        return self.answer(self.send('cast', method, **members), seconds)

    def status(self):
        self.command('status')
        return self.statuses.get(timeout=10)

    def close(self):
        """Ends the program, which must do so cleanly (sanitizers tell by their exit status)."""
        try:
            self.command('quit')
            status = self.process.wait(20)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            status = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:
                pass
        assert status == 0, f'rpc_tool ended with {status}: ' + ''.join(self.errors)[-3000:]
