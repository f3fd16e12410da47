# SPDX-License-Identifier: Apache-2.0
"""The net room on real bridges and a real Open vSwitch, in network namespaces of its own: a fabric with two
hosts and a client. The guest is a tap that a program holds open; it "moves" when another program opens a tap
of the same name on the other host. No libvirt, no QEMU: those are test_migration's."""
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import pytest

from namespaces import start_time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get('COMPUTED_BUILD_DIR', os.path.join(HERE, '..', '..', 'build'))
TOOL = os.path.join(BUILD, 'tests/lab/net_tool')
PARTS = os.path.join(HERE, 'net_parts.py')

MAC, IP4, IP6 = 'fa:16:3e:00:00:01', '198.51.100.7', '2001:db8::7'
TAP, BRIDGE = 'tapaaaaaaaa-00', 'brqnettest-00'
INSTANCE = '11111111-2d1e-4a8b-9c0d-1e2f3a4b5c6d'
PORT_ID = 'aaaaaaaa-0000-4000-8000-000000000001'
OTHER_PORT_ID = 'bbbbbbbb-0000-4000-8000-000000000002'
VLAN = 7

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='needs root for network namespaces')


def run(*cmd, check=True):
    r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    if check and r.returncode:
        raise AssertionError(f'{" ".join(cmd)}: {r.stdout}')
    return r.stdout


class Part:
    """A program that is spoken to in lines."""

    def __init__(self, namespace, *cmd):
        self.p = subprocess.Popen(['ip', 'netns', 'exec', namespace.name, *cmd], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True, bufsize=1)

    def line(self, seconds=20):
        if not select.select([self.p.stdout], [], [], seconds)[0]:
            raise AssertionError('no answer')
        return self.p.stdout.readline().strip()

    def ask(self, what, seconds=20):
        self.p.stdin.write(what + '\n')
        self.p.stdin.flush()
        return json.loads(self.line(seconds))

    def tell(self, what):
        self.p.stdin.write(what + '\n')
        self.p.stdin.flush()
        return self.line()

    def end(self):
        if self.p.poll() is None:
            self.p.stdin.close()
            try:
                self.p.wait(10)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait(10)
        return self.p.returncode


class Namespace:
    def __init__(self, name):
        self.name, self.parts = name, []
        run('ip', 'netns', 'add', name)
        self.ip('link', 'set', 'lo', 'up')

    def ip(self, *args, check=True):
        return run('ip', '-n', self.name, *args, check=check)

    def exec(self, *cmd, check=True):
        return run('ip', 'netns', 'exec', self.name, *cmd, check=check)

    def links(self, *args):
        return json.loads(self.ip('-j', '-d', 'link', 'show', *args) or '[]')

    def echo(self, address, count):
        return json.loads(self.part('echo', address, str(count)).line())

    def has(self, name):
        return any(x['ifname'] == name for x in self.links())

    def part(self, *args):
        p = Part(self, sys.executable, PARTS, *args)
        self.parts.append(p)
        assert p.line() == 'ready'
        return p

    def guest(self, tap=TAP):
        g = self.part('guest', tap, MAC, IP4, IP6)
        self.ip('link', 'set', tap, 'up')
        return g

    def tool(self, *options, **changes):
        port = {'kind': 'bridge', 'port_id': PORT_ID, 'instance_uuid': INSTANCE, 'mac': MAC, 'addresses': [IP4, IP6],
                'bridge': BRIDGE, 'physical_network': 'physnet1', 'tap': TAP, 'mtu': 0, **changes}
        if not os.access(TOOL, os.X_OK):
            raise AssertionError(f'{TOOL} is not there: build first, or set COMPUTED_BUILD_DIR')
        options = options or ('net.physical_interface_mappings=physnet1:eth1', 'agent.control_plane=standalone')
        t = Part(self, TOOL, json.dumps(port), *options)
        self.parts.append(t)
        return t

    def down(self):
        codes = [p.end() for p in self.parts]
        run('ip', 'netns', 'del', self.name)
        assert not any(codes), f'a program ended with {codes}'



