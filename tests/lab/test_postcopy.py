# SPDX-License-Identifier: Apache-2.0
"""Post-copy that loses its network: the guest's memory lies on both hosts, neither is given up, and it goes on.

libvirt gives its connection up after half a minute and says that it failed; QEMU's lives for as long as TCP tries. The other
way, by VIR_MIGRATE_POSTCOPY_RESUME after QEMU gave up too, is proved with fakes: with emulated processors a guest that waits for a
page often holds QEMU's main loop, and libvirt there then hears of nothing.
"""
from namespaces import wait_until
from scenarios import clean, cut, newest, pair, phase, refused, restart

LOST = 'post-copy lost its connection to hostb'


def reason(host, guest):
    return host.virsh('domstate', guest.name, '--reason', check=False).strip()


def in_post_copy(a, b, guest):
    a.computectl('migrate', guest.uuid, '--to', 'hostb', 'bandwidth=8')
    a.wait_end(guest, 60, statuses=('running', 'completed', 'failed', 'error'))
    wait_until(30, 'first pass over memory', lambda: newest(a, guest)['iteration'] >= 1)
    a.computectl('force-complete', guest.uuid)
    wait_until(30, 'post-copy', lambda: reason(b.host, guest) == 'running (post-copy)')


def test_post_copy_that_loses_its_network_goes_on_although_the_agents_were_killed(lab):
    guest = lab.guest('split', memory_mb=128, hot_set=24, dirty=20)
    a, b = pair(lab, libvirt={'live_migration_permit_post_copy': True, 'live_migration_post_copy_bandwidth': 6})
    in_post_copy(a, b, guest)
    with cut(lab, 'hostb'):
        record = phase(a, guest, 'recovering post-copy', seconds=90)
        assert record['status'] == 'running (post-copy)' and LOST in record['message'], record
        assert reason(a.host, guest) == 'paused (post-copy failed)' and reason(b.host, guest).startswith('running (post-copy')
        refused(a, guest)
        stopped = a.computectl('abort', guest.uuid, check=False)
        assert stopped.returncode != 0 and 'cannot be called back' in stopped.stderr, stopped
        a.kill(), b.kill()
        restart(a)
        assert phase(a, guest, 'recovering post-copy', seconds=30)['message'].startswith(LOST)
    restart(b)
    record = a.wait_end(guest, 180)
    assert record['status'] == 'completed' and not record['message'], record
    told = ' / '.join(record['result']['actions'])
    assert LOST in told and 'post-copy went on by itself' in told, told
    shown = a.computectl('show', guest.uuid, '--timeline', parse=True)
    names = [stamp['name'] for stamp in shown['migration']['timeline']['stamps']]
    assert 'post_copy_lost' in names and 'post_copy_recovered' in names, names
    clean(lab, guest, 'hostb')
