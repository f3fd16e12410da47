# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium for tests of pages: the dashboard (tests/openstack/horizon.py) and our reports."""
import os

NEEDS = ('/usr/bin/chromium', '/usr/bin/chromedriver', '/usr/lib/python3/dist-packages/selenium')


def missing():
    return [n for n in NEEDS if not os.path.exists(n)]


def chromium(directory, size, *words):
    """Starts one whose profile is below `directory`; the caller quits it. words: further options."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    options = Options()
    for word in ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', f'--window-size={size[0]},{size[1]}',
                 f'--user-data-dir={directory}/profile', *words):
        options.add_argument(word)
    options.binary_location = NEEDS[0]
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    return webdriver.Chrome(options=options, service=Service(NEEDS[1]))
