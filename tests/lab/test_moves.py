# SPDX-License-Identifier: Apache-2.0
"""The main job, again and again: a working guest moves to and fro, and neither host shows that it was there."""
import os
import time

from namespaces import wait_until

MOVES = int(os.environ.get('COMPUTED_LAB_MOVES', '20'))


def traces(lab, guest):
    """Each host's links, bridge ports, domains, files and journal records, without the shared image bases."""
    found = {}
    for name, host in lab.hosts.items():
        scan = host.scan()
        scan['files'] = [f for f in scan['files'] if not f.startswith('instances/_base/')]
        scan['processes'] = sorted(s.name for s in host.services.values() if s.alive())
        found[name] = scan
    found['qemus'] = len(guest.qemu_pids())
    return found


def descriptors(agent):
    fds = f'/proc/{agent.pid}/fd'
    return sorted(os.readlink(f'{fds}/{fd}') for fd in os.listdir(fds) if os.path.lexists(f'{fds}/{fd}'))


def test_a_guest_moved_twenty_times_to_and_fro_is_whole_and_leaves_nothing_behind(lab):
    for host in lab.hosts:
        lab.agent(host)
    guest = lab.guest('mover', memory_mb=192, hot_set=16, fill=32, dirty=8, disk_rate=1, disk_hot=16)
    before = traces(lab, guest)
    print(f'\n{"move":6}{"way":16}{"total s":>9}{"gap ms":>9}{"sent":>8}{"lost":>6}{"downtime ms":>13}')
    for move in range(MOVES):
        source, to = ('hosta', 'hostb') if move % 2 == 0 else ('hostb', 'hosta')
        with guest.probe(ticks=True) as probe:
            time.sleep(0.2)
            record = lab.agents[source].migrate(guest, to)
            time.sleep(0.3)
        assert record['status'] == 'completed', record
        assert guest.where() == [to]
        result, seen = record['result'], probe.result
        print(f'{move + 1:<6}{source + "->" + to:16}{result["total_time_ms"] / 1000:>9.2f}{seen["gap_ms"]:>9.0f}{seen["sent"]:>8}'
              f'{seen["lost"]:>6}{result["downtime_ms"]:>13}', flush=True)
        assert seen['sent'] > 500 and seen['received'] > 0, seen
        checked = guest.verify()
        assert checked['ok'], checked
        if move == 3:  # by now each host has done all parts twice
            held = {name: descriptors(agent) for name, agent in lab.agents.items()}
    assert guest.where() == ['hosta' if MOVES % 2 == 0 else 'hostb']
    if MOVES % 2 == 0:
        wait_until(10, 'hosts as they were before', lambda: traces(lab, guest) == before)
    for name, agent in lab.agents.items():
        assert len(descriptors(agent)) <= len(held[name]) + 4, f'{held[name]} -> {descriptors(agent)}'
        assert not [line for line in agent.log().splitlines() if ' ERROR ' in line]
