# SPDX-License-Identifier: Apache-2.0
"""A broker that sends what it must not: the bus goes on, does not grow, answers the loop and ends cleanly.

Run with bus_tool built with sanitizers, every reading beyond a buffer and every leak fails the test.
"""
import os
import random
import socket
import struct
import sys
import threading
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from bus_client import Bus  # noqa: E402

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8


def frame(kind, channel, payload, size=None, end=0xCE):
    return struct.pack('>BHI', kind, channel, len(payload) if size is None else size) + payload + bytes([end])


def method(channel, cls, number, payload=b''):
    return frame(METHOD, channel, struct.pack('>HH', cls, number) + payload)


def short(s):
    return bytes([len(s)]) + s


def long(s):
    return struct.pack('>I', len(s)) + s


START = method(0, 10, 10, b'\0\x09' + long(b'') + long(b'PLAIN AMQPLAIN') + long(b'en_US'))


def tune(channels=2047, frame_max=131072, heartbeat=60):
    return method(0, 10, 30, struct.pack('>HIH', channels, frame_max, heartbeat))


OPEN_OK = method(0, 10, 41, short(b''))


def deliver(channel, tag=1, key=b'k'):
    return method(channel, 60, 60, short(b'1') + struct.pack('>QB', tag, 0) + short(b'nova') + short(key))


def header(channel, size, cls=60, flags=0, properties=b''):
    return frame(HEADER, channel, struct.pack('>HHQH', cls, 0, size, flags) + properties)


def close(cls=10, number=50, channel=0, code=320, text=b'go away'):
    return method(channel, cls, number, struct.pack('>H', code) + short(text) + struct.pack('>HH', 0, 0))


# What an orderly broker answers, by (class, method) asked.
ANSWERS = {(10, 11): tune(), (10, 31): b'', (10, 40): OPEN_OK, (10, 50): method(0, 10, 51), (60, 80): b''}
BY_CHANNEL = {(20, 10): (20, 11, long(b'')), (85, 10): (85, 11, b''), (60, 10): (60, 11, b''), (40, 10): (40, 11, b''),
              (50, 10): (50, 11, short(b'q') + struct.pack('>II', 0, 0)), (50, 20): (50, 21, b''),
              (60, 20): (60, 21, short(b'1')), (60, 30): (60, 31, short(b'1')), (50, 40): (50, 41, struct.pack('>I', 0))}


def nested_table(depth):
    table = b''
    for _ in range(depth):
        table = long(short(b'a') + b'F' + (table or long(b'')))
    return table


