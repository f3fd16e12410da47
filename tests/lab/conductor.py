#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The real oslo.messaging in the control host, as nova-conductor uses it; driven by lines of JSON.

    conductor.py URL

    {"op": "call"|"cast", "server", "version", "method", "args", "context"}    -> {"result"} or {"failure": {class, text}}
    {"op": "trace"}      -> {"messages": [...]}: what was published since the last time (RabbitMQ's firehose)
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'interop'))
import tempfile  # noqa: E402

import peer  # noqa: E402


class Trace:
    """A queue on RabbitMQ's trace exchange."""

    def __init__(self, url):
        import kombu
        self.connection = kombu.Connection(url.replace('rabbit://', 'amqp://'))
        self.channel = self.connection.channel()
        self.queue = kombu.Queue(exchange=kombu.Exchange('amq.rabbitmq.trace', type='topic', passive=True), routing_key='publish.#',
                                 exclusive=True, auto_delete=True)(self.channel)
        self.queue.declare()

    def take(self):
        found = []
        while True:
            m = self.queue.get(no_ack=True)
            if m is None:
                return found
            try:
                envelope = json.loads(m.body)
                found.append({'exchange': m.headers.get('exchange_name'), 'routing_keys': m.headers.get('routing_keys'),
                              'message': json.loads(envelope['oslo.message'])})
            except (ValueError, KeyError, TypeError):
                found.append({'unreadable': repr(m.body[:200])})


def answer(transport, request):
    import oslo_messaging
    client = peer.client(transport).prepare(server=request['server'], version=request['version'], timeout=60)
    try:
        return {'result': getattr(client, request['op'])(request['context'], request['method'], **request['args'])}
    except oslo_messaging.MessagingException as e:
        return {'failure': {'class': type(e).__name__, 'text': str(e)}}
    except Exception as e:  # noqa: B902  what the other side raised, rebuilt
        return {'failure': {'class': type(e).__name__, 'module': type(e).__module__, 'text': str(e), 'kwargs': repr(getattr(e, 'kwargs', None))}}


def main(url):
    with tempfile.TemporaryDirectory() as d:
        peer.install_nova_exception(d)
        transport = peer.make_transport(url)
        trace = Trace(url)
        print('{"ready": true}', flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            print(json.dumps({'messages': trace.take()} if request['op'] == 'trace' else answer(transport, request)), flush=True)
        transport.cleanup()


if __name__ == '__main__':
    main(sys.argv[1])