class World:
    """A fabric bridge, hosts a and b with eth1 in it, and a client with addresses."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='computed-net.')
        prefix = f'cnt{os.getpid()}'
        self.fabric, self.a, self.b, self.client = self.all = [Namespace(f'{prefix}-{n}') for n in 'fabc']
        self.fabric.ip('link', 'add', 'fab', 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0')
        self.fabric.ip('link', 'set', 'fab', 'up')
        for namespace, end in ((self.a, 'fa'), (self.b, 'fb'), (self.client, 'fc')):
            self.fabric.ip('link', 'add', end, 'type', 'veth', 'peer', 'name', 'eth1', 'netns', namespace.name)
            self.fabric.ip('link', 'set', end, 'master', 'fab', 'up')
            namespace.exec('sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/eth1/disable_ipv6', check=False)
            namespace.ip('link', 'set', 'eth1', 'up')
        self.client.exec('sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/eth1/disable_ipv6', check=False)
        self.client.ip('addr', 'add', '198.51.100.1/24', 'dev', 'eth1')
        self.client.ip('addr', 'add', '2001:db8::1/64', 'dev', 'eth1', 'nodad')

    def down(self):
        for n in self.all:
            n.down()
        shutil.rmtree(self.dir)


@pytest.fixture
def world():
    w = World()
    yield w
    w.down()


def wait_until(what, test, seconds=10):
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, f'no {what} after {seconds} s'
        time.sleep(0.02)


def good(answer):
    assert answer['ok'], answer['error']
    return answer['result']


def refused(answer, *parts):
    assert not answer['ok']
    for part in parts:
        assert part in answer['error'], answer['error']


def into_bridge(host, tap=TAP, bridge=BRIDGE):
    host.ip('link', 'set', tap, 'master', bridge)


def bridge_with_uplink(host):
    host.ip('link', 'add', BRIDGE, 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0')
    host.ip('link', 'set', 'eth1', 'master', BRIDGE)
    host.ip('link', 'set', BRIDGE, 'up')


def fdb_port(host):
    for row in json.loads(host.exec('bridge', '-j', 'fdb', 'show', 'br', BRIDGE)):
        if row['mac'] == MAC and 'self' not in row.get('flags', []):
            return row['ifname']
    return None


# --- wiring of Linux bridges ---------------------------------------------------------------------------------


def test_a_missing_bridge_is_made_with_its_uplink_and_taken_back(world):
    t = world.b.tool(mtu=1450)
    good(t.ask('check'))
    assert not world.b.has(BRIDGE)
    good(t.ask('plug'))
    good(t.ask('ready 2000'))
    bridge = world.b.links(BRIDGE)[0]
    assert bridge['mtu'] == 1450 and 'UP' in bridge['flags']
    assert bridge['linkinfo']['info_data']['forward_delay'] == 0
    assert bridge['linkinfo']['info_data']['stp_state'] == 0
    assert world.b.links('eth1')[0]['master'] == BRIDGE
    good(t.ask('plug'))  # once more changes nothing
    good(t.ask('undo'))
    assert not world.b.has(BRIDGE)
    assert 'master' not in world.b.links('eth1')[0]
    good(t.ask('undo'))
    good(t.ask('unplug'))
    assert good(t.ask('audit')) == []


def test_a_bridge_in_use_outlives_the_undo_of_the_one_that_made_it(world):
    t = world.b.tool()
    good(t.ask('plug'))
    guest = world.b.guest('tapbbbbbbbb-00')
    into_bridge(world.b, 'tapbbbbbbbb-00')
    good(t.ask('undo'))
    assert world.b.has(BRIDGE)
    guest.end()


def test_a_bridge_that_got_an_address_is_not_removed(world):
    t = world.b.tool()
    good(t.ask('plug'))
    world.b.ip('addr', 'add', '203.0.113.9/24', 'dev', BRIDGE)
    good(t.ask('undo'))
    assert world.b.has(BRIDGE)


def test_a_bridge_that_was_there_before_stays(world):
    bridge_with_uplink(world.b)
    t = world.b.tool()
    good(t.ask('plug'))
    good(t.ask('ready 2000'))
    good(t.ask('undo'))
    assert world.b.has(BRIDGE)


def test_bridges_that_cannot_be_made_are_refused_with_what_is_configured(world):
    standalone = 'agent.control_plane=standalone'
    refused(world.b.tool('net.physical_interface_mappings=other:eth1', standalone).ask('check'), BRIDGE, 'physnet1',
            'other:eth1')
    refused(world.b.tool('net.physical_interface_mappings=physnet1:eth9', standalone).ask('plug'), BRIDGE, 'eth9',
            'does not exist')
    t = world.b.tool()
    refused(world.b.tool(mtu=9000).ask('check'), 'eth1', '1500', '9000')
    world.b.ip('addr', 'add', '203.0.113.9/24', 'dev', 'eth1')
    refused(t.ask('check'), BRIDGE, 'eth1', 'has an IP address')
    world.b.ip('addr', 'flush', 'dev', 'eth1')
    world.b.ip('link', 'add', 'brother', 'type', 'bridge')
    world.b.ip('link', 'set', 'eth1', 'master', 'brother')
    refused(t.ask('plug'), BRIDGE, 'eth1', 'another bridge')
    assert not world.b.has(BRIDGE)


def test_under_nova_a_bridge_without_known_uplink_is_made_empty_for_neutrons_agent(world):
    t = world.b.tool('agent.control_plane=nova', physical_network=None)
    good(t.ask('check'))
    good(t.ask('plug'))
    good(t.ask('ready 100'))
    assert world.b.links(BRIDGE)[0]['linkinfo']['info_kind'] == 'bridge'
    good(t.ask('undo'))
    assert not world.b.has(BRIDGE)


def test_readiness_names_what_is_missing(world):
    t = world.b.tool()
    refused(t.ask('ready 20'), BRIDGE, 'is missing')
    world.b.ip('link', 'add', BRIDGE, 'type', 'bridge', 'forward_delay', '0')
    refused(t.ask('ready 20'), BRIDGE, 'is down')
    world.b.ip('link', 'set', BRIDGE, 'up')
    refused(t.ask('ready 20'), 'has no uplink')
    world.b.ip('link', 'set', 'eth1', 'master', BRIDGE, 'down')
    refused(t.ask('ready 20'), 'eth1', 'down')
    world.b.ip('link', 'set', 'eth1', 'up')
    good(t.ask('ready 2000'))
    world.fabric.ip('link', 'set', 'fb', 'down')
    refused(t.ask('ready 20'), 'eth1', 'carrier')


def test_a_tap_that_is_elsewhere_or_no_tap_is_refused_and_left_alone(world):
    bridge_with_uplink(world.b)
    t = world.b.tool()
    guest = world.b.guest()
    world.b.ip('link', 'add', 'brother', 'type', 'bridge')
    into_bridge(world.b, TAP, 'brother')
    for command in ('check', 'plug', 'unplug'):
        refused(t.ask(command), TAP, 'another bridge')
    assert world.b.links(TAP)[0]['master'] == 'brother'
    guest.end()
    world.b.ip('link', 'add', TAP, 'type', 'bridge')
    for command in ('check', 'plug', 'unplug'):
        refused(t.ask(command), TAP, 'no tap')
    assert world.b.has(TAP)


def test_unplug_removes_a_leftover_tap_but_never_one_that_a_guest_holds(world):
    bridge_with_uplink(world.b)
    t = world.b.tool()
    guest = world.b.guest()
    into_bridge(world.b)
    assert good(t.ask('present')) is True
    refused(t.ask('unplug'), TAP, 'holds')
    guest.end()
    wait_until('end of the tap', lambda: not world.b.has(TAP))
    assert good(t.ask('present')) is False
    world.b.ip('tuntap', 'add', TAP, 'mode', 'tap')
    into_bridge(world.b)
    assert [r['name'] for r in good(t.ask('audit'))] == [TAP]
    good(t.ask('unplug'))
    assert not world.b.has(TAP)
    assert good(t.ask('audit')) == []


def test_a_tap_to_be_made_here_is_made_in_its_bridge(world):
    bridge_with_uplink(world.b)
    t = world.b.tool(create_tap=True, multiqueue=True, mtu=1400)
    good(t.ask('plug'))
    tap = world.b.links(TAP)[0]
    assert tap['master'] == BRIDGE and tap['mtu'] == 1400 and 'UP' in tap['flags']
    assert tap['linkinfo']['info_data']['multi_queue'] is True
    assert good(t.ask(f'audit {INSTANCE}')) == []
    good(t.ask('undo'))
    assert not world.b.has(TAP)


def test_an_interface_that_goes_in_between_is_an_error_and_no_crash(world):
    t = world.b.tool()
    good(t.ask('plug'))
    world.b.ip('link', 'del', BRIDGE)
    refused(t.ask('ready 20'), 'is missing')
    good(t.ask('arm'))
    assert good(t.ask('announce')) == 0
    world.fabric.ip('link', 'del', 'fb')
    good(t.ask('undo'))


# --- announcing on Linux bridges -----------------------------------------------------------------------------


class Move:
    """The guest at host a, learned by all bridges; a sender at the client; then both ends of a move."""

    def __init__(self, world, **changes):
        self.world = world
        for host in (world.a, world.b):
            bridge_with_uplink(host)
        self.source = world.a.guest()
        into_bridge(world.a)
        self.tool = world.b.tool(**changes)
        good(self.tool.ask('plug'))
        good(self.tool.ask('ready 2000'))
        wait_until('learning', self.learned)

    def learned(self):
        self.source.tell('speak')
        return fdb_port(self.world.b) == 'eth1' and fdb_port(self.world.a) == TAP

    def arrive(self):
        """What libvirt does on the destination when QEMU starts."""
        self.destination = self.world.b.guest()
        into_bridge(self.world.b)
        wait_until('forwarding', lambda: self.world.b.links(TAP)[0].get('linkinfo', {})
                   .get('info_slave_data', {}).get('state') == 'forwarding')
        return self.destination


def lost_between(sent, first, *seen):
    """Numbers sent from `first` (ns) on that no tap got."""
    got = {n for frames in seen for n, _ in frames}
    return [n for n, at in sent if at >= first and n not in got]


def received(guest):
    """All that came in, also what a busy switch hands over late."""
    frames, quiet = [], 0
    while quiet < 3:
        more = guest.ask('dump')
        quiet = 0 if more else quiet + 1
        frames += more
        time.sleep(0.1)
    return frames


def test_frames_follow_the_guest_at_once(world):
    m = Move(world)
    destination = m.arrive()
    good(m.tool.ask('arm'))
    sender = world.client.part('sender', 'eth1', MAC)
    time.sleep(0.3)
    stopped = int(m.source.tell('stop'))
    answer = m.tool.ask('announce')
    assert good(answer) == 1
    time.sleep(0.3)
    sent, at_source, at_destination = sender.ask('stop'), m.source.ask('dump'), received(destination)
    lost = lost_between(sent, stopped, at_source, at_destination)
    called = answer['at'] * 1000
    after_call = [n for n, at in sent if at >= called + answer['us'] * 1000]
    print(f'lost after the stop {len(lost)}, in the {(called - stopped) / 1e6:.2f} ms to the call and '
          f'{answer["us"]} us of it')
    assert len(sent) > 100 and len(at_destination) > 50
    assert not set(lost) & set(after_call[1:]), 'frames sent after the announcement were lost'
    assert fdb_port(world.b) == TAP and fdb_port(world.a) == 'eth1'


def test_without_announcing_the_frames_would_be_lost(world):
    """The counter-check: it is the announcement that turns the network, nothing else here does."""
    m = Move(world)
    destination = m.arrive()
    sender = world.client.part('sender', 'eth1', MAC)
    m.source.tell('stop')
    time.sleep(0.2)
    sender.ask('stop')
    assert destination.ask('dump') == []


def test_from_call_to_wire_takes_less_than_a_millisecond(world):
    m = Move(world)
    m.arrive()
    listener = world.client.part('listen', 'eth1')
    delays, calls = [], []
    for _ in range(21):
        good(m.tool.ask('arm'))
        listener.ask('dump')
        answer = m.tool.ask('announce')
        assert good(answer) == 1
        frames = []
        wait_until('frame', lambda: frames.extend(f for f in listener.ask('dump') if f[0][24:28] == '8035') or frames)
        good(m.tool.ask('disarm'))
        delays.append(frames[0][1] / 1000 - answer['at'])
        calls.append(answer['us'])
    print(f'call to wire: median {statistics.median(delays):.0f} us, longest {max(delays):.0f} us; '
          f'whole call: median {statistics.median(calls):.0f} us')
    assert statistics.median(delays) < 1000 and statistics.median(calls) < 1000


def of_guest(frames):
    return [f for f, _ in frames if f[12:24] == MAC.replace(':', '')]


def test_all_frames_leave_and_are_repeated_until_disarmed(world):
    m = Move(world)
    destination = m.arrive()
    listener = world.client.part('listen', 'eth1')
    good(m.tool.ask('arm'))
    time.sleep(0.2)
    assert not of_guest(listener.ask('dump')), 'announced before the pause'
    good(m.tool.ask('announce'))
    time.sleep(0.25)
    good(m.tool.ask('disarm'))
    ours = of_guest(listener.ask('dump'))
    kinds = [f[24:28] + (f[40:44] if f[24:28] == '0806' else '') for f in ours]
    assert kinds[:4] == ['8035', '08060001', '08060002', '86dd']
    assert kinds.count('8035') == 5  # 3 rounds 10 ms apart, then at 60 and 150 ms
    time.sleep(0.3)
    assert of_guest(listener.ask('dump')) == []
    assert destination.ask('heard') == 0, 'the guest heard its own address announced by somebody else'


def test_real_neighbours_believe_the_announcement(world):
    m = Move(world)
    m.arrive()
    good(m.tool.ask('arm'))
    for address in (IP4, IP6):
        world.client.ip('neigh', 'replace', address, 'lladdr', '02:00:00:00:00:99', 'dev', 'eth1', 'nud', 'stale')
    time.sleep(1.1)  # Linux ignores ARP for an entry younger than its locktime of 1 s
    good(m.tool.ask('announce'))

    def lladdr(address):
        rows = json.loads(world.client.ip('-j', 'neigh', 'show', address))
        return rows[0].get('lladdr') if rows else None

    wait_until('ARP entry', lambda: lladdr(IP4) == MAC)
    wait_until('neighbour entry', lambda: lladdr(IP6) == MAC)


def test_ping_goes_on_over_both_protocols(world):
    m = Move(world)
    assert world.client.echo(IP4, 3) == 3
    m.arrive()
    good(m.tool.ask('arm'))
    m.source.tell('stop')
    good(m.tool.ask('announce'))
    for address in (IP4, IP6):
        assert world.client.echo(address, 5) == 5


def test_a_tap_that_comes_late_is_announced_by_itself(world):
    m = Move(world)
    good(m.tool.ask('arm'))
    assert good(m.tool.ask('announce')) == 0
    sender = world.client.part('sender', 'eth1', MAC)
    m.source.tell('stop')
    time.sleep(0.2)
    destination = m.arrive()
    wired = time.time_ns()
    time.sleep(0.3)
    sent, seen = sender.ask('stop'), received(destination)
    assert fdb_port(world.b) == TAP
    late = lost_between(sent, wired + 100 * 10**6, seen)
    assert not late, f'{len(late)} frames lost 100 ms after the tap was wired'


def test_a_tap_that_comes_before_the_pause_is_not_announced_early(world):
    m = Move(world)
    good(m.tool.ask('arm'))
    listener = world.client.part('listen', 'eth1')
    m.arrive()
    time.sleep(0.2)
    assert not [f for f in listener.ask('dump') if f[0][24:28] == '8035']
    assert fdb_port(world.b) == 'eth1'
    assert good(m.tool.ask('announce')) == 1
    assert fdb_port(world.b) == TAP


def test_an_uplink_that_comes_late_carries_the_announcement(world):
    m = Move(world)
    m.arrive()
    world.b.ip('link', 'set', 'eth1', 'nomaster')
    good(m.tool.ask('arm'))
    assert good(m.tool.ask('announce')) == 0
    listener = world.client.part('listen', 'eth1')
    world.b.ip('link', 'set', 'eth1', 'master', BRIDGE)
    frames = []
    wait_until('announcement', lambda: frames.extend(of_guest(listener.ask('dump'))) or frames)


def test_lost_link_events_are_made_good(world):
    """The kernel's buffer for the events overflows (ENOBUFS) while the tap comes."""
    m = Move(world)
    good(m.tool.ask('arm'))
    good(m.tool.ask('announce'))
    m.tool.p.stdin.write('block 8000\n')
    m.tool.p.stdin.flush()
    batch = os.path.join(world.dir, 'batch')
    with open(batch, 'w') as f:
        for i in range(400):
            f.write(f'link set eth1 alias n{i}\n')
    for _ in range(3):
        world.b.ip('-batch', batch)
    m.arrive()
    for _ in range(3):
        world.b.ip('-batch', batch)
    good(json.loads(m.tool.line()))
    wait_until('pointing at the tap', lambda: fdb_port(world.b) == TAP)


