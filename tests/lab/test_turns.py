# SPDX-License-Identifier: Apache-2.0
"""Guests that move to the same host at the same time switch over one after the other."""
from namespaces import wait_until
from scenarios import newest, pair, whole

# slow enough that both copy memory at the same time, on a loaded machine too
TOGETHER = {'DEFAULT': {'max_concurrent_live_migrations': 2}, 'libvirt': {'live_migration_host_bandwidth': 16}}


def pause_of(agent, guest):
    """(begin, end) in us, as the agents stamped them."""
    stamps = agent.computectl('report', '--migration', newest(agent, guest)['uuid'], parse=True)['timeline']['stamps']
    at = {stamp['name']: stamp['at_us'] for stamp in stamps}
    return at['paused'], at['resumed']


def test_two_guests_that_write_switch_over_one_after_the_other(lab):
    guests = [lab.guest(f'turn{i}', memory_mb=128, fill=24, hot_set=8, dirty=1) for i in range(2)]
    a, b = pair(lab, **TOGETHER)
    for guest in guests:
        a.computectl('migrate', guest.uuid, '--to', 'hostb')
    for guest in guests:
        wait_until(150, f'end of the migration of {guest.name}', lambda g=guest: newest(a, g)['status'] == 'completed', 0.2)
        whole(guest, 'hostb')
    log = a.log()
    assert 'waits for its turn to switch over: another one to hostb' in log, log
    assert 'newest first: 15, 1' in log or 'newest first: 1, 15' in log, log
    # a guest may stop before it is seen to be near its end, or after its time; else nothing overlaps
    if 'takes the turn' not in log and 'passes the turn' not in log:
        (begin, end), (other_begin, other_end) = sorted(pause_of(a, guest) for guest in guests)
        assert begin < end <= other_begin < other_end, (begin, end, other_begin, other_end)
