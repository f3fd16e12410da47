# SPDX-License-Identifier: Apache-2.0
"""The other side: the real oslo.messaging, used as nova uses it (threads, exchange "nova", nova.exception allowed)."""
import logging
import os
import sys
import threading

NOVA_EXCEPTION = '''
"""As much of nova.exception as tells whether a failure is rebuilt: how the classes take their arguments."""


class NovaException(Exception):
    msg_fmt = 'An unknown exception occurred.'
    code = 500

    def __init__(self, message=None, **kwargs):
        self.kwargs = kwargs
        if 'code' not in self.kwargs:
            self.kwargs['code'] = self.code
        if not message:
            message = self.msg_fmt % kwargs
        self.message = message
        super().__init__(message)


def _make(name, base, fmt, code=None):
    cls = type(name, (base,), {'msg_fmt': fmt, '__module__': __name__, **({'code': code} if code else {})})
    globals()[name] = cls
    return cls


Invalid = _make('Invalid', NovaException, 'Bad Request - Invalid Parameters', 400)
NotFound = _make('NotFound', NovaException, 'Resource could not be found.', 404)
_make('Forbidden', NovaException, 'Forbidden', 403)
_make('MigrationError', NovaException, 'Migration error: %(reason)s')
_make('MigrationPreCheckError', globals()['MigrationError'], 'Migration pre-check error: %(reason)s')
_make('InstanceNotFound', NotFound, 'Instance %(instance_id)s could not be found.')
_make('MigrationNotFound', NotFound, 'Migration %(migration_id)s could not be found.')
_make('InstanceInvalidState', Invalid, 'Instance %(instance_uuid)s in %(attr)s %(state)s. Cannot %(method)s.')
_make('InvalidMigrationState', Invalid, 'Migration %(migration_id)s state of %(instance_uuid)s is %(state)s.')
_make('DestinationDiskExists', Invalid, 'The supplied disk path (%(path)s) already exists.')
_make('InvalidDiskInfo', Invalid, 'Disk info file is invalid: %(reason)s')
_make('HypervisorUnavailable', NovaException, 'Connection to the hypervisor is broken on host')
_make('InternalError', NovaException, '%(err)s')
_make('VirtualInterfacePlugException', NovaException, 'Virtual interface plugin failed')
_make('PortBindingFailed', Invalid, 'Binding failed for port %(port_id)s.')
'''


def install_nova_exception(directory):
    package = os.path.join(directory, 'nova')
    os.makedirs(package, exist_ok=True)
    with open(os.path.join(package, '__init__.py'), 'w'):
        pass
    with open(os.path.join(package, 'exception.py'), 'w') as f:
        f.write(NOVA_EXCEPTION)
    sys.path.insert(0, directory)
    for name in [n for n in sys.modules if n == 'nova' or n.startswith('nova.')]:
        del sys.modules[name]
    import nova.exception
    return nova.exception



def make_transport(url):
    import oslo_messaging
    from oslo_config import cfg
    logging.getLogger('oslo.messaging').setLevel(logging.CRITICAL)
    logging.getLogger('oslo_messaging').setLevel(logging.CRITICAL)
    conf = cfg.CONF  # parts of the library look nowhere else
    conf([], project='nova', default_config_files=[], default_config_dirs=[])
    oslo_messaging.set_transport_defaults('nova')
    transport = oslo_messaging.get_rpc_transport(conf, url=url, allowed_remote_exmods=['nova.exception'])
    conf.set_override('rabbit_retry_interval', 1, group='oslo_messaging_rabbit')
    conf.set_override('kombu_reconnect_delay', 0.2, group='oslo_messaging_rabbit')
    return transport


def client(transport, topic='compute', version='6.0', namespace=None, **target):
    import oslo_messaging
    return oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(topic=topic, version=version, namespace=namespace, **target))


class Server:
    """An oslo.messaging server with the given endpoints, in threads of this process."""

    def __init__(self, transport, endpoints, topic='compute', host='os-python'):
        import oslo_messaging
        self.server = oslo_messaging.get_rpc_server(
            transport, oslo_messaging.Target(topic=topic, server=host), endpoints, executor='threading',
            access_policy=oslo_messaging.DefaultRPCAccessPolicy)
        self.server.start()

    def close(self):
        self.server.stop()
        self.server.wait()


def in_thread(function, *args, **kwargs):
    """Runs it beside the test; .result() joins and gives or raises."""
    class Running(threading.Thread):
        def run(self):
            try:
                self.value, self.error = function(*args, **kwargs), None
            except Exception as e:  # noqa: B902
                self.value, self.error = None, e

        def result(self, seconds=60):
            self.join(seconds)
            assert not self.is_alive(), 'still running'
            if self.error:
                raise self.error
            return self.value

    running = Running(daemon=True)
    running.start()
    return running
