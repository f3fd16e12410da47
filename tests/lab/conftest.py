# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the lab tests. Needs root and what ./quickstart installs; says so when it is missing."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crashes  # noqa: E402
import lab as lab_module  # noqa: E402


def _session_lab(net):
    if os.geteuid() != 0:
        pytest.skip('lab tests need root (namespaces, libvirtd)')
    lab_module.sweep()
    lab = lab_module.Lab(f't{os.getpid()}-{net}')
    lab.up(net=net)
    print('\nlab: ' + ', '.join(f'{k} {v:.1f} s' for k, v in lab.timings.items()))
    return lab


@pytest.fixture(scope='session')
def bridge_lab():
    lab = _session_lab('bridge')
    yield lab
    lab.down()


@pytest.fixture(scope='session')
def ovs_lab():
    lab = _session_lab('ovs')
    yield lab
    lab.down()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    lab = next((item.funcargs[f] for f in ('lab', 'lab_ovs', 'shared_lab') if f in getattr(item, 'funcargs', {})), None)
    if lab:
        crashes.excuse(report, call, item, lab)


def _spotless(lab):
    """Gives the lab to one test, and fails the test when something is left on a host afterwards."""
    crashes.mend(lab)
    before, known = lab.scan(), crashes.known(lab)
    yield lab
    found = {}
    for agent in list(lab.agents.values()):
        agent.stop()
        if agent.findings():
            found[agent.host.name] = agent.log()[-20000:]
    lab.agents.clear()
    lab.shape(None)
    left = {}
    crashes.mend(lab)
    guests = list(lab.guests)
    for guest in guests:
        guest.destroy()
    if crashes.mend(lab):  # it crashed in this
        for guest in guests:
            guest.destroy()
    after = lab.scan()
    for host, was in before.items():
        for kind, what in was.items():
            if kind != 'files' and after[host][kind] != what:
                left[f'{host} {kind}'] = f'{what} -> {after[host][kind]}'
        extra = [f for f in after[host]['files'] if f not in was['files'] and f.startswith('instances/')
                 and not f.startswith('instances/_base/')]
        if extra:
            left[f'{host} files'] = extra
    crashed = crashes.tell(known)
    assert not left or crashed, f'left behind: {left}'
    assert not found, 'a sanitizer or valgrind reported: ' + '\n'.join(f'{host}:\n{log}' for host, log in found.items())


@pytest.fixture
def lab(bridge_lab):
    yield from _spotless(bridge_lab)


@pytest.fixture(scope='module')
def shared_lab(bridge_lab):
    """For a file whose tests go on from one another: the hosts are looked at when all have run."""
    yield from _spotless(bridge_lab)


@pytest.fixture
def lab_ovs(ovs_lab):
    yield from _spotless(ovs_lab)
