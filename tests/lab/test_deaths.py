# SPDX-License-Identifier: Apache-2.0
"""The fault matrix: whoever dies at whichever step of a migration, it goes on or is taken back, and nothing is left.

One guest and one pair of agents go through all rows; each row begins where the one before left the guest, so the roles of
the hosts change, and every row is the proof that the guest of the former one can be moved again. A row that takes the guest
back is followed by the same migration without a fault. The simulator has the same matrix, with every pass of every fault
point (tests/simulator/matrix.c); the conductor, whom agents do without here, is in that one, and in tests/openstack."""
import contextlib
import os
import signal
import threading
import time

import pytest

from namespaces import LabError, wait_until
from scenarios import FAULTS, arm, clean, config, connected, kill_libvirtd, newest
from test_failures import beam

ON, BACK, EITHER = ('completed',), ('failed', 'error', 'cancelled'), ('completed', 'failed', 'error', 'cancelled')

# an agent kills itself at a fault point: who, where (@n: the n-th time), how the migration ends
AGENTS = [
    # the source: the record says nothing yet (the broker gives the request again), or says it and nobody has acted on it
    ('source', 'journal.write', ON), ('source', 'journal.written', ON), ('source', 'machine.SOURCE_PREPARING', ON),
    # the destination is asked, or libvirt is about to be: it takes back
    ('source', 'journal.written@2', BACK), ('source', 'machine.SOURCE_RUNNING', BACK), ('source', 'journal.written@3', BACK),
    ('source', 'virt.migrate.before', BACK),
    # libvirt works, has done it
    ('source', 'virt.sample@2', ON), ('source', 'virt.migrate.after', ON), ('source', 'machine.SOURCE_FINISHING', ON),
    ('source', 'journal.written@4', ON),
    # the destination's word is there: cleaning up
    ('source', 'machine.SOURCE_CLEANING', ON), ('source', 'virt.destroy.before', ON), ('source', 'storage.remove', ON),
    ('source', 'net.unplugged', ON), ('source', 'journal.remove', ON),
    # the destination prepares; a request that it has not answered it gets again. If all was done it goes on; else it takes back
    # what was done, and refuses the request or begins anew, as the request comes before the end of that or after it
    ('destination', 'journal.write', ON), ('destination', 'journal.written', EITHER),
    ('destination', 'storage.make_disk', EITHER), ('destination', 'net.plugged', EITHER),
    ('destination', 'machine.DESTINATION_PREPARED', EITHER), ('destination', 'destination.answer', ON),
    # the guest comes: at the announcement that the pause asks for, and after it
    ('destination', 'net.announce', ON), ('destination', 'machine.DESTINATION_HERE', ON),
    ('destination', 'machine.DESTINATION_SETTLING', ON), ('destination', 'storage.settle', ON),
    ('destination', 'journal.remove', ON),
]
# the same with an operator who takes it back, or who forces it
ABORTED = [('source', 'virt.abort.before', BACK), ('source', 'virt.abort.after', BACK),
           ('source', 'machine.SOURCE_ROLLING_BACK', BACK), ('destination', 'net.unplug', BACK)]
FORCED = [('source', 'virt.suspend.before', ON), ('source', 'virt.suspend.after', ON)]
# an agent is held at a point, somebody else is killed there and comes back: who, whose agent is held, where
OTHERS = [(victim, side, point) for side, point in (
    ('source', 'journal.fsync@2'), ('destination', 'storage.make_disk'), ('source', 'virt.sample@2'),
    ('source', 'virt.migrate.after'), ('source', 'storage.remove'))
    for victim in ('libvirtd of the source', 'libvirtd of the destination')]
OTHERS += [('RabbitMQ', 'source', 'virt.sample@2'), ('RabbitMQ', 'source', 'virt.migrate.after')]
ROWS = [('move', f'agent of the {side}', side, point, ends) for side, point, ends in AGENTS] + \
       [('abort', f'agent of the {side}', side, point, ends) for side, point, ends in ABORTED] + \
       [('force', f'agent of the {side}', side, point, ends) for side, point, ends in FORCED] + \
       [('move', victim, side, point, EITHER) for victim, side, point in OTHERS]


