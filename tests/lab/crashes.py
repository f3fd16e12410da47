# SPDX-License-Identifier: Apache-2.0
"""What becomes of a test whose libvirtd crashed.

libvirt 9.0's daemon now and then ends by SIGSEGV in its own event loop. That is not for the tests here to judge, as long
as it is rare: it is started again and told as a warning, a test that failed meanwhile is skipped with that reason, and
one crash more than ALLOWED, in one lab, is a failure. A libvirtd that a test kills is not meant: that is by SIGKILL.
"""
import warnings

ALLOWED = 2


def crashed(lab):
    """The hosts whose libvirtd ended by a fault of its own and was not started again."""
    return [host for host in lab.hosts.values() if host.services['libvirtd'].crash()]


def mend(lab):
    """Whether there was something to mend."""
    hosts = crashed(lab)
    for host in hosts:
        host.restart_libvirtd()
    return bool(hosts)


def excuse(report, call, item, lab):
    """For pytest_runtest_makereport."""
    hosts = crashed(lab) if report.failed and call.when == 'call' else []
    if hosts:
        names = ', '.join(host.name for host in hosts)
        report.outcome = 'skipped'
        report.longrepr = (*item.location[:2], f'Skipped: libvirtd of {names} crashed meanwhile ({str(call.excinfo.value)[:300]})')


def known(lab):
    """How often so far, for tell()."""
    return {host: len(host.crashes) for host in lab.hosts.values()}


def tell(since):
    """Whether there were crashes since known(); each is told, and too many of them fail."""
    new = [crash for host, count in since.items() for crash in host.crashes[count:]]
    for crash in new:
        warnings.warn(crash)
    assert sum(len(host.crashes) for host in since) <= ALLOWED, 'libvirtd crashes too often'
    return bool(new)