def test_after_a_failed_switch_over_the_source_takes_the_network_back(world):
    m = Move(world)
    destination = m.arrive()
    back = world.a.tool()
    good(back.ask('arm'))
    good(m.tool.ask('arm'))
    m.source.tell('stop')
    good(m.tool.ask('announce'))
    wait_until('learning at the source', lambda: fdb_port(world.a) == 'eth1')
    good(m.tool.ask('disarm'))
    destination.end()
    sender = world.client.part('sender', 'eth1', MAC)
    time.sleep(0.1)
    m.source.tell('start')
    answer = back.ask('announce')
    assert good(answer) == 1
    time.sleep(0.2)
    sent, seen = sender.ask('stop'), received(m.source)
    lost = lost_between(sent, (answer['at'] + answer['us'] + 1000) * 1000, seen)
    assert not lost
    assert fdb_port(world.a) == TAP


def test_the_entry_for_the_guest_moves_and_ages_like_a_learned_one(world):
    m = Move(world)
    destination = m.arrive()
    good(m.tool.ask('arm'))
    good(m.tool.ask('announce'))
    good(m.tool.ask('disarm'))
    assert fdb_port(world.b) == TAP
    m.source.tell('speak')  # the guest goes back without any announcement
    wait_until('moving', lambda: fdb_port(world.b) == 'eth1')
    good(m.tool.ask('arm'))
    good(m.tool.ask('announce'))
    good(m.tool.ask('disarm'))
    world.b.ip('link', 'set', BRIDGE, 'type', 'bridge', 'ageing_time', '100')
    wait_until('ageing', lambda: fdb_port(world.b) is None, 15)
    destination.end()


# --- Open vSwitch --------------------------------------------------------------------------------------------