def name_of(row):
    way, victim, side, point, _ = row
    held = '' if victim.startswith('agent') else f'-{side}'
    return f'{victim}{held}-{way}-{point}'.replace(' of the ', '-').replace(' ', '-')


class Matrix:
    """The guest, its hosts and agents, as the last row left them; made anew after a row that failed."""

    def __init__(self, lab):
        self.lab, self.guest, self.agents, self.good, self.settled = lab, None, {}, False, []

    def begin(self):
        """Gives the source's agent and the destination's; both read a fault file, which is empty."""
        if not self.good:
            self.make()
        self.good = False
        where = self.guest.where()
        assert len(where) == 1, where
        other = 'hostb' if where[0] == 'hosta' else 'hosta'
        return self.agents[where[0]], self.agents[other]

    def make(self):
        self.clear()
        for host in self.lab.hosts.values():
            if not host.services['libvirtd'].alive():
                host.restart_libvirtd()
        if not self.lab.broker.service.alive():
            self.lab.broker.start()
            wait_until(60, 'RabbitMQ', self.lab.broker.ready)
        self.guest = self.lab.guest('mortal', memory_mb=96, disk_mib=32, hot_set=4, fill=16, dirty=1, disk_rate=1, disk_hot=4)
        for name, host in self.lab.hosts.items():
            arm(host, ())
            # its process, the arguments, and the fault file behind them
            wrapper = ['sh', '-c', f'exec "$@" --fault-file {FAULTS}', 'sh']
            # nothing is measured before the start, which saves a second a row
            quick = config(libvirt={'live_migration_policy': 'stepped'})
            self.agents[name] = connected(self.lab.agent(name, quick, wrapper=wrapper))

    def clear(self):
        """Nothing of a guest that was, and of its migrations, is left."""
        for agent in self.agents.values():
            agent.kill()
        if self.guest:
            self.guest.destroy()
            for tap in self.guest.taps:
                for host in self.lab.hosts.values():
                    host.run(['ip', 'link', 'del', tap], check=False)
        for host in self.lab.hosts.values():
            for directory, _, files in os.walk(host.path('/var/lib/computed/journal')):
                for f in files:
                    os.unlink(os.path.join(directory, f))
        self.agents, self.guest = {}, None


@pytest.fixture(scope='module')
def matrix(shared_lab):
    m = Matrix(shared_lab)
    yield m
    if not m.good:
        m.clear()
    if m.settled:
        print('\nfrom the start of who died until the journals were empty: ' +
              f'{len(m.settled)} rows, median {sorted(m.settled)[len(m.settled) // 2]:.2f} s, longest {max(m.settled):.2f} s, '
              f'{sum(s <= 5 for s in m.settled)} within 5 s')


# ---- a row ----

def reload_faults(agent, faults):
    """The fault file of a running agent; back when it was read."""
    armed = agent.log().count('fault point(s) are armed')
    arm(agent.host, faults)
    agent.service.kill(signal.SIGHUP)
    wait_until(10, f'fault points {faults} of {agent.host.name}', lambda: agent.log().count('fault point(s) are armed') > armed, 0.02)


@contextlib.contextmanager
def asked(agent, guest, to, *settings):
    """The migration is asked for beside what the test does; an agent that dies with the question unanswered may have it."""
    t = threading.Thread(target=lambda: agent.computectl('migrate', guest.uuid, '--to', to, *settings, check=False))
    t.start()
    try:
        yield
    finally:
        t.join(60)


def taken(agent, point, since):
    name = point.partition('@')[0]
    return f'fault point {name}: ' in agent.log()[since:]


