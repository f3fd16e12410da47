# SPDX-License-Identifier: Apache-2.0
"""Anybody on the message bus: publishes to an agent's queue what it likes, and reads the answers."""
import json
import queue
import time
import uuid

import amqp

from scenarios import network_of


class Bus:
    def __init__(self, lab):
        broker = lab.broker
        with network_of(broker.box):
            self.connection = amqp.Connection('198.51.100.10:5672', userid=broker.user, password=broker.password, heartbeat=0)
            self.connection.connect()
        self.channel = self.connection.channel()
        self.replies = 'reply_' + uuid.uuid4().hex
        self.channel.exchange_declare(self.replies, 'direct', auto_delete=True)
        self.channel.queue_declare(self.replies, auto_delete=True)
        self.channel.queue_bind(self.replies, self.replies, self.replies)
        self.got = queue.Queue()
        self.channel.basic_consume(self.replies, callback=lambda m: self.got.put(json.loads(m.body)), no_ack=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.connection.close()

    def raw(self, host, body, exchange='nova', **properties):
        """Publishes bytes as they are."""
        properties = {'content_type': 'application/json', 'content_encoding': 'utf-8', 'delivery_mode': 1, 'priority': 0, **properties}
        self.channel.basic_publish(amqp.Message(body, **properties), exchange=exchange, routing_key=f'compute.{host}')

    def message(self, method, args, version='6.0', **more):
        return {'method': method, 'args': args, 'version': version, '_unique_id': uuid.uuid4().hex, '_timeout': 20,
                '_context_request_id': 'req-' + str(uuid.uuid4()), '_context_is_admin': True, '_context_user_id': None,
                '_context_project_id': None, '_context_roles': [], '_context_read_deleted': 'no', **more}

    def envelope(self, message):
        return json.dumps({'oslo.version': '2.0', 'oslo.message': message if isinstance(message, str) else json.dumps(message)})

    def cast(self, host, method, args, **kw):
        self.raw(host, self.envelope(self.message(method, args, **kw)))

    def call(self, host, method, args, seconds=15, **kw):
        """The answer ('result' or 'failure'), and the heartbeats that came before it."""
        ident = uuid.uuid4().hex
        self.raw(host, self.envelope(self.message(method, args, _msg_id=ident, _reply_q=self.replies, **kw)))
        return self.answer(ident, seconds)

    def answer(self, ident, seconds):
        end, beats = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            try:
                self.connection.drain_events(timeout=0.5)
            except (TimeoutError, OSError):
                continue
            while not self.got.empty():
                body = json.loads(self.got.get()['oslo.message'])
                if body.get('_msg_id') != ident:
                    continue
                if body.get('failure'):
                    return {'failure': json.loads(body['failure']), 'beats': beats}
                if body.get('ending') or 'result' in body and body['result'] is not None:
                    return {'result': body.get('result'), 'beats': beats}
                beats += 1
        return {'beats': beats}
