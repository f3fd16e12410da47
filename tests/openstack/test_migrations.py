# SPDX-License-Identifier: Apache-2.0
"""Live migrations through the API between two hosts with the same agent."""
import json
import os
import statistics
import time

import pytest

from api import ApiError
from namespaces import wait_until
from servers import Server

ROUNDS = int(os.environ.get('COMPUTED_ROUNDS', 20))
WARM_GAP_MS = 300
SLOW = {'libvirt': {'live_migration_bandwidth': 6}}


def measured(server, host=None):
    """Migrates it under the 1 kHz probe; (record, seconds from the call to "completed", figures of the probe)."""
    with server.probe() as probe:
        time.sleep(0.5)
        t0 = time.monotonic()
        record = server.migrate(host)
        seconds = time.monotonic() - t0
        time.sleep(2.5)  # what comes late is a gap as well
    return record, seconds, probe.result


def settled(server, host):
    s = server.show()
    assert (s['OS-EXT-SRV-ATTR:host'], s['OS-EXT-SRV-ATTR:hypervisor_hostname'], s['status'], s['OS-EXT-STS:task_state'],
            s['OS-EXT-STS:power_state']) == (host, host, 'ACTIVE', None, 1)
    assert server.where() == [host]
    wait_until(20, f'one binding, on {host}', lambda: server.cloud.bindings(server.port) == {host: 'ACTIVE'}, 0.5)


