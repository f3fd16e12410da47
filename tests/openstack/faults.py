# SPDX-License-Identifier: Apache-2.0
"""Faults of the control plane as a host sees them: proxies in front of Neutron and Placement, a conductor that is away."""
import json
import os
import signal

from configs import CONTROL

PORTS = {'neutron': (19696, 9696), 'placement': (18778, 8778)}
# what a host's agent needs to go through the proxies
THROUGH_PROXY = {name: {'endpoint_override': f'http://{CONTROL}:{port}'} for name, (port, _) in PORTS.items()}
ACTIVATE = r'/bindings/[^/]+/activate'


class Proxy:
    def __init__(self, bed):
        self.bed, self.rules, self.count = bed, [], 0
        self.rules_file, self.log_file = os.path.join(bed.dir, 'proxy-rules.json'), os.path.join(bed.dir, 'log', 'proxy.jsonl')
        here = os.path.dirname(os.path.abspath(__file__))
        self.clear()
        self.service = bed.control.spawn('proxy', ['/usr/bin/python3', os.path.join(here, 'proxy.py'), CONTROL, self.rules_file, self.log_file,
                                                   *(f'{port}={target}' for port, target in PORTS.values())])
        for port, _ in PORTS.values():
            bed.http_ready(port)

    def _write(self):
        with open(self.rules_file + '.new', 'w') as f:
            json.dump(self.rules, f)
        os.rename(self.rules_file + '.new', self.rules_file)

    def fail(self, service, mode='status', status=500, method='.*', path='', times=0, body=None):
        """From now on: answers with a status, or `hang` (no answer), or `drop` (the connection)."""
        self.count += 1
        self.rules.append({'id': self.count, 'port': PORTS[service][0], 'mode': mode, 'status': status, 'method': method, 'path': path,
                           'times': times, 'body': body or {}})
        self._write()
        return self.count

    def clear(self):
        self.rules = []
        self._write()

    def requests(self, rule=None, answered=False):
        """What was asked since the proxy came up (and decided by the rule with that id); answered: what the service answered."""
        try:
            with open(self.log_file) as f:
                seen = [json.loads(line) for line in f]
        except OSError:
            return []
        return [r for r in seen if (rule is None or r['rule'] == rule) and ('t1' in r) == answered]

    def stop(self):
        self.clear()
        self.service.stop(5)
        self.bed.control.services.pop('proxy', None)
        if os.path.exists(self.log_file):
            os.unlink(self.log_file)


def restart_service(bed, name, away=0):
    """Ends a service of the control plane (KILL) and gives what brings it back."""
    service = bed.control.services[name]
    with open(f'/proc/{service.pid}/cmdline', 'rb') as f:
        words = f.read().decode().split('\0')[:-1]
    if words[0].endswith(('python3', 'python3.11')):
        words = words[1:]
    service.kill(signal.SIGTERM)
    service.stop(5)

    def back():
        bed.control.spawn(name, words)
        bed.save()
    return back