class Switch:
    """Open vSwitch of one host, userspace datapath: br-int, secure, one flow; its uplink is a trunk."""

    def __init__(self, host, directory):
        self.host, self.dir = host, directory
        os.makedirs(directory)
        env = [f'OVS_RUNDIR={directory}', f'OVS_LOGDIR={directory}', f'OVS_DBDIR={directory}']
        self.env = ['env', *env]
        self.db = f'unix:{directory}/db.sock'
        database = os.path.join(directory, 'conf.db')
        run('ovsdb-tool', 'create', database, '/usr/share/openvswitch/vswitch.ovsschema')
        self.pids = []
        host.exec(*self.env, 'ovsdb-server', '--detach', '--no-chdir', f'--pidfile={directory}/db.pid',
                  f'--log-file={directory}/db.log', f'--remote=p{self.db}', database)
        self.vsctl('--no-wait', 'init')
        host.exec(*self.env, 'ovs-vswitchd', '--detach', '--no-chdir', f'--pidfile={directory}/vs.pid',
                  f'--log-file={directory}/vs.log', self.db)
        self.vsctl('add-br', 'br-int', '--', 'set', 'bridge', 'br-int', 'datapath_type=netdev', 'fail_mode=secure')
        self.ofctl('add-flow', 'priority=0,actions=NORMAL')
        self.vsctl('add-port', 'br-int', 'eth1', '--', 'set', 'port', 'eth1', f'tag={VLAN}')

    def vsctl(self, *args, check=True):
        return self.host.exec('ovs-vsctl', f'--db={self.db}', '--timeout=20', *args, check=check).strip()

    def ofctl(self, command, *args):
        return self.host.exec('ovs-ofctl', command, f'unix:{self.dir}/br-int.mgmt', *args)

    def appctl(self, *args):
        with open(os.path.join(self.dir, 'vs.pid')) as f:
            pid = f.read().strip()
        return self.host.exec('ovs-appctl', '-t', f'{self.dir}/ovs-vswitchd.{pid}.ctl', *args)

    def patch_to_physical(self):
        """The uplink goes to a bridge of its own, br-ex, as Neutron's agent makes it for an untagged network."""
        self.vsctl('del-port', 'br-int', 'eth1', '--', 'add-br', 'br-ex', '--', 'set', 'bridge', 'br-ex', 'datapath_type=netdev',
                   'fail_mode=secure', '--', 'add-port', 'br-ex', 'eth1')
        for bridge, name, peer in (('br-int', 'int-br-ex', 'phy-br-ex'), ('br-ex', 'phy-br-ex', 'int-br-ex')):
            self.vsctl('add-port', bridge, name, '--', 'set', 'Interface', name, 'type=patch', f'options:peer={peer}')
        self.ofctl('add-flow', f'priority=3,in_port={self.ofport("int-br-ex")},vlan_tci=0/0x1fff,actions=mod_vlan_vid:{VLAN},NORMAL')
        outer = self.ofport('phy-br-ex')
        for flow in (f'priority=4,in_port={outer},dl_vlan={VLAN},actions=strip_vlan,NORMAL', f'priority=2,in_port={outer},actions=drop',
                     'priority=0,actions=NORMAL'):
            self.host.exec('ovs-ofctl', 'add-flow', f'unix:{self.dir}/br-ex.mgmt', flow)

    def fdb_vlan(self, bridge='br-int'):
        """(port, VLAN) that the switch has learned for the guest."""
        for line in self.appctl('fdb/show', bridge).splitlines():
            if MAC in line:
                return tuple(int(x) for x in line.split()[:2])
        return None

    def ofport(self, name):
        return int(self.vsctl('get', 'Interface', name, 'ofport'))

    def down(self):
        for pidfile in ('vs.pid', 'db.pid'):
            with open(os.path.join(self.dir, pidfile)) as f:
                pid = int(f.read())
            os.kill(pid, 15)
            wait_until('end of Open vSwitch', lambda: not start_time(pid))


@pytest.fixture
def switches(world):
    a, b = Switch(world.a, os.path.join(world.dir, 'ovs-a')), Switch(world.b, os.path.join(world.dir, 'ovs-b'))
    yield a, b
    for host in world.all:
        for p in host.parts:
            p.end()
    a.down()
    b.down()


def ovs_tool(host, switch, **changes):
    return host.tool(f'net.ovs_database={switch.db}', kind='ovs', bridge='br-int', physical_network=None, **changes)


def test_ovs_a_delegated_port_is_there_before_the_tap_with_os_vifs_ids(world, switches):
    _, switch = switches
    t = ovs_tool(world.b, switch, mtu=1450)
    good(t.ask('check'))
    good(t.ask('plug'))
    good(t.ask('plug'))
    good(t.ask('ready 1000'))
    ids = switch.vsctl('get', 'Interface', TAP, 'external_ids')
    for part in (f'iface-id="{PORT_ID}"', f'attached-mac="{MAC}"', f'vm-uuid="{INSTANCE}"', 'iface-status=active'):
        assert part in ids
    assert switch.vsctl('get', 'Interface', TAP, 'mtu_request') == '1450'
    assert good(t.ask('present')) is False
    guest = world.b.guest()
    good(t.ask('ready 5000'))
    assert switch.ofport(TAP) > 0 and good(t.ask('present')) is True
    refused(t.ask('unplug'), TAP, 'holds')
    guest.end()
    assert [r['name'] for r in good(t.ask('audit'))] == [TAP]
    assert good(t.ask(f'audit {INSTANCE}')) == []
    good(t.ask('undo'))
    good(t.ask('unplug'))
    assert TAP not in switch.vsctl('list-ports', 'br-int')
    assert TAP not in switch.vsctl('--columns=name', 'list', 'Interface')


@pytest.mark.parametrize('between', [(), ('unplug',)])
def test_ovs_a_guest_that_starts_again_is_heard(world, switches, between):
    """The switch must not go on with the tap of the guest that ended, whose port has the same name."""
    _, switch = switches
    t = ovs_tool(world.b, switch)
    for _ in range(3):
        good(t.ask('plug'))
        guest = world.b.guest()
        good(t.ask('ready 5000'))
        switch.appctl('fdb/flush', 'br-int')

        def learned():
            guest.tell('speak')
            return switch.fdb_vlan()

        wait_until('learning', learned)
        assert switch.fdb_vlan()[0] == switch.ofport(TAP)
        guest.end()
        for command in between:
            good(t.ask(command))


def is_up(host, tap=TAP):
    return 'UP' in host.links('dev', tap)[0]['flags']


def test_ovs_a_new_tap_that_is_taken_down_is_put_up_again(world, switches):
    """As when ovs-vswitchd writes the flags that it read before libvirt put the tap up."""
    _, switch = switches
    t = ovs_tool(world.b, switch)
    good(t.ask('plug'))
    for _ in range(2):
        guest = world.b.guest()
        wait_until('tap that is up', lambda: is_up(world.b))
        for _ in range(2):
            world.b.ip('link', 'set', TAP, 'down')
            wait_until('tap that is up again', lambda: is_up(world.b))
        guest.end()


def test_a_tap_that_nobody_else_sets_up_may_be_taken_down(world):
    bridge_with_uplink(world.b)
    t = world.b.tool()
    good(t.ask('plug'))
    world.b.guest()
    world.b.ip('link', 'set', TAP, 'down')
    for _ in range(5):  # turns of its loop
        good(t.ask('present'))
    assert not is_up(world.b)


def test_ovs_announcing_puts_up_a_tap_that_was_taken_down_while_no_agent_looked(world, switches):
    _, switch = switches
    t = ovs_tool(world.b, switch)
    good(t.ask('plug'))
    t.end()
    world.b.guest()
    world.b.ip('link', 'set', TAP, 'down')
    t = ovs_tool(world.b, switch)
    good(t.ask('ready 5000'))
    good(t.ask('arm'))
    assert not is_up(world.b)
    good(t.ask('announce'))
    wait_until('tap that is up again', lambda: is_up(world.b))


def test_ovs_a_port_is_wired_when_neutrons_agent_has_given_it_a_vlan(world, switches):
    _, switch = switches
    t = ovs_tool(world.b, switch)
    assert good(t.ask('wired 20')) is False
    good(t.ask('plug'))
    assert good(t.ask('wired 20')) is False
    switch.vsctl('set', 'Port', TAP, 'tag=4095')  # as the agent marks a port that leads nowhere
    assert good(t.ask('wired 20')) is False
    switch.vsctl('set', 'Port', TAP, 'tag=2')
    assert good(t.ask('wired 20')) is True
    switch.vsctl('clear', 'Port', TAP, 'tag')
    assert good(t.ask('wired 20')) is False
    switch.vsctl('set', 'Open_vSwitch', '.', 'external_ids:ovn-remote=tcp:198.51.100.10:6642')
    assert good(t.ask('wired 20')) is True