def test_twenty_block_migrations_to_and_fro_are_hardly_noticed(fleet):
    server = Server(fleet.bed, 'mover', 'hosta')
    server.rate(hot=16, dirty=4, fill=16)
    for _ in range(2):  # the first ones wire the networks of hosts that had no port on them
        record, seconds, seen = measured(server, server.other_host)
        assert record['status'] == 'completed'
        fleet.figure(f'cold migration to {record["dest_compute"]}: {seconds:.2f} s, gap {seen["gap_ms"]:.0f} ms, {seen["lost"]} of {seen["sent"]} lost')
    gaps, times, lost = [], [], []
    for n in range(ROUNDS):
        to = server.other_host
        record, seconds, seen = measured(server, to)
        assert record['status'] == 'completed', f'migration {n + 1} to {to}: {record}'
        server.answers(10)  # an outage that lasts is no gap
        print(f'{n + 1:3} to {to}: {seconds:.2f} s, gap {seen["gap_ms"]:.0f} ms at {seen["gap_at_s"]:.2f} s, {seen["lost"]} lost, probe late by {seen["late_ms"]:.0f} ms')
        gaps.append(seen['gap_ms'])
        times.append(seconds)
        lost.append(seen['lost'])
    settled(server, 'hosta')
    assert server.verify()['ok']
    fleet.figure(f'{ROUNDS} warm migrations ({fleet.kind}, {fleet.bed.net}): call to completed {statistics.median(times):.2f} s (longest {max(times):.2f}), '
                 f'gap {statistics.median(gaps):.0f} ms (longest {max(gaps):.0f}), lost {statistics.median(lost):.0f} (most {max(lost)})')
    # all of them on a quiet machine; one in ten may be another process's fault
    assert sorted(gaps)[len(gaps) * 9 // 10 - 1] <= WARM_GAP_MS and max(gaps) <= 1000, f'gaps in ms: {gaps}'


def test_a_migration_is_told_as_nova_tells_it(fleet):
    server = Server(fleet.bed, 'told', 'hosta')
    record = server.migrate('hostb')
    assert (record['status'], record['source_compute'], record['dest_compute'], record['migration_type']) == (
        'completed', 'hosta', 'hostb', 'live-migration')
    assert (record['source_node'], record['dest_node']) == ('hosta', 'hostb')
    settled(server, 'hostb')
    assert server.show()['progress'] == 0
    events = [(event, result) for action, event, result in fleet.cloud.events(server.uuid) if action == 'live-migration']
    assert ('compute_live_migration', 'Success') in events and all(result == 'Success' for _, result in events), events


def test_the_scheduler_chooses_where_no_host_is_named(fleet):
    server = Server(fleet.bed, 'anywhere', 'hosta')
    record = server.migrate(None)
    assert (record['status'], record['dest_compute']) == ('completed', 'hostb')
    settled(server, 'hostb')


def test_a_host_with_four_guests_is_drained(fleet):
    servers = [Server(fleet.bed, f'drain{i}', 'hosta', wait=False) for i in range(4)]
    for s in servers:
        s.wait('ACTIVE')
        s.answers()
    fleet.cloud.set_service('hosta', status='disabled')
    try:
        t0 = time.monotonic()
        going = [(s, fleet.cloud.live_migrate(s.uuid)) for s in servers]
        for s, ident in going:
            assert fleet.cloud.wait_migration(s.uuid, ident)['status'] == 'completed'
        fleet.figure(f'four guests drained ({fleet.kind}): {time.monotonic() - t0:.1f} s')
    finally:
        fleet.cloud.set_service('hosta', status='enabled')
    for s in servers:
        settled(s, 'hostb')
        assert s.verify()['ok']


def drained(fleet, *words, seconds=300):
    """computectl drain ... on hosta, waited for; the job as it stands then."""
    fleet.bed.computectl('hosta', 'drain', *words, '--wait', timeout=seconds)
    return json.loads(fleet.bed.computectl('hosta', 'drain', 'status', '--json').stdout)


@pytest.mark.computed
def test_a_host_is_drained_by_computectl_through_the_api_and_the_drain_undone(fleet):
    servers = [Server(fleet.bed, f'emptied{i}', 'hosta', wait=False) for i in range(2)]
    for s in servers:
        s.wait('ACTIVE')
        s.answers()
    t0 = time.monotonic()
    job = drained(fleet, '--disable', '--order', 'name')
    fleet.figure(f'two guests drained by computectl: {time.monotonic() - t0:.1f} s')
    assert (job['state'], job['counts']['moved'], job['disabled']) == ('done', 2, True), job
    assert all(g['at'] == 'hostb' for g in job['guests']), job
    assert fleet.cloud.services()['hosta']['status'] == 'disabled'
    for s in servers:
        settled(s, 'hostb')
    job = drained(fleet, 'undo')
    assert (job['state'], job['counts']['returned'], job['disabled']) == ('done', 2, False), job
    assert fleet.cloud.services()['hosta']['status'] == 'enabled'
    for s in servers:
        settled(s, 'hosta')
        assert s.verify()['ok']


@pytest.mark.computed
def test_a_drain_tells_why_nova_left_a_guest_where_it_is(fleet):
    server = Server(fleet.bed, 'kept', 'hosta')
    fleet.cloud.set_service('hostb', status='disabled')
    try:
        ended = fleet.bed.computectl('hosta', 'drain', '--wait', timeout=120, check=False)
        assert ended.returncode != 0 and '1 guest(s) did not move' in ended.stderr, ended
        job = json.loads(fleet.bed.computectl('hosta', 'drain', 'status', '--json').stdout)
        assert 'No valid host' in job['guests'][0]['reason'], job
    finally:
        fleet.cloud.set_service('hostb', status='enabled')
    server.wait('ACTIVE', 20)
    assert drained(fleet)['counts']['moved'] == 1  # what was left is continued
    settled(server, 'hostb')
    assert drained(fleet, 'undo')['counts']['returned'] == 1


def test_a_paused_guest_arrives_paused(fleet):
    server = Server(fleet.bed, 'sleeper', 'hosta')
    fleet.cloud.action(server.uuid, pause=None)
    server.wait('PAUSED')
    assert server.migrate('hostb')['status'] == 'completed'
    assert server.wait('PAUSED')['OS-EXT-SRV-ATTR:host'] == 'hostb'
    fleet.cloud.action(server.uuid, unpause=None)
    server.wait('ACTIVE')
    assert server.status(30) and not server.restarted


def test_impossible_migrations_are_refused(fleet):
    server = Server(fleet.bed, 'stayer', 'hosta')
    with pytest.raises(ApiError) as refused:
        fleet.cloud.action(server.uuid, **{'os-migrateLive': {'host': 'nowhere', 'block_migration': 'auto'}})
    assert refused.value.status in (400, 404)
    # to itself: accepted, since Nova looks later, and then refused by the conductor
    assert server.migrate('hosta')['status'] == 'error'
    server.wait('ACTIVE', 20)
    settled(server, 'hosta')


# --- a slow one -------------------------------------------------------------------------------------


@pytest.fixture
def slow(bare_fleet):
    """A guest whose migration takes long: 6 MiB/s of bandwidth, half of it dirtied again. (server, id of the migration)."""
    bare_fleet.agents(extra=SLOW)
    server = Server(bare_fleet.bed, 'slow', 'hosta', flavor='medium')
    server.rate(hot=64, dirty=8, fill=64)
    ident = bare_fleet.cloud.live_migrate(server.uuid, 'hostb')
    bare_fleet.cloud.wait_migration(server.uuid, ident, 60, ('running', 'error', 'failed', 'completed'))
    time.sleep(5)
    return server, ident


def test_a_slow_migration_shows_how_far_it_is(bare_fleet, slow):
    server, ident = slow
    path = f'/servers/{server.uuid}/migrations/{ident}'
    shown = wait_until(20, 'counters of the migration', lambda: (lambda m: m if m.get('memory_remaining_bytes') else None)(
        bare_fleet.cloud.get('compute', path)['migration']), 0.5)
    assert shown['status'] == 'running' and 0 < shown['memory_remaining_bytes'] <= shown['memory_total_bytes']
    assert server.show()['status'] == 'MIGRATING' and server.api_host == 'hosta'
    bare_fleet.cloud.delete('compute', path)
    assert bare_fleet.cloud.wait_migration(server.uuid, ident, 40)['status'] == 'cancelled'


def test_an_aborted_migration_leaves_the_guest_where_it_was(bare_fleet, slow):
    server, ident = slow
    t0 = time.monotonic()
    bare_fleet.cloud.delete('compute', f'/servers/{server.uuid}/migrations/{ident}')
    assert bare_fleet.cloud.wait_migration(server.uuid, ident, 40)['status'] == 'cancelled'
    bare_fleet.figure(f'abort ({bare_fleet.kind}): cancelled after {time.monotonic() - t0:.1f} s')
    server.wait('ACTIVE', 30)
    wait_until(20, 'hosta alone', lambda: server.where() == ['hosta'] and server.cloud.bindings(server.port) == {'hosta': 'ACTIVE'})
    settled(server, 'hosta')
    assert server.verify()['ok']


def test_a_forced_migration_completes_soon(bare_fleet, slow):
    server, ident = slow
    with server.probe() as probe:
        t0 = time.monotonic()
        bare_fleet.cloud.post('compute', f'/servers/{server.uuid}/migrations/{ident}/action', {'force_complete': None})
        record = bare_fleet.cloud.wait_migration(server.uuid, ident, 120)
        seconds = time.monotonic() - t0
    assert record['status'] == 'completed'
    bare_fleet.figure(f'force-complete ({bare_fleet.kind}): completed after {seconds:.1f} s, gap {probe.result["gap_ms"] / 1000:.1f} s')
    server.wait('ACTIVE', 30)
    settled(server, 'hostb')
    assert server.verify()['ok']
    if bare_fleet.kind == 'computed':
        assert seconds < 10, 'the bandwidth cap was kept, it seems'


def test_a_queued_migration_can_be_aborted(bare_fleet, slow):
    """max_concurrent_live_migrations is 1: the second waits."""
    first, ident = slow
    second = Server(bare_fleet.bed, 'second', 'hosta')
    waiting = bare_fleet.cloud.live_migrate(second.uuid, 'hostb')
    bare_fleet.cloud.wait_migration(second.uuid, waiting, 30, ('queued',))
    bare_fleet.cloud.delete('compute', f'/servers/{second.uuid}/migrations/{waiting}')
    assert bare_fleet.cloud.wait_migration(second.uuid, waiting, 30)['status'] == 'cancelled'
    second.wait('ACTIVE', 30)
    bare_fleet.cloud.delete('compute', f'/servers/{first.uuid}/migrations/{ident}')
    assert bare_fleet.cloud.wait_migration(first.uuid, ident, 40)['status'] == 'cancelled'
    first.wait('ACTIVE', 30)
    settled(second, 'hosta')
