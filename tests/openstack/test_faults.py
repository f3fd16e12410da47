# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around a migration: in the end the API says the truth, the guest is whole, and nothing is left behind
(which the fixture looks after)."""
import signal
import time

import pytest

from faults import ACTIVATE, THROUGH_PROXY, Proxy, restart_service
from namespaces import wait_until
from servers import Server

PACE = {'libvirt': {'live_migration_bandwidth': 12}}  # 256 MiB, of which 80 are in use, and time enough for a fault


@pytest.fixture
def proxy(bare_fleet):
    p = Proxy(bare_fleet.bed)
    bare_fleet.agents(extra={**PACE, **THROUGH_PROXY})
    yield p
    p.clear()
    bare_fleet.agents()
    p.stop()


@pytest.fixture
def paced(bare_fleet):
    bare_fleet.agents(extra=PACE)
    return bare_fleet


def busy_server(fleet):
    server = Server(fleet.bed, 'tried', 'hosta')
    server.rate(hot=16, dirty=2, fill=48)
    return server


def under_way(server, to='hostb', status=('running',)):
    ident = server.cloud.live_migrate(server.uuid, to)
    server.cloud.wait_migration(server.uuid, ident, 60, (*status, 'completed', 'failed', 'error'))
    return ident


def true_in_the_end(server, ident, seconds=150):
    """Waits until all say the same: the API, the hypervisors, Neutron; and the guest has lost nothing. Gives the record."""
    record = server.cloud.wait_migration(server.uuid, ident, seconds)

    def agree():
        s = server.show()
        host = s['OS-EXT-SRV-ATTR:host']
        return (s['status'] == 'ACTIVE' and not s['OS-EXT-STS:task_state'] and server.where() == [host]
                and server.cloud.bindings(server.port) == {host: 'ACTIVE'}
                and list(server.cloud.allocations()) == [(server.uuid, host)])
    wait_until(60, f'agreement about {server.uuid} after "{record["status"]}"', agree, 0.5)
    assert (record['status'] == 'completed') == (server.api_host == record['dest_compute'])
    assert server.answers() and server.verify()['ok']
    return record


def test_a_conductor_that_is_away_for_half_a_minute(paced):
    server = busy_server(paced)
    ident = under_way(server)
    back = restart_service(paced.bed, 'nova-conductor')
    time.sleep(30)
    back()
    record = true_in_the_end(server, ident)
    assert record['status'] == 'completed' and server.api_host == 'hostb'


@pytest.mark.parametrize('mode', ['status', 'hang'])
def test_neutron_that_fails_for_a_while_at_activation(proxy, bare_fleet, mode):
    server = busy_server(bare_fleet)
    rule = proxy.fail('neutron', mode, 500, 'PUT', ACTIVATE)
    ident = under_way(server)
    wait_until(60, 'attempt to activate the binding', lambda: proxy.requests(rule), 0.2)
    time.sleep(8)
    proxy.clear()
    record = true_in_the_end(server, ident)
    bare_fleet.figure(f'Neutron failing ({mode}) at activation ({bare_fleet.kind}): {record["status"]}')


@pytest.mark.parametrize('mode', ['status', 'hang'])
def test_neutron_that_fails_altogether_while_the_guest_moves(proxy, bare_fleet, mode):
    server = busy_server(bare_fleet)
    ident = under_way(server)
    proxy.fail('neutron', mode, 500)
    time.sleep(20)
    proxy.clear()
    record = true_in_the_end(server, ident)
    bare_fleet.figure(f'Neutron failing ({mode}) for 20 s ({bare_fleet.kind}): {record["status"]}')


def test_a_binding_is_never_activated_twice_at_once(proxy, bare_fleet):
    """Neutron answers the second of two at once with 500."""
    server = busy_server(bare_fleet)
    true_in_the_end(server, under_way(server))
    asked = sorted((r['t0'], r['t1'], r['status']) for r in proxy.requests(answered=True) if r['method'] == 'PUT' and 'activate' in r['path'])
    assert asked and all(before[1] <= after[0] for before, after in zip(asked, asked[1:])), asked
    assert [status for _, _, status in asked].count(200) == 1, asked


def test_a_generation_conflict_in_placement(proxy, bare_fleet):
    server = busy_server(bare_fleet)
    conflict = {'errors': [{'status': 409, 'code': 'placement.concurrent_update', 'title': 'Conflict', 'detail': 'consumer generation conflict'}]}
    rule = proxy.fail('placement', 'status', 409, 'PUT|POST', '/allocations|/inventories', times=2, body=conflict)
    ident = under_way(server)
    record = true_in_the_end(server, ident)
    assert record['status'] == 'completed'
    print(proxy.requests(rule))


@pytest.mark.parametrize('which', ['hostb', 'hosta'])
def test_an_agent_that_is_killed(paced, which):
    """hostb is the destination, hosta the source."""
    server = busy_server(paced)
    ident = under_way(server)
    time.sleep(1)
    paced.bed.hosts[which].agent.kill(signal.SIGKILL)
    time.sleep(3)
    paced.agent(which, extra=PACE, again=True)
    record = true_in_the_end(server, ident)
    paced.figure(f'agent of {which} killed while the guest moves ({paced.kind}): {record["status"]}')


def test_a_server_that_is_deleted_while_it_moves(paced):
    server = busy_server(paced)
    ident = under_way(server)
    server.cloud.delete_server(server.uuid, 90)
    # with the instance its migrations go from the API, not from the database
    assert paced.bed.sql(f'select status from nova.migrations where id = {int(ident)}').strip() in ('error', 'failed', 'cancelled')
    wait_until(60, 'end of its domains', lambda: not any(h.virsh('list', '--all', '--uuid').split() for h in paced.bed.hosts.values()), 0.5)


@pytest.mark.long
def test_a_broker_that_is_restarted_while_the_guest_moves(paced):
    server = busy_server(paced)
    ident = under_way(server)
    paced.bed.broker.stop()
    time.sleep(5)
    paced.bed.broker.start()
    wait_until(60, 'RabbitMQ', paced.bed.broker.ready, 0.2)
    paced.bed.save()
    record = true_in_the_end(server, ident)
    paced.figure(f'broker away for some seconds ({paced.kind}): {record["status"]}')
