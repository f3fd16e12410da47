# SPDX-License-Identifier: Apache-2.0
"""The real dashboard."""
import os

import pytest

import horizon
from lab import BUILD
from servers import Server
from test_migrations import settled


def test_live_migrate_instance_is_pressed_in_the_dashboard(fleet):
    if horizon.missing():
        pytest.skip('needs openstack-dashboard, chromium, chromium-driver, python3-selenium: ' + ', '.join(horizon.missing()))
    server = Server(fleet.bed, 'pressed', 'hosta')
    row = horizon.live_migrate(fleet.bed, server.uuid, 'hostb', os.path.join(BUILD, 'artifacts', 'horizon'))
    assert 'hostb' in row and 'pressed' in row
    server.wait('ACTIVE')
    settled(server, 'hostb')
    assert [m['status'] for m in fleet.cloud.migrations(server.uuid)] == ['completed'] and server.verify()['ok']