def test_ovs_ports_of_others_are_refused_and_left_alone(world, switches):
    _, switch = switches
    t = ovs_tool(world.b, switch)
    switch.vsctl('--no-wait', 'add-port', 'br-int', TAP, '--', 'set', 'Interface', TAP,
                 f'external_ids:iface-id={OTHER_PORT_ID}')
    for command in ('check', 'plug', 'unplug'):
        refused(t.ask(command), TAP, OTHER_PORT_ID)
    switch.vsctl('--no-wait', 'del-port', TAP, '--', 'add-br', 'br-other', '--', 'add-port', 'br-other', TAP)
    for command in ('check', 'plug', 'unplug'):
        refused(t.ask(command), TAP, 'another Open vSwitch bridge')
    assert TAP in switch.vsctl('list-ports', 'br-other')
    none = world.b.tool(f'net.ovs_database={switch.db}', kind='ovs', bridge='br-none')
    refused(none.ask('check'), 'br-none', 'is missing', switch.db)


def test_ovs_a_port_that_libvirt_plugs_is_only_looked_at(world, switches):
    _, switch = switches
    t = ovs_tool(world.b, switch, plugged_by_libvirt=True)
    good(t.ask('plug'))
    good(t.ask('ready 500'))
    assert TAP not in switch.vsctl('list-ports', 'br-int')


def test_ovs_a_tap_that_the_switch_cannot_take_is_not_ready(world, switches):
    _, switch = switches
    t = ovs_tool(world.b, switch, create_tap=True)
    good(t.ask('plug'))
    good(t.ask('ready 5000'))
    assert good(t.ask('present')) is True
    with open(os.path.join(switch.dir, 'vs.pid')) as f:
        os.kill(int(f.read()), 19)  # STOP: the daemon takes nothing in
    try:
        switch.vsctl('--no-wait', 'del-port', TAP)
        good(t.ask('plug'))
        refused(t.ask('ready 50'), TAP, 'br-int')
    finally:
        with open(os.path.join(switch.dir, 'vs.pid')) as f:
            os.kill(int(f.read()), 18)
    good(t.ask('ready 5000'))
    good(t.ask('undo'))
    assert not world.b.has(TAP)


def ovs_source(world, switch):
    guest = world.a.guest()
    switch.vsctl('add-port', 'br-int', TAP, f'tag={VLAN}')

    def learned():
        guest.tell('speak')
        return switch.fdb_vlan() == (switch.ofport(TAP), VLAN)

    wait_until('learning', learned)
    return guest


def test_ovs_frames_follow_the_guest_at_once(world, switches):
    a, b = switches
    source = ovs_source(world, a)
    t = ovs_tool(world.b, b)
    good(t.ask('plug'))
    b.vsctl('--no-wait', 'set', 'port', TAP, f'tag={VLAN}')
    destination = world.b.guest()
    good(t.ask('ready 5000'))
    good(t.ask('arm'))
    source.tell('speak')
    wait_until('learning at the destination', lambda: b.fdb_vlan() == (b.ofport('eth1'), VLAN))
    sender = world.client.part('sender', 'eth1', MAC)
    time.sleep(0.3)
    stopped = int(source.tell('stop'))
    answer = t.ask('announce')
    assert good(answer) == 1
    time.sleep(0.4)
    sent, seen = sender.ask('stop'), received(destination)
    lost = lost_between(sent, stopped, source.ask('dump'), seen)
    # A broadcast of the guest shortly before the stop may be credited, and learned from, after our first round;
    # the next rounds put that right.
    late = lost_between(sent, (answer['at'] + 100000) * 1000, seen)
    print(f'Open vSwitch: lost after the stop {len(lost)}, call {answer["us"]} us')
    assert len(seen) > 50
    assert not late, f'{len(late)} frames lost that were sent 100 ms after the call'
    assert b.fdb_vlan() == (b.ofport(TAP), VLAN)
    # The source's switch credits what the guest sent last up to half a second later, and learns the old place
    # from it once more; the later rounds put that right.
    wait_until('learning at the source', lambda: a.fdb_vlan() == (a.ofport('eth1'), VLAN))


def test_ovs_from_call_to_wire(world, switches):
    _, b = switches
    t = ovs_tool(world.b, b)
    good(t.ask('plug'))
    b.vsctl('--no-wait', 'set', 'port', TAP, f'tag={VLAN}')
    world.b.guest()
    good(t.ask('ready 5000'))
    listener = world.client.part('listen', 'eth1')
    delays = []
    for _ in range(21):
        good(t.ask('arm'))
        time.sleep(0.05)  # what is early in a migration
        listener.ask('dump')
        answer = t.ask('announce')
        assert good(answer) == 1
        frames = []
        wait_until('frame', lambda: frames.extend(f for f in listener.ask('dump') if f[0][24:28] == '8035') or frames)
        good(t.ask('disarm'))
        delays.append(frames[0][1] / 1000 - answer['at'])
    print(f'Open vSwitch: call to wire: median {statistics.median(delays):.0f} us, longest {max(delays):.0f} us')
    assert statistics.median(delays) < 2000


def test_ovs_is_taught_before_the_fabric_is_told(world, switches):
    """The switch believes the guest to be elsewhere, and frames of the guest wait to be credited to that place."""
    a, b = switches
    source = ovs_source(world, a)
    t = ovs_tool(world.b, b)
    good(t.ask('plug'))
    b.vsctl('--no-wait', 'set', 'port', TAP, f'tag={VLAN}')
    world.b.guest()
    good(t.ask('ready 5000'))
    good(t.ask('arm'))
    listener = world.b.part('listen', 'eth1', 'out')
    told = []
    for _ in range(10):
        source.tell('speak')
        wait_until('learning at the destination', lambda: b.fdb_vlan() == (b.ofport('eth1'), VLAN))
        listener.ask('dump')
        answer = t.ask('teach')
        assert good(answer) == 1
        frames = []
        wait_until('announcement', lambda: frames.extend(f for f in listener.ask('dump') if of_guest([f])) or frames)
        assert frames[0][0][24:28] == '8035', f'the fabric heard of the guest by another frame: {frames[0]}'
        told.append(frames[0][1] / 1000 - answer['at'])
        wait_until('learning', lambda: b.fdb_vlan() == (b.ofport(TAP), VLAN))
        good(t.ask('disarm'))
        good(t.ask('arm'))
        time.sleep(0.1)
    print(f'Open vSwitch: the fabric is told {min(told) / 1000:.1f} to {max(told) / 1000:.1f} ms after the first lesson')
    assert min(told) >= 4000


def test_ovs_the_bridge_of_a_physical_network_is_taught_as_well(world, switches):
    """Taught and disarmed before the fabric is told: both bridges know the guest's new place, and nothing of it left."""
    a, b = switches
    source = ovs_source(world, a)
    t = ovs_tool(world.b, b)
    b.patch_to_physical()
    good(t.ask('plug'))
    b.vsctl('--no-wait', 'set', 'port', TAP, f'tag={VLAN}')
    world.b.guest()
    good(t.ask('ready 5000'))
    listener = world.b.part('listen', 'eth1', 'out')
    for _ in range(20):
        good(t.ask('arm'))
        source.tell('speak')
        wait_until('learning at the destination', lambda: b.fdb_vlan('br-ex') == (b.ofport('eth1'), 0))
        time.sleep(0.05)  # what is early in a migration
        listener.ask('dump')
        assert good(t.ask('teach')) == 1
        good(t.ask('disarm'))
        time.sleep(0.05)
        left = of_guest(listener.ask('dump'))
        if not left:  # it was quick enough
            break
        assert left[0][24:28] == '8035', left
    assert not left
    assert b.fdb_vlan() == (b.ofport(TAP), VLAN)
    assert b.fdb_vlan('br-ex') == (b.ofport('phy-br-ex'), 0)


def test_ovs_with_openflow_10_alone(world, switches):
    _, b = switches
    b.vsctl('set', 'bridge', 'br-int', 'protocols=OpenFlow10')
    t = ovs_tool(world.b, b)
    good(t.ask('plug'))
    b.vsctl('--no-wait', 'set', 'port', TAP, f'tag={VLAN}')
    world.b.guest()
    good(t.ask('ready 5000'))
    good(t.ask('arm'))
    time.sleep(0.1)
    assert good(t.ask('announce')) == 1
    wait_until('learning', lambda: b.fdb_vlan() == (b.ofport(TAP), VLAN))


