# SPDX-License-Identifier: Apache-2.0
"""An agent dies or is stopped while guests wait, are prepared and move: the next start goes on or takes back (the matrix of all
steps is test_deaths.py)."""
import signal
import time

import pytest

from agents import CONFIG, program
from namespaces import wait_until
from scenarios import SLOW, clean, config, connected, newest, pair, phase, restart, slow_guest, start

def test_a_source_that_is_killed_while_the_destination_prepares_takes_it_back(lab):
    guest = lab.guest('waits', memory_mb=128)
    a, b = pair(lab, b=['storage.make_disk=delay(3000)'])
    a.computectl('migrate', guest.uuid, '--to', 'hostb')
    phase(a, guest, 'preparing')
    time.sleep(1)
    a.kill()
    restart(a)
    record = a.wait_end(guest, 60)
    assert record['status'] == 'error' and 'restarted' in record['message'], record
    clean(lab, guest, 'hosta')


def test_a_source_that_is_killed_goes_on_with_the_guest_that_moves_and_the_one_that_waits(lab):
    first, second = slow_guest(lab, 'first'), lab.guest('second', memory_mb=128)
    a, b = pair(lab)
    start(a, first, 'hostb', *SLOW)
    a.computectl('migrate', second.uuid, '--to', 'hostb')
    phase(a, second, 'queued')
    a.kill()
    restart(a)
    assert newest(a, first)['phase'] == 'observing' and newest(a, second)['phase'] == 'queued'
    assert a.wait_end(first, 60)['status'] == 'completed'
    assert a.wait_end(second, 60)['status'] == 'completed'
    clean(lab, first, 'hostb')
    clean(lab, second, 'hostb')


@pytest.mark.parametrize('sig', [signal.SIGKILL, signal.SIGTERM])
def test_a_destination_that_ends_in_the_middle_of_a_copy_finds_the_guest_when_it_is_back(lab, sig):
    guest = slow_guest(lab)
    a, b = pair(lab)
    start(a, guest, 'hostb', *SLOW)
    b.kill(sig)
    wait_until(10, 'end of the agent', lambda: not b.service.alive())
    time.sleep(1)
    restart(b)
    assert newest(b, guest, 'destination')['phase'] in ('prepared', 'here')
    assert a.wait_end(guest, 60)['status'] == 'completed'
    clean(lab, guest, 'hostb')


def test_a_source_that_is_stopped_in_the_middle_of_a_copy_goes_on_when_it_is_back(lab):
    guest = slow_guest(lab)
    a, b = pair(lab)
    start(a, guest, 'hostb', *SLOW)
    before = time.monotonic()
    assert a.stop() == 0
    assert time.monotonic() - before < 10
    assert 'go on without the agent' in a.log()
    restart(a)
    assert a.wait_end(guest, 60)['status'] == 'completed'
    clean(lab, guest, 'hostb')


def test_an_agent_starts_while_the_killed_one_still_ends_but_never_beside_a_live_one(lab):
    """SIGKILL returns before the last thread, and with it the lock on the state, is gone."""
    a = lab.agent('hosta', config())
    for _ in range(5):
        a.kill()
        a.start()
    second = a.host.spawn('second', [program('computed'), '--config-file', CONFIG])
    wait_until(10, 'end of the second agent', lambda: not second.alive())
    assert 'another computed uses /var/lib/computed already' in second.output()
    assert connected(a).service.alive()
