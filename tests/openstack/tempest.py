#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Tempest in the bed.

    tempest.py [--name NAME] [--table FILE] [REGEX]   run the tests that match (default: live migration's), say how each ended;
                                                      --table writes that as a Markdown table
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import configs  # noqa: E402
from bed import attached  # noqa: E402
from configs import CONTROL, PASSWORD, REGION  # noqa: E402
from namespaces import LabError  # noqa: E402

LIVE_MIGRATION = r'tempest\.api\.compute\.admin\.test_live_migration'
WORK = '/var/lib/tempest'


def config(bed):
    image = lambda name: bed.cloud.by_name('image', 'images', name)  # noqa: E731
    flavor = lambda name: bed.cloud.by_name('compute', 'flavors', name)  # noqa: E731
    return {
        'DEFAULT': {'log_file': f'{WORK}/tempest.log', 'debug': 'true'}, 'oslo_concurrency': {'lock_path': f'{WORK}/lock'},
        'auth': {'use_dynamic_credentials': 'true', 'create_isolated_networks': 'false', 'admin_username': 'admin', 'admin_password': PASSWORD,
                 'admin_project_name': 'admin', 'admin_domain_name': 'Default'},
        'identity': {'auth_version': 'v3', 'uri_v3': f'http://{CONTROL}:5000/v3', 'region': REGION},
        'identity-feature-enabled': {'api_v2': 'false', 'api_v3': 'true'},
        'compute': {'image_ref': image('guest'), 'image_ref_alt': image('guest2'), 'flavor_ref': flavor('tiny'), 'flavor_ref_alt': flavor('tiny2'),
                    'min_compute_nodes': 2, 'fixed_network_name': 'data0', 'min_microversion': '2.1', 'max_microversion': '2.93',
                    'build_timeout': 120, 'build_interval': 1},
        'compute-feature-enabled': {
            'live_migration': 'true', 'block_migration_for_live_migration': 'true', 'live_migrate_back_and_forth': 'true',
            'block_migrate_cinder_iscsi': 'false', 'vnc_console': 'false', 'serial_console': 'false', 'can_migrate_between_any_hosts': 'true',
            'resize': 'false', 'cold_migration': 'false', 'rescue': 'false', 'shelve': 'false', 'swap_volume': 'false', 'personality': 'false',
            'config_drive': 'true', 'attach_encrypted_volume': 'false', 'interface_attach': 'true', 'hostname_fqdn_sanitization': 'true'},
        'network': {'shared_physical_network': 'true'},
        # without trunk: Neutron of the bed has no such plugin
        'network-feature-enabled': {'api_extensions': 'binding,binding-extended,port-security,provider'},
        'validation': {'run_validation': 'false'}, 'service_available': {'cinder': 'false', 'swift': 'false', 'glance': 'true', 'nova': 'true',
                                                                         'neutron': 'true'},
        'image': {'http_image': f'http://{CONTROL}/'}}


def run(bed, regex=LIVE_MIGRATION, timeout=3000):
    """{test: (result, reason)} with passed, failed or skipped, in the order of the run."""
    box = bed.control
    os.makedirs(box.path(WORK), exist_ok=True)
    for name, text in (('tempest.conf', configs.ini(config(bed))),
                       ('.stestr.conf', '[DEFAULT]\ntest_path=/usr/lib/python3/dist-packages/tempest/test_discover\n'
                                        'top_dir=/usr/lib/python3/dist-packages\n')):
        with open(box.path(f'{WORK}/{name}'), 'w') as f:
            f.write(text)
    env = {'TEMPEST_CONFIG_DIR': WORK, 'TEMPEST_CONFIG': 'tempest.conf', 'HOME': WORK}
    script = f"cd {WORK} && rm -rf .stestr && /usr/bin/python3 -m stestr run --serial '{regex}'"
    r = box.run(['sh', '-c', script], env=env, timeout=timeout, check=False)
    found = results(r.stdout)
    if not found:
        raise LabError(f'Tempest gave no result: {(r.stdout + r.stderr)[-1500:]}')
    return found


def results(text):
    """stestr's lines "{0} test [1.0s] ... ok", each failure followed by what was captured."""
    found, last = {}, None
    for line in text.splitlines():
        m = re.match(r'\{\d+\} (.+?)(?:\[[^ ]*\])?(?: \[[\d.]+s\])? \.\.\. (ok|FAILED|SKIPPED)(?:: (.*))?$', line)
        if m:
            last = m[1].strip() if m[2] == 'FAILED' else None
            found[m[1].strip()] = ({'ok': 'passed', 'FAILED': 'failed', 'SKIPPED': 'skipped'}[m[2]], m[3] or '')
        elif line.startswith('======'):
            last = None
        elif last and line.startswith('    '):
            found[last] = ('failed', found[last][1] + line[4:] + '\n')
    return found


def reason(result, text):
    """One line of it: of a failure the exception."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(' ')]
    return '' if result == 'passed' or not lines else lines[-1][:200]


def main(argv):
    name, table = 'default', None
    while argv and argv[0] in ('--name', '--table'):
        if argv[0] == '--name':
            name = argv[1]
        else:
            table = argv[1]
        argv = argv[2:]
    found = run(attached(name), *argv[:1])
    rows = [(re.sub(r'^tempest\.api\.compute\.', '', t), r, reason(r, text)) for t, (r, text) in found.items()]
    for row in rows:
        print('{:8} {}  {}'.format(row[1], row[0], row[2]))
    if table:
        with open(table, 'w') as f:
            f.write('| test | result | why |\n|---|---|---|\n' + ''.join('| {} | {} | {} |\n'.format(*(c.replace('|', '\\|') for c in row)) for row in rows))
    n = [sum(r == w for r, _ in found.values()) for w in ('passed', 'failed', 'skipped')]
    print('{} passed, {} failed, {} skipped'.format(*n))
    return 1 if n[1] or not found else 0


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv[1:]))
    except LabError as e:
        sys.exit(f'tempest: {e}')