def attacks():
    """name -> (stage, bytes): sent at the stage "greeting", "login", "open", or "serving" (all consume)."""
    yield 'http', 'greeting', b'HTTP/1.1 400 Bad Request\r\n\r\n'
    yield 'other protocol', 'greeting', b'AMQP\0\1\0\0'
    yield 'protocol then rubbish', 'greeting', b'AMQP\0\0\x09\x01' + b'\xff' * 100
    yield 'nothing', 'greeting', b''
    yield 'zeroes', 'greeting', b'\0' * 4096
    yield 'ones', 'greeting', b'\xff' * 4096
    yield 'huge frame', 'greeting', struct.pack('>BHI', METHOD, 0, 0x7fffffff) + b'x' * 1000
    yield 'largest frame', 'greeting', struct.pack('>BHI', METHOD, 0, 0xffffffff) + b'x' * 1000
    yield 'negative frame', 'greeting', struct.pack('>BHI', METHOD, 0, 0x80000000) + b'x' * 1000
    yield 'empty method', 'greeting', frame(METHOD, 0, b'')
    yield 'short method', 'greeting', frame(METHOD, 0, b'\0\x0a')
    yield 'wrong end', 'greeting', frame(METHOD, 0, b'\0\x0a\0\x0a', end=0)
    yield 'start without fields', 'greeting', method(0, 10, 10)
    yield 'start with a lying table', 'greeting', method(0, 10, 10, b'\0\x09' + struct.pack('>I', 0xffffff00) + b'x' * 20)
    yield 'deep table', 'greeting', method(0, 10, 10, b'\0\x09' + nested_table(120) + long(b'PLAIN') + long(b'en_US'))
    yield 'wrong version', 'greeting', method(0, 10, 10, b'\x01\x00' + long(b'') + long(b'PLAIN') + long(b'en_US'))
    yield 'no mechanism', 'greeting', method(0, 10, 10, b'\0\x09' + long(b'') + long(b'') + long(b'en_US'))
    yield 'unknown mechanism', 'greeting', method(0, 10, 10, b'\0\x09' + long(b'') + long(b'KERBEROS PLAI') + long(b''))
    yield 'delivery first', 'greeting', deliver(1) + header(1, 3) + frame(BODY, 1, b'abc')
    yield 'open-ok first', 'greeting', OPEN_OK
    yield 'close first', 'greeting', close()
    yield 'close with control characters', 'greeting', close(text=b'\x1b[2J\n\0\xff\xfe' * 10)
    yield 'heartbeats only', 'greeting', frame(HEARTBEAT, 0, b'') * 1000
    for size in range(1, len(START), 7):
        yield f'start cut at {size}', 'greeting', START[:size]
    yield 'frame_max 1', 'login', tune(frame_max=1)
    yield 'frame_max 4095', 'login', tune(frame_max=4095)
    yield 'channel_max 1', 'login', tune(channels=1)
    yield 'secure', 'login', method(0, 10, 20, long(b'challenge'))
    yield 'refused', 'login', close(code=403, text=b'ACCESS_REFUSED - no')
    yield 'start again', 'login', START
    yield 'unlimited', 'login', tune(0, 0, 0) + b'\0' * 30
    yield 'blocked with a lying string', 'open', frame(METHOD, 0, b'\0\x0a\0\x3c\xff' + b'x')
    yield 'vhost refused', 'open', close(code=530, text=b'NOT_ALLOWED')
    yield 'unknown class', 'open', method(0, 999, 1)
    yield 'frame on channel 65535', 'open', frame(METHOD, 65535, b'\0\x14\0\x0b' + long(b''))
    yield 'body on channel 0', 'serving', frame(BODY, 0, b'x')
    yield 'header on channel 0', 'serving', header(0, 5)
    yield 'unknown channel', 'serving', deliver(9)
    yield 'body without delivery', 'serving', frame(BODY, 1, b'x')
    yield 'header without delivery', 'serving', header(1, 5)
    yield 'two deliveries', 'serving', deliver(1) + deliver(1)
    yield 'delivery in delivery', 'serving', deliver(1) + header(1, 10) + deliver(1)
    yield 'body too long', 'serving', deliver(1) + header(1, 3) + frame(BODY, 1, b'abcdef')
    yield 'huge message announced', 'serving', deliver(1) + header(1, 2 ** 64 - 1) + frame(BODY, 1, b'x' * 60000) * 20
    yield 'sixteen MiB announced', 'serving', deliver(1) + header(1, 16 * 1024 * 1024) + frame(BODY, 1, b'x')
    yield 'foreign class', 'serving', deliver(1) + header(1, 3, cls=61)
    yield 'short header', 'serving', deliver(1) + frame(HEADER, 1, b'\0\x3c')
    yield 'lying properties', 'serving', deliver(1) + header(1, 3, flags=0xfffe, properties=b'\xff' * 9)
    yield 'lying headers', 'serving', deliver(1) + header(1, 3, flags=0x2000, properties=struct.pack('>I', 5000) + b'\x04abcdS')
    yield 'frame beyond frame_max', 'serving', frame(BODY, 1, b'x' * 200000)
    yield 'unknown type', 'serving', frame(77, 1, b'x' * 100) * 100
    yield 'confirm of nothing', 'serving', method(1, 60, 80, struct.pack('>QB', 2 ** 63, 1)) + close()
    yield 'nack of nothing', 'serving', method(1, 60, 120, struct.pack('>QB', 0, 3)) + close()
    yield 'return of nothing', 'serving', method(1, 60, 50, struct.pack('>H', 312) + short(b'NO_ROUTE') + short(b'') + short(b'k')) \
        + header(1, 2) + frame(BODY, 1, b'{}') + close()
    yield 'cancel storm', 'serving', method(1, 60, 30, short(b'1') + b'\1') * 200 + close()
    yield 'channel close storm', 'serving', close(20, 40, 1, 406, b'PRECONDITION_FAILED') * 50
    yield 'unasked answer', 'serving', method(1, 50, 11, short(b'q') + struct.pack('>II', 0, 0))
    yield 'internal error', 'serving', close(code=541, text=b'INTERNAL_ERROR')
    yield 'empty delivery', 'serving', deliver(1) + header(1, 0) + close()
    yield 'empty bodies', 'serving', deliver(1) + header(1, 3) + frame(BODY, 1, b'') * 1000 + close()
    yield 'many channels', 'serving', b''.join(frame(BODY, n, b'x') for n in range(2, 3000))
    rng = random.Random(1)
    whole = deliver(1) + header(1, 3) + frame(BODY, 1, b'abc') + close()
    for n in range(60):
        broken = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        yield f'flipped {n}', 'serving', bytes(broken)
    for n in range(20):
        yield f'random {n}', rng.choice(['greeting', 'login', 'open', 'serving']), rng.randbytes(rng.randint(1, 3000))


