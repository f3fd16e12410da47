# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the OpenStack tests.

    pytest tests/openstack [--compute computed|nova] [--all] [--net linuxbridge|ovs]

COMPUTED_BED names a bed that is up already (bed.py --name NAME up), else one is made and taken down again. A test gets the
bed with the agents that it asks for on both hosts, and fails when it leaves anything behind (servers.leaks).
"""
import os
import re
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in (os.path.join(HERE, '..', 'lab'), HERE):
    sys.path.insert(0, os.path.abspath(folder))
import crashes  # noqa: E402
from bed import BUILD, Bed  # noqa: E402
from namespaces import LabError, wait_until  # noqa: E402
from servers import leaks, scrub  # noqa: E402

CONTEXT = re.compile(r'\[(None|-|req-\S+) req-[^]]*\]')
NOISE = re.compile('RPCClient manually|No controller found for|fernet_utils|password_hashing')
FIGURES = []  # lines for the end of the run


def pytest_addoption(parser):
    parser.addoption('--compute', choices=('computed', 'nova'), default='computed', help='the agent of the hosts')
    parser.addoption('--net', choices=('linuxbridge', 'ovs'), default='linuxbridge')
    parser.addoption('--all', action='store_true', help='the long tests as well')


def pytest_configure(config):
    report = os.path.join(BUILD, 'artifacts', 'openstack-failures.txt')
    if os.path.exists(report):
        os.unlink(report)
    config.addinivalue_line('markers', 'long: only with --all')
    config.addinivalue_line('markers', 'computed: promises that nova-compute does not make; left out with --compute nova')


def pytest_collection_modifyitems(config, items):
    def wanted(item):
        return ((config.getoption('--all') or not item.get_closest_marker('long'))
                and not (config.getoption('--compute') == 'nova' and item.get_closest_marker('computed')))
    left_out = [i for i in items if not wanted(i)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [i for i in items if wanted(i)]


@pytest.fixture(scope='session')
def whole_bed(request):
    if os.geteuid() != 0:
        pytest.skip('the OpenStack tests need root (namespaces, libvirtd)')
    name = os.environ.get('COMPUTED_BED')
    bed = Bed(name or f't{os.getpid()}')
    if name:
        bed.attach()
    else:
        bed.up(request.config.getoption('--net'), request.config.getoption('--compute'))
    yield bed
    if not name:
        bed.down()


class Fleet:
    """The bed as one test sees it."""

    def __init__(self, bed, kind):
        self.bed, self.cloud, self.kind, self.hosts = bed, bed.cloud, kind, list(bed.hosts)

    def agent(self, host, kind=None, extra=None, again=False, **kw):
        """Sees to it that the agent runs on a host with these options. again: starts it anew whatever runs."""
        if again or kw or not self.bed.compute_runs(host, kind or self.kind, extra):
            self.bed.compute_start(host, kind or self.kind, extra=extra, **kw)
        return self.bed.hosts[host].agent

    def agents(self, kind=None, extra=None):
        for host in self.hosts:
            self.agent(host, kind, extra)

    def figure(self, text):
        FIGURES.append(text)
        print(text)


def log_ends(bed, since, lines=60):
    """What was written to the logs since, of the compute agents all and of the control plane the bad news."""
    out = ''
    for name in sorted(log_sizes(bed)):
        with open(name, errors='replace') as f:
            f.seek(since.get(name, 0))
            text = f.read().splitlines()
        agent = os.path.basename(name).startswith(('computed', 'nova-compute'))
        text = [CONTEXT.sub('[…]', t) for t in text if (agent or ' ERROR ' in t or ' WARNING ' in t) and not NOISE.search(t)][-lines:]
        if text:
            out += f'--- {os.path.basename(name)}\n' + '\n'.join(t[:400] for t in text) + '\n'
    return out


def log_sizes(bed):
    log = os.path.join(bed.dir, 'log')
    return {os.path.join(log, n): os.path.getsize(os.path.join(log, n)) for n in os.listdir(log)}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    fleet = getattr(item, 'fleet', None)
    if fleet:
        crashes.excuse(report, call, item, fleet.bed)
    if report.failed and fleet:
        report.sections.append(('logs of the bed', log_ends(fleet.bed, item.log_sizes)))
    if report.failed:  # at once, for who waits for the end of a long run
        os.makedirs(os.path.join(BUILD, 'artifacts'), exist_ok=True)
        with open(os.path.join(BUILD, 'artifacts', 'openstack-failures.txt'), 'a') as f:
            f.write(f'===== {item.nodeid} ({report.when})\n{report.longreprtext}\n' + '\n'.join(t for _, t in report.sections) + '\n')


@pytest.fixture
def bare_fleet(whole_bed, request):
    """The bed without a word about its agents; nothing may be left in it."""
    fleet = Fleet(whole_bed, request.config.getoption('--compute'))
    request.node.fleet, request.node.log_sizes = fleet, log_sizes(whole_bed)
    known = crashes.known(whole_bed)
    yield fleet
    bed, left = whole_bed, []
    crashes.mend(bed)
    for host in bed.hosts:
        if not bed.hosts[host].agent:
            fleet.agent(host, wait=False)
    for host, service in bed.cloud.services().items():
        if service['forced_down'] or service['status'] != 'enabled':
            bed.cloud.set_service(host, forced_down=False, status='enabled')
    for s in bed.cloud.servers():
        try:
            bed.cloud.delete_server(s['id'])
        except LabError as e:
            left.append(str(e))
    try:
        wait_until(20, 'empty bed', lambda: not leaks(bed), 0.5)
    except LabError:
        left += leaks(bed)
    for p in bed.cloud.get('network', '/ports')['ports']:
        bed.cloud.delete('network', f'/ports/{p["id"]}', ok=(404,))
    if left:
        left += [f'(removed: {r})' for r in scrub(bed)]
    for host, h in bed.hosts.items():
        if h.agent and h.agent.name == 'computed' and findings(bed, host, request.node.log_sizes):
            left.append(f'{host}: a sanitizer reported')
    crashed = crashes.tell(known)
    assert not left or crashed, 'left behind:\n' + '\n'.join(left)


def findings(bed, host, since):
    from agents import FINDINGS
    path = os.path.join(bed.dir, 'log', f'computed.{host}.log')
    if not os.path.exists(path):
        return []
    with open(path, errors='replace') as f:
        f.seek(since.get(path, 0))
        return FINDINGS.findall(f.read())


@pytest.fixture
def fleet(bare_fleet):
    """Both hosts with the agent of --compute and no special options."""
    bare_fleet.agents()
    return bare_fleet


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section('figures')
        for line in FIGURES:
            terminalreporter.write_line(line)
