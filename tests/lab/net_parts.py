#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The programs of test_net.py that run inside its network namespaces: a guest that is nothing but a tap, a
sender of numbered frames and a listener. Each prints "ready" once it works and obeys lines on standard input.

    net_parts.py guest TAP MAC IP4 IP6    "dump": prints and forgets what came in, as JSON [[number, ns], ...];
                                          "heard": prints how many frames came in from its own MAC;
                                          "stop": reads its tap no more, answers nothing; "start"; "quit"
                                          "number MAC": sends numbered frames to MAC at 1 kHz, "numbers": ends that and
                                          prints how many; "foreign": sends a frame with another source address
    net_parts.py sender IF MAC [MICROSECONDS]
                                          sends frames to MAC at 1 kHz, or with that pause; "stop": prints
                                          [[number, ns], ...] and ends
    net_parts.py bypass TAP MAC           "send FIRST COUNT": sends frames with these numbers straight into the tap's
                                          ring, past all that holds or shapes it; "quit"
    net_parts.py big_guest TAP            a tap that takes segmentation offload; "dump": prints and forgets what came
                                          in of "big_sender", [[number, bytes], ...]; "quit"
    net_parts.py big_sender IF MAC        "send FIRST COUNT": TCP frames of 60 000 bytes to be segmented later; "quit"
    net_parts.py echo ADDRESS COUNT       ICMP echo, 20 a second; prints how many were answered within a second
    net_parts.py listen IF [out]          "dump": prints and forgets the frames seen, coming in or going out, as
                                          [[hex, ns], ...]; "quit"

