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
# What ends a migration in nova-compute itself, in its own log: as the source it asks Neutron twice at once to activate the binding
# and fails when both arrive together; as the destination os-vif restores iptables beside Neutron's agent, with no lock between them.
FAULTS_OF_NOVA = {'source': 'PortBindingActivationFailed', 'destination': 'Failed to plug VIF'}


@pytest.mark.parametrize('first', ['nova', 'computed'])
def test_guests_move_between_nova_compute_and_computed(bare_fleet, first):
    """Half of the way there and half back, in both orders of the hosts."""
    fleet = bare_fleet
    second = {'nova': 'computed', 'computed': 'nova'}[first]
    fleet.agent('hosta', first)
    fleet.agent('hostb', second)
    server, gaps, known = busy(fleet), [], 0
    while len(gaps) < ROUNDS:
        logs = Logs(fleet.bed, server.api_host, server.other_host)
        record, seconds, seen = measured(server, server.other_host)
        if record['status'] != 'completed':
            told = logs.fault_of_nova()
            assert told, record
            known += 1
            assert known <= 3, told
            print('known fault of nova-compute:', told, '; '.join(scrub(fleet.bed)))
            fleet.agent('hosta', first)
            fleet.agent('hostb', second)
            server = busy(fleet)
            continue
        assert record['status'] == 'completed', record
        gaps.append(round(seen['gap_ms']))
        settled(server, record['dest_compute'])
    assert server.verify()['ok']
    fleet.figure(f'{ROUNDS} migrations between {first} and {second}: gaps in ms {gaps}; failed by nova-compute itself: {known}')


class Logs:
    """What the agents of a migration's two hosts write from now on."""

    def __init__(self, bed, source, destination):
        self.bed, self.hosts = bed, {'source': source, 'destination': destination}
        self.starts = {host: len(bed.compute_log(host)) for host in self.hosts.values()}

    def fault_of_nova(self):
        """The lines in which a nova-compute that took part tells a fault of its own; empty when none does."""
        return [line for side, host in self.hosts.items() if self.bed.hosts[host].agent.name == 'nova-compute'
                for line in self.bed.compute_log(host)[self.starts[host]:].splitlines() if FAULTS_OF_NOVA[side] in line]


def busy(fleet):
    server = Server(fleet.bed, 'between', 'hosta')
    server.rate(hot=16, dirty=2, fill=16)
    return server


def moved(server, to):
    """Whether it moved. nova-compute may fail by the faults that are told above; all of the bed is put in order then."""
    logs = Logs(server.bed, server.api_host, to)
    record = server.migrate(to)
    if record['status'] == 'completed':
        return True
    told = logs.fault_of_nova()
    assert told, record
    print('known fault of nova-compute:', told, '; '.join(scrub(server.bed)))
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
        if not (moved(running, 'hostb') and moved(running, 'hosta')):
            return
        settled(running, 'hosta')
        fleet.cloud.action(stopped.uuid, **{'os-stop': None})
        stopped.wait('SHUTOFF')
        wait_until(20, 'allocations as before', lambda: fleet.cloud.allocations() == allocations, 0.5)
    assert running.verify()['ok']
