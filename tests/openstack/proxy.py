#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""proxy.py ADDRESS RULES LOG PORT=TARGETPORT ...

A reverse proxy in front of a service's API that fails on demand. RULES is a JSON file, read anew for each request: a list of
{"port", "method" (regular expression), "path" (regular expression), "mode": "status" | "hang" | "drop", "status", "body", "times"}.
The first rule that fits decides; `times` (0: for ever) counts what it has decided. LOG gets one JSON line for each
request when it comes, and another (with t1 and status) when the service has answered it.
"""
import http.client
import http.server
import json
import re
import sys
import threading
import time

ADDRESS, RULES, LOG = sys.argv[1:4]
lock, used = threading.Lock(), {}


def rule_for(port, method, path):
    try:
        with open(RULES) as f:
            rules = json.load(f)
    except (OSError, ValueError):
        return None
    for r in rules:
        if r['port'] == port and re.fullmatch(r.get('method', '.*'), method) and re.search(r.get('path', ''), path):
            with lock:
                n = used[r['id']] = used.get(r['id'], 0) + 1
            if not r.get('times') or n <= r['times']:
                return r
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    target = None

    def handle_one(self):
        port = self.server.server_port
        length = int(self.headers.get('Content-Length') or 0)
        body = self.rfile.read(length) if length else None
        rule, t0 = rule_for(port, self.command, self.path), time.time()
        self.tell(t0=t0, rule=rule and rule['id'])
        if rule and rule['mode'] in ('hang', 'drop'):
            if rule['mode'] == 'hang':
                time.sleep(300)
            self.close_connection = True
            return
        if rule:
            self.answer(rule['status'], [('Content-Type', 'application/json')], json.dumps(rule.get('body', {})).encode())
            return
        there = http.client.HTTPConnection(ADDRESS, TARGETS[port], timeout=120)
        there.request(self.command, self.path, body, {k: v for k, v in self.headers.items() if k.lower() not in ('connection', 'host')})
        r = there.getresponse()
        self.answer(r.status, [(k, v) for k, v in r.getheaders() if k.lower() not in ('connection', 'content-length', 'transfer-encoding')], r.read())
        there.close()
        self.tell(t0=t0, rule=None, t1=time.time(), status=r.status)

    def tell(self, **more):
        with lock, open(LOG, 'a') as f:
            f.write(json.dumps({'port': self.server.server_port, 'method': self.command, 'path': self.path, **more}) + '\n')

    def answer(self, status, headers, body):
        self.send_response_only(status)
        for k, v in headers:
            self.send_header(k, v)
        if status != 204:
            self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if status != 204 and self.command != 'HEAD':
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_HEAD = handle_one

    def log_message(self, *args):
        pass


TARGETS = {int(p): int(t) for p, _, t in (a.partition('=') for a in sys.argv[4:])}
for port in TARGETS:
    server = http.server.ThreadingHTTPServer((ADDRESS, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
threading.Event().wait()
