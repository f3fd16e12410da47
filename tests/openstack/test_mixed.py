# SPDX-License-Identifier: Apache-2.0
"""nova-compute and computed in one cloud: migrations between them, take-over of a host and back."""
import os
import time

import pytest

from namespaces import wait_until
from servers import Server, scrub
from test_migrations import measured, settled

pytestmark = pytest.mark.computed
ROUNDS = int(os.environ.get('COMPUTED_ROUNDS', 20)) // 2


@pytest.mark.parametrize('first', ['nova', 'computed'])
def test_guests_move_between_nova_compute_and_computed(bare_fleet, first):
    """Half of the way there and half back, in both orders of the hosts."""
    fleet = bare_fleet
    second = {'nova': 'computed', 'computed': 'nova'}[first]
    fleet.agent('hosta', first)
    fleet.agent('hostb', second)
    server, gaps, known = busy(fleet), [], 0
    while len(gaps) < ROUNDS:
        source, start = server.api_host, len(fleet.bed.compute_log(server.api_host))
        record, seconds, seen = measured(server, server.other_host)
        if record['status'] != 'completed' and fleet.bed.hosts[source].agent.name == 'nova-compute':
            # nova-compute asks Neutron twice at once to activate the binding, and fails when both arrive together
            assert 'PortBindingActivationFailed' in fleet.bed.compute_log(source)[start:], record
            known += 1
            assert known <= 3
            print('known fault of nova-compute:', '; '.join(scrub(fleet.bed)))
            fleet.agent('hosta', first)
            fleet.agent('hostb', second)
            server = busy(fleet)
            continue
        assert record['status'] == 'completed', record
        gaps.append(round(seen['gap_ms']))
        settled(server, record['dest_compute'])
    assert server.verify()['ok']
    fleet.figure(f'{ROUNDS} migrations between {first} and {second}: gaps in ms {gaps}; failed by nova-compute itself: {known}')


def busy(fleet):
    server = Server(fleet.bed, 'between', 'hosta')
    server.rate(hot=16, dirty=2, fill=16)
    return server


def moved(server, to, kind):
    """Whether it moved. nova-compute may fail by the fault that is told above; all of the bed is put in order then."""
    source, log = server.api_host, server.bed.compute_log
    start = len(log(source))
    record = server.migrate(to)
    if record['status'] == 'completed':
        return True
    assert kind == 'nova' and 'PortBindingActivationFailed' in log(source)[start:], record
    print('known fault of nova-compute:', '; '.join(scrub(server.bed)))
    return False


def identity(fleet, host):
    """What the control plane knows the host by."""
    node = [h for h in fleet.cloud.get('compute', '/os-hypervisors/detail')['hypervisors'] if h['hypervisor_hostname'] == host][0]
    return {'service': fleet.cloud.services()[host]['id'], 'node': node['id'], 'provider': fleet.cloud.providers()[host]}


def test_a_host_is_taken_over_and_given_back(bare_fleet):
    fleet = bare_fleet
    fleet.agents('nova')
    running, stopped = Server(fleet.bed, 'running', 'hosta'), Server(fleet.bed, 'stopped', 'hosta')
    running.rate(hot=8, dirty=2)
    fleet.cloud.action(stopped.uuid, **{'os-stop': None})
    stopped.wait('SHUTOFF')
    before = identity(fleet, 'hosta')
    allocations = fleet.cloud.allocations()
    for kind in ('computed', 'nova'):
        with running.probe() as probe:
            fleet.agent('hosta', kind)
            time.sleep(2)
        fleet.figure(f'take-over by {kind}: gap {probe.result["gap_ms"]:.0f} ms, {probe.result["lost"]} of {probe.result["sent"]} lost')
        assert probe.result['lost'] <= 50 and probe.result['gap_ms'] < 500, probe.result  # it did not stop; the rest is the machine
        assert identity(fleet, 'hosta') == before and fleet.cloud.allocations() == allocations
        assert (running.show()['status'], stopped.show()['status']) == ('ACTIVE', 'SHUTOFF')
        fleet.cloud.action(stopped.uuid, **{'os-start': None})
        stopped.wait('ACTIVE')
        stopped.seen_ms = 0
        stopped.answers()
        fleet.cloud.action(running.uuid, reboot={'type': 'HARD'})
        running.wait('ACTIVE')
        running.seen_ms, running.known_mib = 0, {}
        running.answers()
        running.rate(hot=8, dirty=2)
        if not (moved(running, 'hostb', kind) and moved(running, 'hosta', kind)):
            return
        settled(running, 'hosta')
        fleet.cloud.action(stopped.uuid, **{'os-stop': None})
        stopped.wait('SHUTOFF')
        wait_until(20, 'allocations as before', lambda: fleet.cloud.allocations() == allocations, 0.5)
    assert running.verify()['ok']
