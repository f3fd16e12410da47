# SPDX-License-Identifier: Apache-2.0
"""What is told of a migration: its timeline on a terminal, and its report in a real browser, during it, after it and after the
death of the agent. The screenshots stay in build/artifacts/report."""
import json
import os
import shutil

import pytest

import browser
from lab import BUILD
from namespaces import wait_until
from scenarios import SLOW, connected, newest, pair, phase, slow_guest, start

ARTIFACTS = os.path.join(BUILD, 'artifacts', 'report')
PLOTS = ('Left to move', 'Throughput and dirty rate', 'Throttle of the instance', 'Expected pause and its limit')


def stamps(answer, host=None):
    return [s for s in answer['timeline']['stamps'] if host in (None, s['host'])]


def report(agent, name, target):
    """Writes the report as a file of ARTIFACTS; its path."""
    os.makedirs(ARTIFACTS, exist_ok=True)
    path = os.path.join(ARTIFACTS, f'{name}.html')
    if os.path.exists(path):
        os.unlink(path)
    agent.computectl('report', target, '--output', path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    return path


def story(agent, target):
    return agent.computectl('report', target, parse=True)


def moved(lab):
    """A guest that took some seconds to move, with an operator who changed his mind; (agents, guest, its record)."""
    a, b = pair(lab)
    guest = slow_guest(lab)
    start(a, guest, 'hostb', *SLOW)
    wait_until(30, 'three samples', lambda: len(story(a, guest.uuid)['samples']) >= 3)
    a.computectl('set', guest.uuid, 'bandwidth=12')
    return a, b, guest


def check_timeline(answer, source, dest):
    """Each host's times only grow, and the steps come in the only order that there is."""
    for host in (source, dest):
        times = [s['at_us'] for s in stamps(answer, host)]
        assert len(times) >= 4 and times == sorted(times), stamps(answer, host)
    laid = [s['since_start_ms'] for s in stamps(answer)]
    assert laid == sorted(laid) and laid[0] == 0.0

    def when(name, host):
        found = [s['since_pause_ms'] for s in stamps(answer, host) if s['name'] == name]
        assert found, f'{name} of {host} is missing: {answer["timeline"]}'
        return found[-1]
    order = [(n, source) for n in ('accepted', 'place', 'prepare_asked', 'prepared', 'called', 'first_byte', 'paused', 'job_completed',
                                   'returned', 'confirmed', 'cleaned', 'ended')]
    times = [when(*step) for step in order]
    assert times == sorted(times), list(zip(order, times))
    assert when('paused', source) == 0.0
    assert 0 <= when('signal_received', dest) < when('resumed', dest) < when('confirmed', source)
    return when('resumed', dest)


def test_a_migration_is_told_step_by_step_on_both_hosts_and_survives_the_death_of_its_agent(lab):
    a, b, guest = moved(lab)
    record = a.wait_end(guest)
    assert record['status'] == 'completed', record
    told = a.computectl('show', guest.uuid, '--timeline', parse=True)['migration']
    blackout = check_timeline(told, 'hosta', 'hostb')
    assert told['timeline']['aligned_by'] == 'signal'
    assert abs(blackout - record['result']['downtime_ms']) < 100, (blackout, record['result'])
    text = a.computectl('show', guest.uuid, '--timeline').stdout
    print(text)
    assert 'PAUSE MS' in text and 'guest paused' in text and 'guest runs' in text and 'signal of the pause' in text
    # the destination tells what it saw itself
    there = b.computectl('show', guest.uuid, '--timeline', parse=True)['migration']
    assert there['role'] == 'destination' and {'signal_received', 'resumed'} <= {s['name'] for s in stamps(there, 'hostb')}
    before = story(a, record['id'])
    assert any('bandwidth' in n['text'] for n in before['notes']) and len(before['samples']) >= 3
    a.kill()
    wait_until(10, 'end of the agent', lambda: not a.service.alive())
    a.start()
    connected(a)
    after = story(a, record['id'])
    assert after == before
    assert [m['id'] for m in a.computectl('migrations', guest.uuid, parse=True)['migrations']] == [record['id']]


def test_an_agent_killed_in_the_middle_goes_on_with_the_same_story(lab):
    a, b, guest = moved(lab)
    before = story(a, guest.uuid)
    a.kill()
    wait_until(10, 'end of the agent', lambda: not a.service.alive())
    a.start()
    connected(a)
    record = a.wait_end(guest)
    assert record['status'] == 'completed', record
    after = story(a, record['id'])
    kept = [s['since_start_ms'] for s in after['samples']]
    assert kept == sorted(kept) and kept[:len(before['samples'])] == [s['since_start_ms'] for s in before['samples']]
    assert after['notes'][:len(before['notes'])] == before['notes'] and after['actions'][0] == before['notes'][0]['text']
    names = {s['name'] for s in stamps(after, 'hosta')}
    assert {'accepted', 'called', 'first_byte', 'confirmed', 'ended'} <= names, names


def rendered(path, name, dark=False):
    """Opens the page and takes its picture; what a reader sees of it."""
    words = ('--blink-settings=preferredColorScheme=0',) if dark else ()
    profile = os.path.join(ARTIFACTS, 'browser')
    b = browser.chromium(profile, (1240, 1000), *words)
    try:
        b.get('about:blank')  # away from the browser's own first page
        b.get_log('performance')
        b.get(f'file://{path}')
        height = b.execute_script('return document.documentElement.scrollHeight')
        b.set_window_size(1240, height + 120)
        b.save_screenshot(os.path.join(ARTIFACTS, f'{name}.png'))
        seen = b.execute_script('''
            const box = e => { const r = e.getBoundingClientRect(); return [r.width, r.height]; };
            const all = q => [...document.querySelectorAll(q)];
            return {
                title: document.title, status: document.getElementById('status').textContent,
                verdict: document.querySelector('.verdict').textContent,
                plots: all('figure.plot').map(f => ({title: f.querySelector('b').textContent, size: box(f.querySelector('svg')),
                    curves: [...f.querySelectorAll('path.curve')].map(c => c.getTotalLength()),
                    marks: f.querySelectorAll('circle.ball').length})),
                rows: all('#timeline tbody tr').map(r => [...r.cells].map(c => c.textContent)),
                decisions: all('.decisions li').map(l => l.textContent),
                switchover: all('#switchover .stamp').length,
                band: all('#switchover .band').map(box),
                wide: document.documentElement.scrollWidth <= window.innerWidth,
                colour: getComputedStyle(document.body.parentElement).backgroundColor,
            };''')
        seen['console'] = [e['message'] for e in b.get_log('browser')]
        events = [json.loads(e['message'])['message'] for e in b.get_log('performance')]
        seen['fetched'] = [e['params']['request']['url'] for e in events if e['method'] == 'Network.requestWillBeSent']
        return seen
    finally:
        b.quit()
        shutil.rmtree(profile, ignore_errors=True)


def check_page(seen, path, answer):
    assert seen['console'] == [] and seen['fetched'] == [f'file://{path}'] and seen['wide'], seen
    assert tuple(p['title'] for p in seen['plots']) == PLOTS
    for plot in seen['plots']:
        assert plot['size'][0] > 600 and plot['size'][1] > 100 and plot['curves'], plot
    assert max(seen['plots'][0]['curves']) > 100, seen['plots'][0]
    assert len(seen['rows']) == len(stamps(answer))
    assert len(seen['decisions']) == len(answer['notes'])
    assert seen['plots'][0]['marks'] >= 1


def test_the_report_is_read_in_a_browser(lab):
    if browser.missing():
        pytest.skip('needs chromium, chromium-driver, python3-selenium: ' + ', '.join(browser.missing()))
    a, b, guest = moved(lab)
    phase(a, guest, 'running')
    path = report(a, 'running', guest.uuid)
    seen = rendered(path, 'running')
    assert seen['status'] == 'running' and 'under way' in seen['verdict'] and seen['console'] == []
    assert [p['title'] for p in seen['plots']] == list(PLOTS)
    record = a.wait_end(guest)
    assert record['status'] == 'completed', record
    path = report(a, 'completed', record['id'])
    seen, answer = rendered(path, 'completed'), story(a, record['id'])
    check_page(seen, path, answer)
    assert seen['status'] == 'completed' and 'moved to hostb' in seen['verdict'] and 'stood still for' in seen['verdict']
    assert seen['switchover'] >= 5 and seen['band'][0][0] > 50
    assert any('guest runs' in row for row in seen['rows'])
    assert any('bandwidth' in text for text in seen['decisions'])
    dark = rendered(path, 'completed-dark', dark=True)
    assert dark['colour'] != seen['colour'] and dark['plots'] == seen['plots']
    # a second one does not overwrite the first
    refused = a.computectl('report', record['id'], '--output', '/dev/null', check=False)
    assert refused.returncode != 0 and '/dev/null' in refused.stderr


def test_a_migration_that_failed_early_has_a_report_too(lab):
    a, _ = pair(lab)
    guest = lab.guest('early')
    r = a.computectl('migrate', guest.uuid, '--to', 'hostc', check=False, timeout=60)
    assert r.returncode != 0
    record = newest(a, guest)
    page = a.computectl('report', record['id']).stdout
    assert '; the instance stays on hosta.' in page, (record, page)
    assert 'No samples are on record' in page and 'No pause for a switch-over is on record' in page