class HostileBroker:
    """Answers like RabbitMQ up to a stage, then sends the next attack and closes."""

    def __init__(self, cases):
        self.cases, self.done, self.lock = list(cases), [], threading.Lock()
        self.server = socket.create_server(('127.0.0.1', 0), backlog=64)
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._run, args=(s,), daemon=True).start()

    def _run(self, s):
        with self.lock:
            if not self.cases:
                s.close()
                return
            name, stage, data = self.cases.pop(0)
        try:
            s.settimeout(10)
            self._play(s, stage, data)
        except OSError:
            pass
        finally:
            s.close()
            with self.lock:
                self.done.append(name)

    @staticmethod
    def _attack(s, data):
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        while s.recv(65536):  # until the other side has had enough
            pass

    def _play(self, s, stage, data):
        s.recv(8, socket.MSG_WAITALL)
        if stage == 'greeting':
            return self._attack(s, data)
        s.sendall(START)
        while True:
            kind, channel, size = struct.unpack('>BHI', s.recv(7, socket.MSG_WAITALL))
            payload = s.recv(size + 1, socket.MSG_WAITALL)
            if kind != METHOD:
                continue
            asked = struct.unpack('>HH', payload[:4])
            if (stage, asked) in (('login', (10, 11)), ('open', (10, 40))):
                return self._attack(s, data)
            if asked in BY_CHANNEL:
                cls, number, fields = BY_CHANNEL[asked]
                s.sendall(method(channel, cls, number, fields))
                if stage == 'serving' and asked in ((60, 20), (85, 10)):
                    return self._attack(s, data)
            else:
                s.sendall(ANSWERS[asked])

    def close(self):
        self.server.close()


@pytest.fixture
def hostile():
    broker = HostileBroker(attacks())
    yield broker
    broker.close()


def test_no_frame_of_a_hostile_broker_does_harm(hostile):
    total = len(hostile.cases)
    # Many times the same broker: fail-over makes the next attempt at once.
    url = 'rabbit://' + ','.join(f'127.0.0.1:{hostile.port}' for _ in range(60)) + '/'
    bus = Bus(url, 'compute', wait=False)
    deadline = time.monotonic() + 150
    slowest = 0
    while len(hostile.done) < total and time.monotonic() < deadline:
        started = time.monotonic()
        bus.describe()
        slowest = max(slowest, time.monotonic() - started)
        time.sleep(0.2)
    with hostile.lock:
        assert len(hostile.done) == total, (len(hostile.done), total, hostile.cases[:3])
    assert slowest < 1
    assert bus.rss_kib() < 400 * 1024  # sanitizers keep what was freed for a while
    assert not any(e['up'] for e in bus.find('why'))
    text = ''.join(str(e['why']) for e in bus.find('why'))
    assert '\x1b' not in text and 'guest' not in text
    bus.quit()


def test_a_broker_that_drips_or_says_nothing_does_not_hold_the_end():
    server = socket.create_server(('127.0.0.1', 0))
    bus = Bus(f'rabbit://127.0.0.1:{server.getsockname()[1]}/', 'compute', wait=False)
    connections = [server.accept()[0] for _ in range(3)]
    for c in connections:
        c.sendall(START[:20])
    started = time.monotonic()
    bus.quit(wait_ms=200)
    assert time.monotonic() - started < 13  # the login's own bound
    for c in connections:
        c.close()
    server.close()


def test_a_flood_of_messages_does_not_fill_the_memory():
    """Deliveries come faster than they are taken: reading pauses, the loop stays awake."""
    server = socket.create_server(('127.0.0.1', 0))
    sent, stop = [0], threading.Event()

    def serve(s):
        try:
            s.recv(8, socket.MSG_WAITALL)
            s.sendall(START)
            while True:
                kind, channel, size = struct.unpack('>BHI', s.recv(7, socket.MSG_WAITALL))
                payload = s.recv(size + 1, socket.MSG_WAITALL)
                asked = struct.unpack('>HH', payload[:4]) if kind == METHOD else None
                if asked == (60, 80):
                    continue
                if asked in BY_CHANNEL:
                    cls, number, fields = BY_CHANNEL[asked]
                    s.sendall(method(channel, cls, number, fields))
                elif asked:
                    s.sendall(ANSWERS[asked])
                if asked == (60, 20) and channel == 3:  # all three queues of the server are consumed
                    break
            body = frame(BODY, 1, b'{"flood":"' + b'x' * 10000 + b'"}')
            tag = 0
            while not stop.is_set():
                tag += 1
                s.sendall(deliver(1, tag) + header(1, 10012) + body)
                sent[0] += 1
                if tag % 64 == 0:
                    s.setblocking(False)
                    try:
                        while s.recv(1 << 20):  # acknowledgements
                            pass
                    except BlockingIOError:
                        pass
                    s.setblocking(True)
        except (OSError, struct.error):
            pass

    def accept():
        while not stop.is_set():
            try:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    bus = Bus(f'rabbit://127.0.0.1:{server.getsockname()[1]}/', 'compute', wait=False)
    bus.wait('delivery', count=500, seconds=30)
    os.kill(bus.process.pid, 0)
    time.sleep(3)
    assert bus.rss_kib() < 400 * 1024 and sent[0] > 500
    stop.set()
    server.close()
    bus.describe(seconds=10)
    bus.quit()