def test_ovs_a_port_that_is_wired_or_tagged_late_is_announced_by_itself(world, switches):
    a, b = switches
    source = ovs_source(world, a)
    t = ovs_tool(world.b, b)
    good(t.ask('plug'))
    good(t.ask('arm'))
    assert good(t.ask('announce')) == 0
    sender = world.client.part('sender', 'eth1', MAC)
    source.tell('stop')
    destination = world.b.guest()
    good(t.ask('ready 5000'))
    time.sleep(3)  # all repetitions for the wiring are over; without a tag they went nowhere
    assert destination.ask('dump') == []
    b.vsctl('--no-wait', 'set', 'port', TAP, f'tag={VLAN}')  # as Neutron's agent does
    tagged = time.time_ns()
    time.sleep(0.5)
    sent, seen = sender.ask('stop'), received(destination)
    late = lost_between(sent, tagged + 100 * 10**6, seen)
    assert seen and not late, f'{len(late)} frames lost 100 ms after the tag was set'


def test_ovs_a_switch_that_restarts_is_found_again(world, switches):
    _, b = switches
    t = ovs_tool(world.b, b)
    good(t.ask('plug'))
    b.vsctl('--no-wait', 'set', 'port', TAP, f'tag={VLAN}')
    world.b.guest()
    good(t.ask('ready 5000'))
    good(t.ask('arm'))
    with open(os.path.join(b.dir, 'vs.pid')) as f:
        pid = int(f.read())
    os.kill(pid, 15)
    wait_until('end of ovs-vswitchd', lambda: not start_time(pid))
    assert good(t.ask('announce')) == 0
    world.b.exec(*b.env, 'ovs-vswitchd', '--detach', '--no-chdir', f'--pidfile={b.dir}/vs.pid',
                 f'--log-file={b.dir}/vs.log', b.db)
    b.ofctl('add-flow', 'priority=0,actions=NORMAL')
    wait_until('learning', lambda: b.fdb_vlan() == (b.ofport(TAP), VLAN))


def test_ovs_no_database_is_one_sentence(world):
    t = world.b.tool('net.ovs_database=unix:/nonexistent/db.sock', kind='ovs', bridge='br-int')
    refused(t.ask('check'), '/nonexistent/db.sock', 'No such file')
    good(t.ask('arm'))
    assert good(t.ask('announce')) == 0
    assert good(t.ask('audit')) == []


# --- frames that wait -----------------------------------------------------------------------------------------

INJECTED = 1 << 40  # the numbers of frames that go past the hold
HOLD = 'hld' + TAP[3:]


def backlog(tool, what='frames'):
    return good(tool.ask('hold_backlog'))[what]


def hold_and_release(tool, guest, bypass, cycles=3):
    """Begin, frames past the hold, release, end, several times; how long the beginning took (us)."""
    took = []
    for i in range(cycles):
        answer = tool.ask('hold_begin')
        good(answer)
        took.append(answer['us'])
        wait_until('frames that wait', lambda: backlog(tool) > 1500)
        bypass.tell(f'send {INJECTED + i * 100} 100')
        good(tool.ask('hold_release'))
        wait_until('end of what waits', lambda: backlog(tool) == 0)
        good(tool.ask('hold_end'))
        time.sleep(0.2)
    return took


def nothing_lost_at_10_khz(world, tool, guest, taken=len):
    """`taken` gives how many of the sent frames the switch took: a busy one reads some too late from its uplink. The
    tap has a ring for what a Python program reads late."""
    world.b.ip('link', 'set', TAP, 'txqueuelen', '30000')
    good(tool.ask('hold_make'))
    good(tool.ask('hold_open'))
    bypass = world.b.part('bypass', TAP, MAC)
    sender = world.client.part('sender', 'eth1', MAC, '100')
    time.sleep(0.3)
    took = hold_and_release(tool, guest, bypass)
    sent, seen = sender.ask('stop'), [n for n, _ in received(guest)]
    good(tool.ask('hold_close'))
    print(f'{len(sent)} frames at {len(sent) / (sent[-1][1] - sent[0][1]) * 1e9:.0f} Hz; hold_begin {took} us')
    others = [n for n in seen if n < INJECTED]
    assert others == sorted(set(others)), 'a frame came twice or too early'
    assert len(others) == taken(sent), f'lost {sorted(set(range(len(sent))) - set(others))[:10]}'
    for i in range(len(took)):
        first = INJECTED + i * 100
        at = seen.index(first)
        assert seen[at:at + 100] == list(range(first, first + 100)), 'what went past the hold is not in one piece'


def guest_at_b(world):
    bridge_with_uplink(world.b)
    guest = world.b.guest()
    into_bridge(world.b)
    return guest


def test_hold_loses_nothing_and_keeps_the_order_on_a_linux_bridge(world):
    guest = guest_at_b(world)
    wait_until('learning', lambda: guest.tell('speak') and fdb_port(world.b) == TAP)
    nothing_lost_at_10_khz(world, world.b.tool(), guest)


def test_hold_loses_nothing_and_keeps_the_order_on_open_vswitch(world, switches):
    _, b = switches
    t = ovs_tool(world.b, b)
    good(t.ask('plug'))
    b.vsctl('--no-wait', 'set', 'port', TAP, f'tag={VLAN}')
    guest = world.b.guest()
    good(t.ask('ready 5000'))
    wait_until('learning', lambda: guest.tell('speak') and b.fdb_vlan() == (b.ofport(TAP), VLAN))
    b.ofctl('add-flow', f'priority=10,dl_dst={MAC},dl_type=0x88b5,actions=NORMAL')

    def taken(sent):
        counts = [-1]
        while len(counts) < 2 or counts[-1] != counts[-2]:
            time.sleep(1.5)  # the switch adds up twice a second
            counts.append(int(b.ofctl('dump-flows', 'dl_type=0x88b5').split('n_packets=')[1].split(',')[0]))
        print(f'{len(sent) - counts[-1]} frames did not get as far as the switch')
        assert counts[-1] > len(sent) / 2
        return counts[-1]

    nothing_lost_at_10_khz(world, t, guest, taken)


def test_what_is_held_comes_after_what_went_past_the_hold(world):
    guest = guest_at_b(world)
    t = world.b.tool()
    good(t.ask('hold_make'))
    good(t.ask('hold_open'))
    assert world.b.links(TAP)[0]['txqlen'] == 4096
    good(t.ask('hold_begin'))
    good(t.ask('hold_begin'))  # once more changes nothing
    sender = world.client.part('sender', 'eth1', MAC)
    wait_until('frames that wait', lambda: backlog(t) >= 100)
    assert backlog(t, 'bytes') >= 6000
    assert received(guest) == [], 'a frame passed while it was to be held'
    world.b.part('bypass', TAP, MAC).tell(f'send {INJECTED} 50')
    sent = sender.ask('stop')
    good(t.ask('hold_release'))
    wait_until('end of what waits', lambda: backlog(t) == 0)
    good(t.ask('hold_end'))
    good(t.ask('hold_end'))
    assert [n for n, _ in received(guest)] == list(range(INJECTED, INJECTED + 50)) + list(range(len(sent)))
    good(t.ask('hold_close'))


def test_a_hold_that_is_closed_lets_go_of_all(world):
    guest = guest_at_b(world)
    t = world.b.tool()
    good(t.ask('hold_make'))
    good(t.ask('hold_open'))
    good(t.ask('hold_begin'))
    sender = world.client.part('sender', 'eth1', MAC)
    wait_until('frames that wait', lambda: backlog(t) >= 100)
    good(t.ask('hold_close'))
    sent = sender.ask('stop')
    assert sorted(n for n, _ in received(guest)) == list(range(len(sent)))
    assert world.b.has(HOLD)
    good(t.ask('hold_remove'))
    assert not world.b.has(HOLD)


