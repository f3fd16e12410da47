# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the wire tests: a private RabbitMQ, the real oslo.messaging, and our RPC room as a process."""
import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import broker as broker_module  # noqa: E402
import peer  # noqa: E402
import tool as tool_module  # noqa: E402


@pytest.fixture(scope='session')
def broker():
    broker = broker_module.Broker()
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@pytest.fixture(scope='session')
def nova_exception(tmp_path_factory):
    return peer.install_nova_exception(str(tmp_path_factory.mktemp('nova')))


@pytest.fixture
def transport(broker, nova_exception):
    transport = peer.make_transport(broker.url)
    yield transport
    transport.cleanup()


@pytest.fixture
def make_tool(broker, tmp_path):
    tools = []

    def make(host=None, **options):
        tools.append(tool_module.Tool(str(tmp_path), options.pop('url', broker.url), host, **options))
        return tools[-1]
    yield make
    for tool in tools:
        tool.close()


@pytest.fixture
def server(make_tool):
    """Our server as host os-c."""
    return make_tool('os-c')
