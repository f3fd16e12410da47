# SPDX-License-Identifier: Apache-2.0
"""Each way in which a guest's ports may be wired: wired the same on the other host, before the guest is there."""
import re
import statistics
import time

from probes import Probe


def agents(lab, hosta=None, hostb=None, **net):
    for name, extra in (('hosta', hosta), ('hostb', hostb)):
        lab.agent(name, {'net': {**net, **(extra or {})}})
    return lab.agents['hosta']


def answers(lab, guest):
    """How many of 200 echoes each of the guest's addresses answers."""
    found = []
    for port in guest.ports:
        with Probe(lab.fabric, port['ip'], icmp=True) as probe:
            time.sleep(0.2)
        found.append(probe.result['received'])
    return found


def moved(guest, to):
    assert guest.where() == [to]
    checked = guest.verify()
    assert checked['ok'], checked


def link(host, name):
    return next((li for li in host.links() if li['ifname'] == name), None)


def to_and_fro(lab, guest):
    for source, to in (('hosta', 'hostb'), ('hostb', 'hosta')):
        record = lab.agents[source].migrate(guest, to)
        assert record['status'] == 'completed', record
        moved(guest, to)
        yield lab.hosts[source], lab.hosts[to]


def test_both_ports_of_a_guest_on_linux_bridges_answer_on_the_other_host(lab):
    agents(lab)
    guest = lab.guest(nics=2, dirty=4, hot_set=8)
    for source, here in to_and_fro(lab, guest):
        for port in guest.ports:
            assert link(here, port['tap'])['master'] == port['network']['bridge']
            assert link(source, port['tap']) is None
        assert min(answers(lab, guest)) > 50


def test_both_ports_of_a_guest_on_open_vswitch_answer_on_the_other_host_with_their_tags(lab_ovs):
    agents(lab_ovs)
    guest = lab_ovs.guest(nics=2, dirty=4, hot_set=8)
    for source, here in to_and_fro(lab_ovs, guest):
        for port in guest.ports:
            assert port['tap'] in here.vsctl('list-ports', 'br-int').split()
            assert here.vsctl('get', 'Interface', port['tap'], 'external_ids:iface-id').strip().strip('"') == port['id']
            tag = here.vsctl('get', 'Port', port['tap'], 'tag').strip()
            assert tag == (str(port['network']['tag']) if port['network']['tag'] else '[]')
            assert port['tap'] not in source.vsctl('list-ports', 'br-int').split()
        assert min(answers(lab_ovs, guest)) > 50


def test_a_missing_bridge_is_made_with_its_uplink_and_the_guest_is_reachable(lab):
    b, net = lab.hosts['hostb'], lab.networks[0]
    agents(lab, hostb={'physical_interface_mappings': [f'{net["bridge"]}:{net["uplink"]}']})
    guest = lab.guest()
    b.ip('link', 'del', net['bridge'])
    try:
        with guest.probe() as probe:
            time.sleep(0.2)
            for _, here in to_and_fro(lab, guest):
                assert link(b, net['uplink'])['master'] == net['bridge']
        assert probe.result['received'] > 0.7 * probe.result['sent']
    finally:
        if not link(b, net['bridge']):
            b.wire_bridges([net])


def test_a_missing_bridge_that_cannot_be_made_refuses_the_guest_in_one_sentence(lab):
    b, net = lab.hosts['hostb'], lab.networks[0]
    agent = agents(lab)
    guest = lab.guest()
    b.ip('link', 'del', net['bridge'])
    try:
        r = agent.computectl('migrate', guest.uuid, '--to', 'hostb', check=False)
        assert r.returncode != 0 and re.search(f'bridge {net["bridge"]} is missing and cannot be made.*empty', r.stderr), r.stderr
        assert guest.where() == ['hosta'] and not link(b, net['bridge'])
    finally:
        b.wire_bridges([net])


def test_a_paused_guest_stays_paused_on_the_other_host(lab):
    agents(lab)
    guest = lab.guest(dirty=4, hot_set=8, fill=16)
    lab.hosts['hosta'].virsh('suspend', guest.name)
    for source, here in to_and_fro_paused(lab, guest):
        assert here.virsh('domstate', guest.name).strip() == 'paused'
        assert guest.name not in source.virsh('list', '--all', '--name').split()
    lab.hosts['hosta'].virsh('resume', guest.name)
    moved(guest, 'hosta')


def to_and_fro_paused(lab, guest):
    for source, to in (('hosta', 'hostb'), ('hostb', 'hosta')):
        record = lab.agents[source].migrate(guest, to)
        assert record['status'] == 'completed', record
        yield lab.hosts[source], lab.hosts[to]


def test_the_mtu_of_a_port_goes_with_the_guest(lab):
    agents(lab)
    guest = lab.guest(mtu=1400)
    for _, here in to_and_fro(lab, guest):
        assert link(here, guest.taps[0])['mtu'] == 1400
        assert link(here, lab.networks[0]['bridge'])['mtu'] == 1400, 'a bridge takes the least of its ports'


def test_an_uplink_too_small_for_the_guests_mtu_refuses_it_with_both_numbers(lab):
    b, net = lab.hosts['hostb'], lab.networks[0]
    agent = agents(lab)
    guest = lab.guest()
    b.ip('link', 'set', net['uplink'], 'mtu', '1300')
    try:
        r = agent.computectl('migrate', guest.uuid, '--to', 'hostb', check=False)
        assert r.returncode != 0 and '1300' in r.stderr and '1500' in r.stderr, r.stderr
        assert guest.where() == ['hosta']
    finally:
        b.ip('link', 'set', net['uplink'], 'mtu', '1500')


def lost_packets(lab, guest, switchover, moves=4):
    for agent in lab.agents.values():
        agent.write_config({'net': {'switchover': switchover}})
        agent.computectl('conf', 'reload')
    lost, gaps = [], []
    for _ in range(moves):
        source = guest.where()[0]
        with guest.probe() as probe:
            time.sleep(0.3)
            assert lab.agents[source].migrate(guest, 'hostb' if source == 'hosta' else 'hosta')['status'] == 'completed'
            time.sleep(0.5)
        lost.append(probe.result['lost'])
        gaps.append(probe.result['gap_ms'])
    return lost, gaps


def test_the_announcement_at_the_pause_can_be_switched_off_and_on_while_the_agents_run(lab):
    agents(lab)
    for name in lab.agents:
        lab.agents[name].computectl('log-level', 'debug')
    guest = lab.guest(dirty=8, hot_set=16)
    agent = lab.agents['hosta']
    for switchover in ('off', 'announce'):
        mark = len(agent.log())
        lost, gaps = lost_packets(lab, guest, switchover)
        moved(guest, 'hosta')
        print(f'\nswitchover {switchover:9} lost {lost}, median {statistics.median(lost):.0f}; gap median {statistics.median(gaps):.0f} ms', end='')
        told = 'port(s) turned' in agent.log()[mark:]
        assert told == (switchover == 'announce'), agent.log()[mark:]