def test_large_frames_that_are_segmented_later_stay_whole_in_a_hold(world):
    bridge_with_uplink(world.b)
    guest = world.b.part('big_guest', TAP)
    world.b.ip('link', 'set', TAP, 'up')
    into_bridge(world.b)
    t, sender = world.b.tool(), world.client.part('big_sender', 'eth1', MAC)
    sender.tell('send 1000 5')
    assert guest.ask('dump') == [[1000 + i, 60000] for i in range(5)], 'they are not whole without a hold either'
    good(t.ask('hold_make'))
    good(t.ask('hold_open'))
    good(t.ask('hold_begin'))
    sender.tell('send 0 100')
    assert guest.ask('dump') == []
    assert 100 <= backlog(t) < 110, 'a bridge says a little too'
    good(t.ask('hold_release'))
    sender.tell('send 100 20')
    wait_until('end of what waits', lambda: backlog(t) == 0)
    good(t.ask('hold_end'))
    assert guest.ask('dump') == [[i, 60000] for i in range(120)]


def test_a_hold_takes_as_many_bytes_as_it_may(world):
    guest = guest_at_b(world)
    t = world.b.tool()
    refused(t.ask('hold_make 100'), TAP, '100', '65536')
    good(t.ask('hold_make 66000'))
    good(t.ask('hold_open'))
    good(t.ask('hold_begin'))
    sender = world.client.part('sender', 'eth1', MAC, '200')
    wait_until('a full hold', lambda: backlog(t, 'bytes') > 66000 - 60)
    time.sleep(0.2)
    held = backlog(t)
    assert backlog(t, 'bytes') <= 66000
    assert len(sender.ask('stop')) > held + 100
    good(t.ask('hold_release'))
    wait_until('end of what waits', lambda: backlog(t) == 0)
    good(t.ask('hold_end'))
    seen = [n for n, _ in received(guest)]
    assert held - 10 < len(seen) <= held, 'a bridge says a little too'
    assert seen == list(range(len(seen)))


def held_by_a_dead_owner(world):
    guest, t = guest_at_b(world), world.b.tool()
    good(t.ask('hold_make'))
    good(t.ask('hold_open'))
    good(t.ask('hold_begin'))
    sender = world.client.part('sender', 'eth1', MAC)
    wait_until('frames that wait', lambda: backlog(t) >= 100)
    world.b.parts.remove(t)
    t.p.kill()
    t.p.wait(10)
    return guest, sender


def test_what_a_killed_owner_held_is_let_out_by_removing(world):
    guest, sender = held_by_a_dead_owner(world)
    assert guest.ask('dump') == []
    t = world.b.tool()
    assert [(r['name'], r['why']) for r in good(t.ask('audit'))] == [
        (HOLD, 'holds frames of a tap for a migration that is not known')]
    good(t.ask('hold_remove'))
    time.sleep(0.1)
    sent = sender.ask('stop')
    assert sorted(n for n, _ in received(guest)) == list(range(len(sent)))
    assert not world.b.has(HOLD)
    assert world.b.exec('tc', 'filter', 'show', 'dev', TAP, 'egress') == ''
    good(t.ask('hold_remove'))
    assert good(t.ask('audit')) == []


@pytest.mark.parametrize('how', ['hold_make', 'hold_open'])
def test_what_a_killed_owner_held_is_let_out_by_the_next(world, how):
    guest, sender = held_by_a_dead_owner(world)
    t = world.b.tool()
    good(t.ask(how))
    if how == 'hold_make':
        good(t.ask('hold_open'))
    wait_until('end of what waits', lambda: backlog(t) == 0)
    time.sleep(0.1)
    sent = sender.ask('stop')
    assert sorted(n for n, _ in received(guest)) == list(range(len(sent)))
    good(t.ask('hold_begin'))
    sender = world.client.part('sender', 'eth1', MAC)
    wait_until('frames that wait', lambda: backlog(t) >= 100)
    assert guest.ask('dump') == []
    sender.ask('stop')


def test_a_hold_whose_tap_goes_says_so_once(world):
    guest = guest_at_b(world)
    t = world.b.tool()
    good(t.ask('hold_make'))
    good(t.ask('hold_open'))
    good(t.ask('hold_begin'))
    sender = world.client.part('sender', 'eth1', MAC)
    wait_until('frames that wait', lambda: backlog(t) >= 10)
    guest.end()
    wait_until('end of the tap', lambda: not world.b.has(TAP))
    sender.ask('stop')
    refused(t.ask('hold_end'), TAP)
    for command in ('hold_end', 'hold_begin', 'hold_release', 'hold_backlog', 'hold_close', 'hold_remove'):
        good(t.ask(command))
    assert not world.b.has(HOLD)


def test_a_tap_whose_hold_was_taken_away_is_reached(world):
    guest = guest_at_b(world)
    t = world.b.tool()
    good(t.ask('hold_make'))
    good(t.ask('hold_open'))
    good(t.ask('hold_begin'))
    world.b.ip('link', 'del', HOLD)
    refused(t.ask('hold_release'), HOLD)
    good(t.ask('hold_end'))
    sender = world.client.part('sender', 'eth1', MAC)
    time.sleep(0.1)
    sent = sender.ask('stop')
    assert [n for n, _ in received(guest)] == list(range(len(sent)))


def test_a_hold_is_made_before_its_tap_and_undone_without_it(world):
    t = world.b.tool()
    refused(t.ask('hold_open'), TAP, 'does not exist')
    good(t.ask('plug'))
    good(t.ask('hold_make'))
    good(t.ask('hold_make'))
    assert [r['why'] for r in good(t.ask('audit'))] == ['holds frames of a tap that is not there']
    assert good(t.ask(f'audit {INSTANCE}')) == []
    good(t.ask('undo'))
    assert not world.b.has(HOLD) and not world.b.has(BRIDGE)
    good(t.ask('undo'))


def test_unplugging_takes_the_hold_away(world):
    t = world.b.tool()
    good(t.ask('plug'))
    good(t.ask('hold_make'))
    good(t.ask('unplug'))
    assert not world.b.has(HOLD)


def test_filters_and_devices_of_others_are_left_alone(world):
    guest_at_b(world)
    t = world.b.tool()
    refused(t.ask('hold_open'), TAP, 'no hold')
    world.b.ip('link', 'add', HOLD, 'type', 'bridge')
    for command in ('hold_make', 'hold_open', 'hold_remove'):
        refused(t.ask(command), HOLD, 'no IFB')
    world.b.ip('link', 'del', HOLD)
    good(t.ask('hold_make'))
    world.b.exec('tc', 'qdisc', 'add', 'dev', TAP, 'ingress')
    refused(t.ask('hold_open'), TAP, 'ingress')
    world.b.exec('tc', 'qdisc', 'del', 'dev', TAP, 'ingress')
    world.b.exec('tc', 'qdisc', 'add', 'dev', TAP, 'clsact')
    world.b.exec('tc', 'filter', 'add', 'dev', TAP, 'ingress', 'u32', 'match', 'u32', '0', '0', 'flowid', '1:1')
    good(t.ask('hold_open'))
    good(t.ask('hold_begin'))
    good(t.ask('hold_close'))
    good(t.ask('hold_remove'))
    assert 'match 00000000' in world.b.exec('tc', 'filter', 'show', 'dev', TAP, 'ingress')


def test_the_hook_of_a_hold_goes_with_it_unless_a_guest_would_notice(world):
    world.b.ip('tuntap', 'add', TAP, 'mode', 'tap')
    world.b.ip('link', 'set', TAP, 'up')
    t = world.b.tool()

    def has_hook():
        return 'clsact' in world.b.exec('tc', 'qdisc', 'show', 'dev', TAP)

    for by_whom in ('nobody', 'a guest'):
        guest = by_whom == 'a guest' and world.b.guest()
        good(t.ask('hold_make'))
        good(t.ask('hold_open'))
        assert has_hook()
        good(t.ask('hold_close'))
        good(t.ask('hold_remove'))
        assert has_hook() == bool(guest), f'held open by {by_whom}'
    guest.end()
    world.b.exec('tc', 'qdisc', 'del', 'dev', TAP, 'clsact')
    world.b.exec('tc', 'qdisc', 'add', 'dev', TAP, 'clsact')
    good(t.ask('hold_remove'))
    assert has_hook(), 'without a hold it is not known to be ours'


