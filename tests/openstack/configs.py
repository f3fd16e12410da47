# SPDX-License-Identifier: Apache-2.0
"""The configuration files of the bed's services, as {file: {section: {option: value}}}."""
PASSWORD = 'bedpass'
CONTROL = '198.51.100.10'
BROKER = f'rabbit://lab:labpass@{CONTROL}:5672/'
REGION = 'RegionOne'
DATABASES = ('keystone', 'placement', 'glance', 'neutron', 'nova_api', 'nova', 'nova_cell0')
AGENT = {'linuxbridge': 'linuxbridge', 'ovs': 'openvswitch'}


def ini(sections):
    return ''.join(f'[{name}]\n' + ''.join(f'{k} = {v}\n' for k, v in options.items()) for name, options in sections.items())


def database(name):
    return f'mysql+pymysql://root:{PASSWORD}@{CONTROL}/{name}?charset=utf8'


def user(name, project='service'):
    """How a service logs in to Keystone."""
    return {'auth_url': f'http://{CONTROL}:5000', 'auth_type': 'password', 'project_domain_name': 'Default',
            'user_domain_name': 'Default', 'project_name': project, 'username': name, 'password': PASSWORD}


def client(name):
    return {**user(name), 'region_name': REGION}


def checks_tokens(name):
    return {**user(name), 'www_authenticate_uri': f'http://{CONTROL}:5000', 'service_token_roles_required': 'true',
            'service_token_roles': 'admin'}


LOGGING = {'use_stderr': 'true', 'use_journal': 'false'}


def keystone():
    keys = '/var/lib/keystone'
    return {'/etc/keystone/keystone.conf': {
        'DEFAULT': dict(LOGGING), 'database': {'connection': database('keystone')}, 'token': {'provider': 'fernet'},
        'fernet_tokens': {'key_repository': f'{keys}/fernet-keys'}, 'credential': {'key_repository': f'{keys}/credential-keys'}}}


def placement():
    return {'/etc/placement/placement.conf': {
        'DEFAULT': dict(LOGGING), 'api': {'auth_strategy': 'keystone'}, 'placement_database': {'connection': database('placement')},
        'keystone_authtoken': checks_tokens('placement')}}


def glance():
    return {'/etc/glance/glance-api.conf': {
        'DEFAULT': {**LOGGING, 'bind_host': CONTROL, 'workers': 1, 'enabled_backends': ''},
        'database': {'connection': database('glance')},
        'glance_store': {'stores': 'file', 'default_store': 'file', 'filesystem_store_datadir': '/var/lib/glance/images'},
        'paste_deploy': {'flavor': 'keystone'}, 'oslo_concurrency': {'lock_path': '/var/lib/glance/lock'},
        'keystone_authtoken': checks_tokens('glance')}}


def nova_everywhere(address):
    return {
        'DEFAULT': {**LOGGING, 'my_ip': address, 'transport_url': BROKER, 'state_path': '/var/lib/nova', 'shutdown_timeout': 5},
        'oslo_concurrency': {'lock_path': '/var/lib/nova/lock'}, 'glance': {'api_servers': f'http://{CONTROL}:9292'},
        'neutron': client('neutron'), 'placement': client('placement'),
        'vnc': {'enabled': 'false'}, 'spice': {'enabled': 'false'}, 'serial_console': {'enabled': 'false'}}


def nova_control():
    c = nova_everywhere(CONTROL)
    c['DEFAULT'].update(enabled_apis='osapi_compute', osapi_compute_listen=CONTROL, osapi_compute_workers=2)
    c.update({'api': {'auth_strategy': 'keystone'}, 'api_database': {'connection': database('nova_api')},
              'database': {'connection': database('nova')}, 'conductor': {'workers': 1}, 'scheduler': {'workers': 1},
              'wsgi': {'api_paste_config': '/etc/nova/api-paste.ini'}, 'keystone_authtoken': checks_tokens('nova')})
    return {'/etc/nova/nova.conf': c}


def nova_host(address):
    """One file for nova-compute and for computed."""
    c = nova_everywhere(address)
    helper = 'privsep-helper --config-file /etc/nova/nova.conf'
    c['DEFAULT'].update(compute_driver='libvirt.LibvirtDriver', reserved_host_memory_mb=512)
    c['libvirt'] = {'virt_type': 'qemu', 'cpu_mode': 'none', 'images_type': 'default', 'live_migration_scheme': 'tcp',
                    'live_migration_inbound_addr': address, 'wait_soft_reboot_seconds': 5}
    for section in ('nova_sys_admin', 'vif_plug_linux_bridge_privileged', 'vif_plug_ovs_privileged', 'privsep_osbrick'):
        c[section] = {'helper_command': helper}
    return {'/etc/nova/nova.conf': c}


def neutron_everywhere():
    return {'/etc/neutron/neutron.conf': {
        'DEFAULT': {**LOGGING, 'transport_url': BROKER, 'core_plugin': 'ml2', 'service_plugins': '', 'auth_strategy': 'keystone',
                    'bind_host': CONTROL, 'api_workers': 1, 'rpc_workers': 1, 'rpc_state_report_workers': 0, 'metadata_agent_workers': 0,
                    'dhcp_agent_notification': 'false', 'notify_nova_on_port_status_changes': 'true',
                    'notify_nova_on_port_data_changes': 'true', 'state_path': '/var/lib/neutron',
                    'api_paste_config': '/etc/neutron/api-paste.ini'},
        'experimental': {'linuxbridge': 'true'}, 'database': {'connection': database('neutron')}, 'nova': client('nova'),
        'oslo_concurrency': {'lock_path': '/var/lib/neutron/lock'}, 'agent': {'root_helper': 'env'},
        'keystone_authtoken': checks_tokens('neutron')}}


def neutron_control(net):
    return {**neutron_everywhere(), '/etc/neutron/ml2.ini': {
        'ml2': {'type_drivers': 'flat,local', 'tenant_network_types': 'local', 'mechanism_drivers': AGENT[net],
                'extension_drivers': 'port_security'},
        'ml2_type_flat': {'flat_networks': '*'},
        'securitygroup': {'enable_security_group': 'false', 'firewall_driver': 'noop'}}}


def neutron_host(net):
    agent = {'securitygroup': {'enable_security_group': 'false', 'firewall_driver': 'noop'},
             'agent': {'root_helper': 'env', 'use_helper_for_ns_read': 'false'},
             'privsep': {'helper_command': 'privsep-helper --config-file /etc/neutron/neutron.conf --config-file /etc/neutron/agent.ini'}}
    if net == 'ovs':  # the userspace datapath: no kernel module is needed
        agent['ovs'] = {'datapath_type': 'netdev', 'integration_bridge': 'br-int', 'bridge_mappings': 'physnet0:br-data0,physnet1:br-data1'}
    else:
        agent['linux_bridge'] = {'physical_interface_mappings': 'physnet0:eth1,physnet1:eth2'}
        agent['vxlan'] = {'enable_vxlan': 'false'}
    return {**neutron_everywhere(), '/etc/neutron/agent.ini': agent}