def steer(way, agent, guest):
    """The operator's part, when the migration runs."""
    if way == 'move':
        return
    wait_until(40, 'running migration', lambda: (newest(agent, guest) or {}).get('phase') == 'running')
    agent.computectl({'abort': 'abort', 'force': 'force-complete'}[way], guest.uuid, check=False)


def start_agent(agent):
    wait_until(10, 'end of the agent', lambda: not agent.service.alive())
    arm(agent.host, ())
    agent.start(wait=False)


def pace(way, point):
    """An operator needs time, and so does the second sample; else it goes as fast as it can."""
    return ('bandwidth=8',) if way != 'move' else ('bandwidth=48',) if 'sample' in point else ()


def agent_dies(victim, source, destination, held, point, guest, way):
    since, to = len(held.log()), destination.host.name
    reload_faults(held, [f'{point.partition("@")[0]}=crash{point[len(point.partition("@")[0]):]}'])
    with asked(source, guest, to, *pace(way, point)):
        steer(way, source, guest)
        wait_until(40, f'death at {point}', lambda: taken(held, point, since) and not held.service.alive(), 0.02)
    start_agent(held)


def other_dies(victim, source, destination, held, point, guest):
    since, to = len(held.log()), destination.host.name
    reload_faults(held, [f'{point.partition("@")[0]}=hang{point[len(point.partition("@")[0]):]}'])
    host = (source if victim.endswith('source') else destination).host
    with asked(source, guest, to, *pace('move', point)):
        wait_until(40, f'agent held at {point}', lambda: taken(held, point, since), 0.02)
        if victim == 'RabbitMQ':
            broker = guest.lab.broker
            for pid in beam(broker):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            broker.service.popen.wait(10)
        else:
            kill_libvirtd(host)
        reload_faults(held, ())
    if victim == 'RabbitMQ':
        broker.start()
        wait_until(60, 'RabbitMQ', broker.ready, 0.1)
    else:
        host.restart_libvirtd()


def at_rest(lab, source, guest, before):
    """The newest migration's record when it has ended and no journal has anything left; None until then."""
    try:
        record = newest(source, guest)
    except LabError:
        return None
    if not record or record['id'] == before:
        return {} if not any(lab_journals(lab)) else None
    return record if record['status'] in EITHER and not any(lab_journals(lab)) else None


def lab_journals(lab):
    for host in lab.hosts.values():
        for _, _, files in os.walk(host.path('/var/lib/computed/journal')):
            yield from files


def settle(matrix, source, before, seconds=60):
    began = time.monotonic()
    record = wait_until(seconds, 'rest: ' + '; '.join(a.log()[-1500:] for a in matrix.agents.values()),
                        lambda: at_rest(matrix.lab, source, matrix.guest, before))
    return record, time.monotonic() - began


@pytest.mark.parametrize('way,victim,side,point,ends', ROWS, ids=[name_of(r) for r in ROWS])
def test_who_dies_at_a_step_leaves_a_migration_that_goes_on_or_is_taken_back(matrix, way, victim, side, point, ends):
    source, destination = matrix.begin()
    lab, guest, held = matrix.lab, matrix.guest, {'source': source, 'destination': destination}[side]
    before = (newest(source, guest) or {}).get('id')
    if victim.startswith('agent'):
        agent_dies(victim, source, destination, held, point, guest, way)
    else:
        other_dies(victim, source, destination, held, point, guest)
    record, seconds = settle(matrix, source, before)
    print(f'{victim:26}{way:7}{side + " " + point:44}{record.get("status", "-"):11}{seconds:6.2f} s', flush=True)
    matrix.settled.append(seconds)
    for agent in matrix.agents.values():
        connected(agent)
    if record:
        assert record['status'] in ends, record
    moved = record.get('status') == 'completed'
    clean(lab, guest, (destination if moved else source).host.name)
    if not moved:
        again = source.migrate(guest, destination.host.name, timeout=60)
        assert again['status'] == 'completed', again
        assert guest.where() == [destination.host.name]
    matrix.good = True
