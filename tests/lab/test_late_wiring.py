# SPDX-License-Identifier: Apache-2.0
"""A guest whose port at the destination is wired late, by others, has no outage: frames go both ways between the hosts until then."""
import contextlib
import time

import pytest

from namespaces import LabError, wait_until
from probes import Probe
from scenarios import config, journals, phase, refused, restart, start, whole

CARRY = {'late_wiring': 'carry', 'bridge_without_uplink': 'yes'}
NO_WAY = "no way out of this host yet, the source's is kept"
CARRIED = 'the network of the guest was carried between the hosts for'


def agents(lab, **net):
    options = config(net={**CARRY, **net})
    pair = [lab.agent(host, options) for host in lab.hosts]
    for agent in pair:
        agent.computectl('log-level', 'debug')
    return pair


def wire(lab, host, wired):
    """Neutron's agent's part: the uplink of the guests' network in its bridge, or not."""
    n = lab.networks[0]
    lab.hosts[host].ip('link', 'set', n['uplink'], *(('master', n['bridge']) if wired else ('nomaster',)))


@contextlib.contextmanager
def unwired(lab, host):
    wire(lab, host, False)
    try:
        yield
    finally:
        wire(lab, host, True)


def arrived(guest, host):
    wait_until(60, f'{guest.name} on {host}', lambda: guest.where() == [host], 0.05)


def carrying(lab, guest, source, to):
    """Moves it and comes back while its frames are carried."""
    before = len(lab.agents[to].log())
    start(source, guest, to, until=None)
    phase(source, guest, 'cleaning up')
    arrived(guest, to)
    said = lab.agents[to].log()[before:]
    assert NO_WAY in said and CARRIED not in said, said[-3000:]


def nothing_left(lab, guest):
    for name, box in lab.hosts.items():
        links = {link['ifname'] for link in box.links()}
        assert not {n for n in links if n.startswith(('cry', 'hld')) or (n in guest.taps and guest.where() != [name])}, (name, links)
        assert 'computed-' not in box.run(['nft', 'list', 'tables']).stdout, name
    for name in guest.where():
        assert 'u32' not in lab.hosts[name].run(['tc', 'filter', 'show', 'dev', guest.taps[0], 'egress']).stdout


def ends_clean(lab, guest):
    def ended():
        nothing_left(lab, guest)
        return not any(journals(lab).values())

    def clean():
        try:
            return ended()
        except AssertionError:
            return False
    with contextlib.suppress(LabError):
        wait_until(20, 'clean hosts', clean, 0.2)
    assert ended(), journals(lab)


def test_a_port_that_is_wired_seconds_after_the_move_costs_no_frame_on_a_linux_bridge(lab):
    """One of the two moves may lose some: a guest that the machine leaves waiting does so without moving, too."""
    a, b = agents(lab)
    guest, perfect = lab.guest('late', memory_mb=128), 0
    for source, to in ((a, b), (b, a)):
        name = to.host.name
        with unwired(lab, name):
            with guest.probe(ticks=True) as probe:
                time.sleep(0.3)
                carrying(lab, guest, source, name)
                refused(to, guest, source.host.name)  # what it had there is there still
                time.sleep(1)
                wire(lab, name, True)
                record = source.wait_end(guest, 60)
                time.sleep(0.5)
        seen, s = probe.result, record['result']['switchover']
        print(f"\nsent {seen['sent']} lost {seen['lost']} duplicated {seen['duplicated']} reordered {seen['reordered']} gap {seen['gap_ms']:.1f} ms, "
              f"ticks {seen['ticks']} lost {seen['ticks_lost']}; {s}")
        assert record['status'] == 'completed', record
        perfect += seen['lost'] == 0 and seen['reordered'] == 0 and seen['duplicated'] <= 4
        assert seen['lost'] < 500, seen  # less than the time in which it would have been cut off
        assert s['carried'] > 500 and s['carried_ms'] > 900 and s['dropped'] == 0, s
        assert CARRIED in source.log() and CARRIED in to.log()
        whole(guest, name)
        ends_clean(lab, guest)
    assert perfect


def test_a_port_that_is_wired_in_time_is_not_carried_and_holds_up_nothing(lab):
    a, b = agents(lab)
    guest = lab.guest('early', memory_mb=128)
    for source, to in ((a, b), (b, a)):
        start(source, guest, to.host.name, until=None)
        record = source.wait_end(guest, 60)
        assert record['status'] == 'completed', record
        assert record['result']['switchover']['carried_ms'] == -1, record
        assert 'still holds tap' not in source.log()
    whole(guest, 'hosta')
    ends_clean(lab, guest)


def test_what_a_rule_on_the_source_forbids_is_not_carried_and_the_time_ends_it(lab):
    """The rule names the guest's tap, as those of Neutron's agent do."""
    a, _ = agents(lab, carry_timeout=3)
    guest = lab.guest('late', memory_mb=128)
    box = lab.hosts['hosta']
    box.run(['nft', 'add table bridge rules; add chain bridge rules forward { type filter hook forward priority 0; }; '
                    f'add rule bridge rules forward oifname "{guest.taps[0]}" ip protocol icmp drop'])
    try:
        with unwired(lab, 'hostb'):
            carrying(lab, guest, a, 'hostb')
            with Probe(lab.fabric, guest.ip) as allowed, Probe(lab.fabric, guest.ip, icmp=True) as forbidden:
                time.sleep(0.5)
            record = a.wait_end(guest, 60)
    finally:
        box.run(['nft', 'delete table bridge rules'])
    assert record['status'] == 'completed', record
    assert allowed.result['received'] > 100 and forbidden.result['received'] == 0, (allowed.result, forbidden.result)
    assert 'the time is over: it has no network until its port is wired' in lab.agents['hostb'].log()
    whole(guest, 'hostb')
    ends_clean(lab, guest)


def still_answers(lab, guest, host):
    """Once its port is wired, whoever died before."""
    assert guest.where() == [host]
    wire(lab, host, True)
    whole(guest, host)


@pytest.mark.parametrize('which', ['hosta', 'hostb'])
def test_an_agent_that_dies_while_it_carries_leaves_nothing_and_the_guest_goes_on(lab, which):
    a, _ = agents(lab)
    guest = lab.guest('late', memory_mb=128)
    with unwired(lab, 'hostb'):
        carrying(lab, guest, a, 'hostb')
        dead, other = lab.agents[which], lab.agents['hostb' if which == 'hosta' else 'hosta']
        dead.kill()
        wait_until(20, 'end told by the other agent', lambda: CARRIED in other.log() and 'the stream' in other.log())
        wait_until(20, 'end of the barrier', lambda: not [n for h in lab.hosts.values() for n in h.links() if n['ifname'].startswith('cry')])
        restart(dead)
        still_answers(lab, guest, 'hostb')
        ends_clean(lab, guest)


def test_a_guest_that_ends_while_its_frames_are_carried_ends_them(lab):
    a, b = agents(lab)
    guest = lab.guest('late', memory_mb=128)
    with unwired(lab, 'hostb'):
        carrying(lab, guest, a, 'hostb')
        lab.hosts['hostb'].virsh('destroy', guest.name)
        record = a.wait_end(guest, 60)
        assert record['status'] == 'completed', record
        assert "the guest's tap is gone" in b.log()
        ends_clean(lab, guest)