Times are CLOCK_REALTIME in nanoseconds; the listener's are the kernel's.
"""
import fcntl
import json
import os
import select
import socket
import struct
import sys
import time

ETH_P_ALL = 3
NUMBERED = 0x88b5  # local experimental ethertype
SO_TIMESTAMPNS = 35
SOL_PACKET, PACKET_VNET_HDR, PACKET_QDISC_BYPASS = 263, 15, 20


def say(what):
    print(what if isinstance(what, str) else json.dumps(what), flush=True)


def checksum(data):
    data += b'\0' * (len(data) % 2)
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Guest:
    def __init__(self, tap, mac, ip4, ip6):
        self.mac = bytes.fromhex(mac.replace(':', ''))
        self.ip4, self.ip6 = socket.inet_pton(socket.AF_INET, ip4), socket.inet_pton(socket.AF_INET6, ip6)
        self.fd = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.fd, 0x400454ca, struct.pack('16sH', tap.encode(), 0x1002))  # TUNSETIFF, TAP | NO_PI
        self.seen, self.heard, self.running = [], 0, True
        self.to, self.sent, self.due = None, 0, 0

    def icmp6(self, kind, code, body, to):
        pseudo = self.ip6 + to + struct.pack('!IHBB', 4 + len(body), 0, 0, 58)
        return struct.pack('!BBH', kind, code, checksum(pseudo + struct.pack('!BBH', kind, code, 0) + body)) + body

    def ip6_packet(self, to, payload):
        return struct.pack('!IHBB', 0x60000000, len(payload), 58, 255) + self.ip6 + to + payload

    def answer(self, f):
        """The answer of a guest to one frame, or None."""
        kind, body, back = f[12:14], f[14:], f[6:12] + self.mac
        if kind == b'\x08\x06' and body[7] == 1 and body[24:28] == self.ip4:
            return back + b'\x08\x06' + body[:7] + b'\2' + self.mac + self.ip4 + body[8:18]
        if kind == b'\x08\0' and body[9] == 1 and body[16:20] == self.ip4 and body[20] == 8:
            size = struct.unpack('!H', body[2:4])[0]
            icmp = b'\0\0\0\0' + body[24:size]
            icmp = icmp[:2] + struct.pack('!H', checksum(icmp)) + icmp[4:]
            return back + b'\x08\0' + body[:12] + self.ip4 + body[12:16] + icmp
        if kind == b'\x86\xdd' and body[6] == 58:
            sender, icmp = body[8:24], body[40:40 + struct.unpack('!H', body[4:6])[0]]
            if icmp[0] == 135 and icmp[8:24] == self.ip6:
                reply = self.icmp6(136, 0, b'\x60\0\0\0' + self.ip6 + b'\2\1' + self.mac, sender)
                return back + kind + self.ip6_packet(sender, reply)
            if icmp[0] == 128 and body[24:40] == self.ip6:
                return back + kind + self.ip6_packet(sender, self.icmp6(129, 0, icmp[4:], sender))
        return None

    def take(self):
        for _ in range(256):
            try:
                f = os.read(self.fd, 2048)
            except BlockingIOError:
                return
            self.heard += f[6:12] == self.mac
            if f[12:14] == struct.pack('!H', NUMBERED):
                self.seen.append([struct.unpack('!Q', f[14:22])[0], time.time_ns()])
            else:
                reply = self.answer(f)
                if reply:
                    os.write(self.fd, reply)

    def speak(self):
        """One frame of its own, so that bridges learn where it is."""
        os.write(self.fd, b'\xff' * 6 + self.mac + struct.pack('!H', NUMBERED + 1) + bytes(46))


    def foreign(self):
        os.write(self.fd, b'\xff' * 6 + b'\2\0\0\0\0\x66' + struct.pack('!H', NUMBERED + 1) + bytes(46))

    def number(self, mac):
        self.to, self.due = bytes.fromhex(mac.replace(':', '')), time.monotonic()

    def send_due(self):
        while self.to and self.due <= time.monotonic():
            os.write(self.fd, self.to + self.mac + struct.pack('!HQ', NUMBERED, self.sent) + bytes(38))
            self.sent += 1
            self.due += 0.001


def guest(tap, mac, ip4, ip6):
    g = Guest(tap, mac, ip4, ip6)
    say('ready')
    while True:
        wait = max(0, g.due - time.monotonic()) if g.to else None
        ready = select.select([0] + ([g.fd] if g.running else []), [], [], wait)[0]
        g.send_due()
        if g.fd in ready:
            g.take()
        if 0 not in ready:
            continue
        line = sys.stdin.readline().strip()
        if line in ('', 'quit'):
            return
        if line in ('stop', 'start'):
            g.running = line == 'start'
            say(str(time.time_ns()))
        elif line == 'heard':
            say(g.heard)
        elif line.startswith('number '):
            g.number(line.split()[1])
            say('numbering')
        elif line == 'numbers':
            g.to = None
            say(g.sent)
        elif line == 'foreign':
            g.foreign()
            say('sent')
        elif line == 'speak':
            g.speak()
            say('spoken')
        else:
            if g.running:
                g.take()
            say(g.seen)
            g.seen = []


def raw(interface):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.bind((interface, ETH_P_ALL))
    return s


def numbered(mac, s):
    return bytes.fromhex(mac.replace(':', '')) + s.getsockname()[4] + struct.pack('!H', NUMBERED)


def sender(interface, mac, pause_us='1000'):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.bind((interface, 0))
    head, pause = numbered(mac, s), int(pause_us) / 10**6
    say('ready')
    sent, due = [], time.monotonic()
    while not select.select([0], [], [], max(0, due - time.monotonic()))[0]:
        sent.append([len(sent), time.time_ns()])
        s.send(head + struct.pack('!Q', len(sent) - 1) + bytes(38))
        due += pause
    say(sent)


def commands(run):
    """Runs each line of standard input, its first word and its numbers, until "quit"."""
    say('ready')
    for line in sys.stdin:
        word, *numbers = line.split() or ['']
        if word in ('', 'quit'):
            return
        run(word, *map(int, numbers))


def bypass(tap, mac):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    s.bind((tap, 0))
    head = numbered(mac, s)

    def run(_, first, count):
        for i in range(first, first + count):
            s.send(head + struct.pack('!Q', i) + bytes(38))
        say('sent')

    commands(run)


BIG, SEGMENT, HEADERS = 60000, 1448, 14 + 20 + 20


def big_sender(interface, mac):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    s.bind((interface, 0))
    head = bytes.fromhex(mac.replace(':', '')) + s.getsockname()[4] + b'\x08\0'
    ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 40 + BIG, 0, 0x4000, 64, 6, 0, bytes([198, 51, 100, 1]),
                     bytes([198, 51, 100, 7]))
    ip = ip[:10] + struct.pack('!H', checksum(ip)) + ip[12:]
    pseudo = ~checksum(ip[12:20] + struct.pack('!HH', 6, 20 + BIG)) & 0xffff
    # flags NEEDS_CSUM, type TCPV4, length of the headers, size of a segment, where the checksum begins and goes
    offload = struct.pack('<BBHHHH', 1, 1, HEADERS, SEGMENT, 34, 16)

    def run(_, first, count):
        for i in range(first, first + count):
            tcp = struct.pack('!HHIIBBHHH', 7, 7, i, 0, 0x50, 0x10, 1000, pseudo, 0)
            s.send(offload + head + ip + tcp + struct.pack('!Q', i) + bytes(BIG - 8))
        say('sent')

    commands(run)


def big_guest(tap):
    fd = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH', tap.encode(), 0x5002))  # TUNSETIFF, TAP | NO_PI | VNET_HDR
    fcntl.ioctl(fd, 0x400454d0, 7)  # TUNSETOFFLOAD: checksums, TCP segments of IPv4 and IPv6

    def run(_):
        seen = []
        while select.select([fd], [], [], 0.2)[0]:
            f = os.read(fd, 70000)[10:]
            if f[12:14] == b'\x08\0' and f[23] == 6:
                seen.append([struct.unpack('!Q', f[HEADERS:HEADERS + 8])[0], len(f) - HEADERS])
        say(seen)

    commands(run)


def echo(address, count):
    is_6 = ':' in address
    s = socket.socket(socket.AF_INET6 if is_6 else socket.AF_INET, socket.SOCK_RAW,
                      socket.IPPROTO_ICMPV6 if is_6 else socket.IPPROTO_ICMP)
    answered = set()
    say('ready')
    for i in range(int(count)):
        packet = struct.pack('!BBHHH', 128 if is_6 else 8, 0, 0, os.getpid() & 0xffff, i)
        if not is_6:
            packet = packet[:2] + struct.pack('!H', checksum(packet)) + packet[4:]
        s.sendto(packet, (address, 0))
        end = time.monotonic() + (1 if i + 1 == int(count) else 0.05)
        while end > time.monotonic() and len(answered) < int(count):
            if not select.select([s], [], [], max(0, end - time.monotonic()))[0]:
                continue
            data = s.recv(2048)[0 if is_6 else 20:]
            if data[0] == (129 if is_6 else 0) and data[4:6] == packet[4:6]:
                answered.add(data[6:8])
    say(len(answered))


def listen(interface, way='in'):
    s = raw(interface)
    s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    s.setblocking(False)
    seen = []

    def take():
        while True:
            try:
                data, ancillary, _, address = s.recvmsg(2048, 256)
            except OSError:  # nothing more, or the interface goes
                return
            if (address[2] == socket.PACKET_OUTGOING) != (way == 'out') or data[12:14] == struct.pack('!H', NUMBERED):
                continue
            seconds, ns = struct.unpack('qq', ancillary[0][2])
            seen.append([data.hex(), seconds * 10**9 + ns])

    say('ready')
    while True:
        ready = select.select([0, s], [], [])[0]
        take()
        if 0 not in ready:
            continue
        line = sys.stdin.readline().strip()
        if line in ('', 'quit'):
            return
        say(seen)
        seen = []


if __name__ == '__main__':
    {'guest': guest, 'sender': sender, 'listen': listen, 'echo': echo, 'bypass': bypass, 'big_guest': big_guest,
     'big_sender': big_sender}[sys.argv[1]](*sys.argv[2:])
