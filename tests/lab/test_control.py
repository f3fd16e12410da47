# SPDX-License-Identifier: Apache-2.0
"""computectl against agents at work: all commands, here and over the message bus, on a terminal and off it."""
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import time

import pytest

from agents import program
from namespaces import wait_until

SLOW = {'libvirt': {'live_migration_bandwidth': 6, 'live_migration_log_period': 1}}
USAGE, DATA, NO_INPUT, UNAVAILABLE, TEMPFAIL, NO_PERMISSION, CONFIG = 64, 65, 66, 69, 75, 77, 78
SOCKET = '/run/computed/control.sock'


def agents(lab, config=None):
    for host in lab.hosts:
        lab.agent(host, config)
    return lab.agents['hosta']


def fails(agent, code, words, *args):
    """The command ends with this status and one sentence on standard error that has the words."""
    r = agent.computectl(*args, check=False)
    assert r.returncode == code and re.search(words, r.stderr), (args, r.returncode, r.stdout, r.stderr)
    assert r.stderr.startswith('computectl: ') and not r.stdout, (args, r.stdout, r.stderr)
    return r.stderr


def slow_migration(lab, config=None, **guest):
    agent = agents(lab, config or SLOW)
    guest = lab.guest(**{'fill': 48, 'dirty': 2, 'hot_set': 4, **guest})
    agent.computectl('migrate', guest.uuid, '--to', 'hostb')
    agent.wait_end(guest, 60, statuses=('running',))
    return agent, guest


@pytest.mark.parametrize('through', ('hosta', 'hostb'), ids=('here', 'over the bus'))
def test_each_command_answers_in_words_and_in_json(lab, through):
    agent, guest = slow_migration(lab)
    asked = lab.agents[through]
    host = [] if through == 'hosta' else ['--host', 'hosta']

    def answer(*command):
        assert asked.computectl(*command, *host).stdout.strip(), command
        return asked.computectl(*command, *host, parse=True)

    assert [i['name'] for i in answer('list')['instances']] == [guest.name]
    shown = answer('show', guest.name)
    assert shown['uuid'] == guest.uuid and shown['task'] == 'migrating' and shown['migration']['dest'] == 'hostb'
    assert [d['target'] for d in shown['disks']] == ['vda'] and shown['interfaces'][0]['target'] == guest.taps[0]
    newest = answer('migrations', guest.uuid)['migrations'][0]
    assert (newest['status'], newest['source'], newest['dest']) == ('running', 'hosta', 'hostb')
    assert answer('set', guest.uuid, 'downtime=400', 'timeout=600')['downtime_limit_ms'] >= 0
    assert answer('status')['agent']['host'] == 'hosta'
    assert answer('stats') and answer('log-level')
    assert answer('conf', 'get', 'libvirt.live_migration_bandwidth') and answer('conf', 'list', 'libvirt')
    assert answer('conf', 'reload') == {'changed': [], 'needs_restart': []}
    assert answer('log-level', 'monitor', 'debug')
    done = asked.computectl('force-complete', guest.uuid, *host, parse=True)
    assert done['migration']['uuid'] == newest['uuid']
    assert agent.wait_end(guest, 60)['status'] == 'completed'
    assert guest.where() == ['hostb'] and guest.verify()['ok']


