# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the lab tests. Needs root and what ./quickstart installs; says so when it is missing."""
import os
import sys
import warnings

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab as lab_module  # noqa: E402

# libvirt 9.0's daemon now and then ends by SIGSEGV in its own event loop. That is not for these tests to judge, as long
# as it is rare: it is started again and told, a test that it took part in is skipped, and one crash more is a failure.
CRASHES_OF_LIBVIRTD = 2


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
    crashed = lab.crashed() if lab and report.failed and call.when == 'call' else []
    if crashed:
        names = ', '.join(h.name for h in crashed)
        report.outcome = 'skipped'
        report.longrepr = (*item.location[:2], f'Skipped: libvirtd of {names} crashed meanwhile ({str(call.excinfo.value)[:300]})')


def _mend(lab):
    for host in lab.crashed():
        host.restart_libvirtd()


def _spotless(lab):
    """Gives the lab to one test, and fails the test when something is left on a host afterwards."""
    _mend(lab)
    before, known = lab.scan(), {h: len(h.crashes) for h in lab.hosts.values()}
    yield lab
    found = {}
    for agent in list(lab.agents.values()):
        agent.stop()
        if agent.findings():
            found[agent.host.name] = agent.log()[-20000:]
    lab.agents.clear()
    lab.shape(None)
    left = {}
    _mend(lab)
    guests = list(lab.guests)
    for guest in guests:
        guest.destroy()
    if lab.crashed():  # in this, too
        _mend(lab)
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
    crashes = [crash for host, count in known.items() for crash in host.crashes[count:]]
    for crash in crashes:
        warnings.warn(f'{crash}; {left or "nothing"} left behind')
    assert sum(len(host.crashes) for host in known) <= CRASHES_OF_LIBVIRTD, 'libvirtd crashes too often'
    assert not left or crashes, f'left behind: {left}'
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
