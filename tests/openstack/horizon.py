# SPDX-License-Identifier: Apache-2.0
"""The real dashboard in the bed, and a browser that presses its buttons.

Started as a program, in ctl: horizon.py URL USER PASSWORD SERVER-ID HOST DIRECTORY: logs in, opens the administrator's list of
instances, presses "Live Migrate Instance", and waits until the row shows HOST; screenshots go to DIRECTORY.
"""
import os
import shutil
import sys

PORT = 8080
SETTINGS = '/etc/openstack-dashboard/local_settings.d/_9999_bed.py'
STATE = '/var/lib/openstack-dashboard'
NEEDS = ('/usr/share/openstack-dashboard/wsgi.py', '/usr/bin/chromium', '/usr/bin/chromedriver', '/usr/lib/python3/dist-packages/selenium')


def missing():
    return [n for n in NEEDS if not os.path.exists(n)]


def start(bed):
    """Starts the dashboard in ctl; gives its URL."""
    from configs import CONTROL
    box = bed.control
    if not os.path.exists(box.path(STATE)):
        shutil.copytree(STATE, box.path(STATE), symlinks=True)
    for d in ('/etc/openstack-dashboard', '/etc/chromium.d', '/etc/chromium', '/etc/fonts'):
        if os.path.isdir(d) and not os.path.isdir(box.path(d)):  # installed after the bed came up
            shutil.copytree(d, box.path(d), symlinks=True)
    with open(box.path(SETTINGS), 'w') as f:
        f.write(f"""ALLOWED_HOSTS = ['*']
OPENSTACK_HOST = '{CONTROL}'
OPENSTACK_KEYSTONE_URL = 'http://{CONTROL}:5000/v3'
SECRET_KEY = 'only for the bed'
SESSION_ENGINE = 'django.contrib.sessions.backends.signed_cookies'
OPENSTACK_NEUTRON_NETWORK = {{'enable_router': False, 'enable_quotas': False, 'enable_ipv6': False, 'enable_fip_topology_check': False}}
""")
    if 'horizon' not in box.services or not box.services['horizon'].alive():
        box.spawn('horizon', ['uwsgi_python311', '--http-socket', f'{CONTROL}:{PORT}', '--wsgi-file', NEEDS[0], '--master', '--lazy-apps',
                              '--enable-threads', '--processes', '1', '--threads', '4', '--buffer-size', '65535', '--die-on-term', '--need-app',
                              '--disable-logging', '--static-map', f'/static={STATE}/static'])
    bed.http_ready(PORT, 120)
    return f'http://{CONTROL}:{PORT}/'


def stop(bed):
    service = bed.control.services.pop('horizon', None)
    if service:
        service.stop()


def live_migrate(bed, server_id, host, artifacts, timeout=240):
    """Presses the button in a headless Chromium; the screenshots come to `artifacts`."""
    from configs import PASSWORD
    box, work = bed.control, '/var/lib/browser'
    url = start(bed)
    os.makedirs(box.path(work), exist_ok=True)
    try:
        return box.run(['/usr/bin/python3', os.path.abspath(__file__), url, 'admin', PASSWORD, server_id, host, work],
                       env={'HOME': work}, timeout=timeout).stdout
    finally:
        os.makedirs(artifacts, exist_ok=True)
        for name in os.listdir(box.path(work)):
            if name.endswith(('.png', '.html')):
                shutil.copy(os.path.join(box.path(work), name), artifacts)
        stop(bed)


def press(url, user, password, server_id, host, directory):
    sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lab'))
    from browser import chromium
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support import expected_conditions as is_now
    from selenium.webdriver.support.ui import Select, WebDriverWait
    browser = chromium(directory, (1600, 1000))
    wait = WebDriverWait(browser, 60)

    def shot(name):
        browser.save_screenshot(f'{directory}/{name}.png')

    def click(by, what):
        element = wait.until(is_now.element_to_be_clickable((by, what)))
        browser.execute_script('arguments[0].scrollIntoView({block: "center"})', element)
        element.click()
    try:
        browser.get(url + 'auth/login/')
        wait.until(is_now.presence_of_element_located((By.ID, 'id_username'))).send_keys(user)
        browser.find_element(By.ID, 'id_password').send_keys(password)
        shot('1-login')
        click(By.ID, 'loginBtn')
        wait.until(lambda b: 'auth/login' not in b.current_url)
        browser.get(url + 'admin/instances/')
        row = f'instances__row__{server_id}'
        wait.until(is_now.presence_of_element_located((By.ID, row)))
        shot('2-instances')
        click(By.CSS_SELECTOR, f'#{row} .dropdown-toggle')
        click(By.XPATH, f'//tr[@id="{row}"]//a[contains(normalize-space(.), "Live Migrate Instance")]')
        chosen = wait.until(is_now.presence_of_element_located((By.ID, 'id_host')))
        browser.execute_script('arguments[0].style.display = "block"', chosen)  # the theme hides the real control
        Select(chosen).select_by_value(host)
        browser.execute_script('var b = document.getElementById("id_block_migration"); b.checked = true;')
        shot('3-live-migrate')
        click(By.CSS_SELECTOR, '.modal-footer [type=submit]')
        wait.until(is_now.invisibility_of_element_located((By.CSS_SELECTOR, '.modal-footer [type=submit]')))
        shot('4-pressed')

        def arrived(b):
            b.get(url + 'admin/instances/')
            text = b.find_element(By.ID, row).text
            return host in text and 'Active' in text
        WebDriverWait(browser, 90, 2).until(arrived)
        shot('5-arrived')
        print(browser.find_element(By.ID, row).text)
    except Exception:
        shot('failed')
        with open(f'{directory}/failed.html', 'w') as f:
            f.write(browser.page_source)
        raise
    finally:
        browser.quit()


if __name__ == '__main__':
    press(*sys.argv[1:])