def test_abort_leaves_the_guest_at_the_source_and_watch_tells_it_with_its_exit_status(lab):
    agent, guest = slow_migration(lab)
    watch = subprocess.Popen(agent.host.command([program('computectl'), 'watch', guest.uuid, '--interval', '0.2']),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    agent.computectl('abort')
    out, err = watch.communicate(timeout=30)
    assert watch.returncode == TEMPFAIL, (watch.returncode, out, err)
    lines = out.splitlines()
    assert len(lines) > 3 and '\033' not in out, 'plain lines are wanted where there is no terminal'
    assert all(re.search(r'\d', line) for line in lines[:3])
    assert 'cancelled' in out + err
    assert agent.wait_end(guest, 20)['status'] == 'cancelled'
    assert guest.where() == ['hosta'] and guest.verify()['ok']


def test_watch_redraws_its_bars_in_place_on_a_terminal(lab):
    agent, guest = slow_migration(lab)
    master, slave = pty.openpty()
    watch = subprocess.Popen(agent.host.command([program('computectl'), 'watch', guest.uuid]), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen, end = b'', time.monotonic() + 5
    while time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            seen += os.read(master, 65536)
    agent.computectl('force-complete', guest.uuid)
    end = time.monotonic() + 60
    while watch.poll() is None and time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:
                break
    assert watch.wait(20) == 0
    os.close(master)
    text = seen.decode()
    assert len(re.findall(r'\033\[\d+A', text)) >= 5, 'the cursor never went up'
    assert '\033[K' in text and text.count('%') > 10 and 'completed' in text
    for word in ('memory', 'disk', 'throughput', 'dirty rate', 'downtime', 'left'):
        assert word in text.lower(), word
    assert guest.where() == ['hostb']


def test_migrate_waits_when_asked_and_takes_settings_with_it(lab):
    agent = agents(lab)
    guest = lab.guest(fill=16)
    r = agent.computectl('migrate', guest.uuid, '--to', 'hostb', '--wait', 'downtime=333', 'bandwidth=200', 'timeout=77')
    assert r.stdout == '' and guest.where() == ['hostb']
    record = agent.wait_end(guest, 5)
    assert record['status'] == 'completed'
    assert (record['downtime_limit_ms'] <= 333, record['bandwidth_mib'], record['completion_timeout_s']) == (True, 200, 77), record
    back = lab.agents['hostb'].computectl('migrate', guest.name, '--to', 'hosta', '--watch')
    assert 'completed' in back.stdout and guest.where() == ['hosta']


def test_a_domains_own_settings_override_the_configuration_and_a_commands_override_those(lab):
    agent = agents(lab, SLOW)
    guest = lab.guest(fill=16)
    host = lab.hosts['hosta']
    host.virsh('metadata', guest.name, '--uri', 'https://computed.invalid/settings/1', '--key', 'computed', '--set',
               '<settings>{"bandwidth_mib": 150, "completion_timeout_s": 99, "timeout_action": "force_complete"}</settings>',
               '--live', '--config')
    agent.computectl('migrate', guest.uuid, '--to', 'hostb', '--wait', 'timeout=55')
    record = agent.wait_end(guest, 5)
    assert (record['bandwidth_mib'], record['completion_timeout_s'], record['timeout_action']) == (150, 55, 'force_complete'), record
    lab.agents['hostb'].computectl('migrate', guest.uuid, '--to', 'hosta', '--wait')
    record = lab.agents['hostb'].wait_end(guest, 5)
    assert (record['bandwidth_mib'], record['completion_timeout_s']) == (150, 99), 'the metadata did not go with the guest'


def test_what_cannot_be_done_is_refused_with_a_sentence_and_its_exit_status(lab):
    agent, guest = slow_migration(lab, {'libvirt': {**SLOW['libvirt'], 'live_migration_downtime_hard_limit': 800}})
    other = lab.agents['hostb']
    fails(agent, USAGE, 'set', 'set', guest.uuid)
    fails(agent, USAGE, 'speed', 'set', guest.uuid, 'speed=7')
    fails(agent, USAGE, 'downtime.*20', 'set', guest.uuid, 'downtime=3')
    fails(agent, DATA, 'downtime_ms is 900; the operator.s limit .* allows 800', 'set', guest.uuid, 'downtime=900')
    fails(agent, USAGE, 'abort or force_complete', 'set', guest.uuid, 'action=explode')
    fails(agent, TEMPFAIL, 'being migrated to hostb already', 'migrate', guest.uuid, '--to', 'hostb')
    fails(agent, USAGE, 'another host', 'migrate', guest.uuid, '--to', 'hosta')
    fails(agent, DATA, 'destination', 'migrate', guest.uuid, '--to', 'host b;reboot')
    fails(agent, NO_INPUT, 'no-such', 'migrate', 'no-such', '--to', 'hostb')
    fails(agent, NO_INPUT, 'no-such', 'show', 'no-such')
    fails(agent, NO_INPUT, 'migration 4711', 'abort', '--migration', '4711')
    fails(other, TEMPFAIL, 'its source hosta has to be asked', 'abort', guest.uuid)
    fails(agent, USAGE, 'frobnicate', 'frobnicate')
    fails(agent, USAGE, 'libvirt.no_such', 'conf', 'get', 'libvirt.no_such')
    agent.computectl('abort', guest.uuid)
    assert agent.wait_end(guest, 20)['status'] == 'cancelled'
    fails(agent, NO_INPUT, 'no migration is', 'abort')
    t0 = time.monotonic()
    fails(agent, UNAVAILABLE, 'nowhere', 'list', '--host', 'nowhere')
    assert time.monotonic() - t0 < 40


def test_a_reload_changes_the_timeout_for_the_next_migration_by_command_and_by_signal_all_or_nothing(lab):
    agent = agents(lab, {'libvirt': {'live_migration_completion_timeout': 400, 'live_migration_timeout_scale': 'total'}})

    def timeout():
        return agent.computectl('conf', 'get', 'libvirt.live_migration_completion_timeout').stdout
    assert '400' in timeout()
    agent.write_config({'libvirt': {'live_migration_completion_timeout': 500}})
    diff = agent.computectl('conf', 'diff', '/etc/computed/computed.yaml').stdout
    assert '400' in diff and '500' in diff and '400' in timeout()
    report = agent.computectl('conf', 'reload', parse=True)
    assert report['changed'] == ['libvirt.live_migration_completion_timeout'] and '500' in timeout()
    agent.write_config({'libvirt': {'live_migration_completion_timeout': 'long', 'live_migration_downtime': 250}})
    assert 'long' in fails(agent, CONFIG, 'nothing was changed.*live_migration_completion_timeout', 'conf', 'reload')
    assert agent.computectl('conf', 'check', '/etc/computed/computed.yaml', check=False).returncode == CONFIG
    agent.service.kill(signal.SIGHUP)
    wait_until(5, 'word on the bad file', lambda: agent.log().count('nothing was changed') >= 1)
    assert '500' in timeout() and '250' not in agent.computectl('conf', 'get', 'libvirt.live_migration_downtime').stdout
    agent.write_config({'libvirt': {'live_migration_completion_timeout': 600, 'live_migration_downtime': 250}, 'agent': {'worker_threads': 5}})
    agent.service.kill(signal.SIGHUP)
    wait_until(5, 'the new timeout', lambda: '600' in timeout())
    wait_until(5, 'word on what needs a restart', lambda: 'only a restart takes it: agent.worker_threads' in agent.log())
    guest = lab.guest()
    assert agent.migrate(guest, 'hostb')['completion_timeout_s'] == 600


def test_nobody_but_root_and_the_group_gets_a_word_out_of_the_control_socket(lab):
    agent = agents(lab, {'agent': {'control_group': 'daemon'}})
    host = lab.hosts['hosta']
    mode = os.stat(host.path(SOCKET))
    assert stat.S_IMODE(mode.st_mode) == 0o660 and mode.st_gid == 1

    def as_user(uid, *groups):
        return host.run(['setpriv', f'--reuid={uid}', f'--regid={uid}', *(['--groups', groups[0]] if groups else ['--clear-groups']),
                         program('computectl'), 'list', '--json'], check=False)
    assert json.loads(as_user(65534, 'daemon').stdout) == {'instances': []}
    refused = as_user(65534)
    assert refused.returncode in (UNAVAILABLE, NO_PERMISSION) and 'may not be used by this user' in refused.stderr and not refused.stdout, refused
    agent.restart({'agent': {'control_group': ''}})
    assert stat.S_IMODE(os.stat(host.path(SOCKET)).st_mode) == 0o600
    assert not as_user(65534, 'daemon').stdout
    os.chmod(host.path(SOCKET), 0o666)  # even where the file's mode lets them in, the credentials do not
    refused = as_user(65534)
    assert refused.returncode and not refused.stdout
    wait_until(5, 'the refusal in the log', lambda: 'uid 65534' in agent.log())