def test_a_hook_that_was_taken_away_is_put_there_again(world):
    guest = guest_at_b(world)
    t = world.b.tool()
    good(t.ask('hold_make'))
    good(t.ask('hold_open'))
    world.b.exec('tc', 'qdisc', 'del', 'dev', TAP, 'clsact')
    answer = t.ask('hold_begin')
    good(answer)
    print(f'hold_begin with a hook to be made: {answer["us"]} us')
    sender = world.client.part('sender', 'eth1', MAC)
    wait_until('frames that wait', lambda: backlog(t) >= 100)
    assert guest.ask('dump') == []
    world.b.exec('tc', 'qdisc', 'del', 'dev', TAP, 'clsact')
    sent = sender.ask('stop')
    good(t.ask('hold_end'))
    assert set(n for n, _ in received(guest)) >= set(range(100)) and len(sent) >= 100


# --- a port that is wired late ----------------------------------------------------------------------------------

class Carry:
    """The guest at host a; frames of the client for it, and its own to a listener in the fabric, both 1 kHz and numbered; a line between the hosts."""

    LISTENER = '02:00:00:00:0f:01'

    def __init__(self, world, source, a, b):
        self.world, self.a, self.b = world, a, b
        self.source = source
        world.a.ip('link', 'add', 'line', 'type', 'veth', 'peer', 'name', 'line', 'netns', world.b.name)
        for host, address in ((world.a, '203.0.113.1/24'), (world.b, '203.0.113.2/24')):
            host.ip('addr', 'add', address, 'dev', 'line')
            host.ip('link', 'set', 'line', 'up')
        self.listener = world.client.part('guest', 'hear', self.LISTENER, '198.51.100.9', '2001:db8::9')
        for host, tap in ((world.client, 'hear'), (world.a, TAP)):  # their readers may have to wait for a processor
            host.ip('link', 'set', tap, 'txqueuelen', '10000', 'up')
        # a bridge at the client: its own address stays on eth1, which is not needed here
        world.client.ip('link', 'add', 'cbr', 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0')
        world.client.ip('link', 'set', 'cbr', 'up')
        for link in ('hear', 'eth1'):
            world.client.ip('link', 'set', link, 'master', 'cbr')
        self.listener.tell('speak')

    def prepare(self, destination):
        """As the agents do while the guest is copied; its tap at the destination is there."""
        good(self.b.ask('hold_make 16777216'))
        good(self.b.ask('arm'))
        port = good(self.b.ask('expect 203.0.113.2'))
        self.destination = destination()
        good(self.a.ask(f'connect 203.0.113.2 {port}'))
        wait_until('offer to carry', lambda: self.world.b.has('cry' + TAP[3:]))
        self.sender = self.world.client.part('sender', 'eth1', MAC)

    def move(self):
        """The guest stops at the source, and its QEMU ends; it runs at the destination and speaks."""
        time.sleep(0.2)
        self.first = int(self.source.tell('stop'))
        for tool in (self.a, self.b):
            assert good(tool.ask('paused')) is True
        self.before = self.source.ask('dump')
        self.source.end()
        assert self.world.a.has(TAP), 'the tap went with its holder'
        self.destination.tell(f'number {self.LISTENER}')
        time.sleep(0.5)

    def turned(self):
        wait_until('cut-over', lambda: all(good(t.ask('carried'))['turned'] for t in (self.a, self.b)))
        time.sleep(0.3)

    def end(self):
        """What was lost to the guest and from it, and in which order what came came."""
        sent, numbers = self.sender.ask('stop'), int(self.destination.tell('numbers'))
        seen, heard = received(self.destination), received(self.listener)
        counts = [good(t.ask('carried')) for t in (self.a, self.b)]
        for t in (self.a, self.b):
            good(t.ask('part'))
        assert not self.world.a.has(TAP) and not self.world.b.has('cry' + TAP[3:])
        assert 'computed-' not in self.world.b.exec('nft', 'list', 'tables')
        to_guest, from_guest = [n for n, _ in self.before + seen], [n for n, _ in heard]
        lost = lost_between(sent, 0, self.before, seen), sorted(set(range(numbers)) - set(from_guest))
        repeated = len(to_guest) - len(set(to_guest)), len(from_guest) - len(set(from_guest))
        print(f'to the guest {len(sent)}, from it {numbers}: lost {len(lost[0])} and {len(lost[1])}, repeated {repeated}, {counts}')
        return lost, repeated, (overtaken(to_guest), overtaken(from_guest)), counts


def overtaken(numbers):
    """How many came for the first time after a later one."""
    seen, highest, late = set(), -1, 0
    for n in numbers:
        late += n < highest and n not in seen
        seen.add(n)
        highest = max(highest, n)
    return late


def carried_on_bridges(world):
    bridge_with_uplink(world.a)
    source = world.a.guest()
    into_bridge(world.a)
    wait_until('learning', lambda: source.tell('speak') and fdb_port(world.a) == TAP)
    options = 'net.bridge_without_uplink=yes', 'agent.control_plane=standalone'
    c = Carry(world, source, world.a.tool(*options), world.b.tool(*options))
    good(c.b.ask('plug'))

    def arrive():
        guest = world.b.guest()
        into_bridge(world.b)
        return guest
    c.prepare(arrive)
    c.move()
    return c


def test_a_carried_guests_tap_that_is_taken_out_of_its_bridge_on_the_source_is_put_back(world):
    """As Neutron's agent does it when the binding is activated elsewhere."""
    c = carried_on_bridges(world)
    world.a.ip('link', 'set', TAP, 'nomaster')
    wait_until('tap in its bridge', lambda: world.a.links(TAP)[0].get('master') == BRIDGE and fdb_port(world.a) == TAP)
    time.sleep(0.3)
    world.b.ip('link', 'set', 'eth1', 'master', BRIDGE)
    c.turned()
    lost, _, _, counts = c.end()
    assert max(map(len, lost)) < 100 and counts[0]['dropped'] == 0, (lost, counts)


def test_frames_are_carried_until_a_bridge_gets_its_uplink_and_none_is_lost_or_overtaken(world):
    c = carried_on_bridges(world)
    assert fdb_port(world.a) == TAP
    c.destination.tell('foreign')
    wait_until('refusal', lambda: good(c.b.ask('carried'))['foreign'] > 0)
    world.b.ip('link', 'set', 'eth1', 'master', BRIDGE)
    c.turned()
    assert fdb_port(world.b) == TAP
    lost, repeated, late, counts = c.end()
    assert lost == ([], []) and late == (0, 0) and sum(repeated) <= 6, (lost, repeated, late)
    assert all(n['wired'] and n['carried'] > 100 and n['forwarded'] > 100 and n['dropped'] == 0 for n in counts), counts


def test_ovs_frames_are_carried_until_the_port_gets_its_vlan(world, switches):
    """This switch is a process, which reads taps before any barrier: around the cut-over frames come twice, and so perhaps not in order; and
    which loses what a guest sends while it waits for a processor."""
    a, b = switches
    c = Carry(world, ovs_source(world, a), ovs_tool(world.a, a), ovs_tool(world.b, b))
    good(c.b.ask('plug'))

    def arrive():
        guest = world.b.guest()
        wait_until('tap in the switch', lambda: b.ofport(TAP) > 0)
        return guest
    c.prepare(arrive)
    c.move()
    assert a.fdb_vlan() == (a.ofport(TAP), VLAN)
    b.vsctl('set', 'port', TAP, f'tag={VLAN}')
    c.turned()
    assert b.fdb_vlan() == (b.ofport(TAP), VLAN)
    lost, _, _, counts = c.end()
    assert max(map(len, lost)) <= 50, lost
    assert all(n['wired'] and n['carried'] > 100 and n['forwarded'] > 100 and n['dropped'] == 0 for n in counts), counts
