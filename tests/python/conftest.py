"""What the tests share: one network for those that only use it, and processes of their own for those that break it."""

import pytest
from api import Api
from processes import Daemon


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """`cortensor up` with the bundled model: what it printed when it was ready."""
    folder = tmp_path_factory.mktemp("network")
    daemon = Daemon(folder, "up", "--data", folder / "data", "--listen", "127.0.0.1:0", "--json")
    try:
        yield daemon.ready()
        assert daemon.stop() == 0
    finally:
        daemon.end()


@pytest.fixture(scope="session")
def api(network):
    return Api(network["api_url"], network["api_key"])


@pytest.fixture(scope="session")
def client(api):
    return api.openai


@pytest.fixture(scope="session")
def model(api):
    return api.model


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    """`cortensor chain`, in memory: what it printed when it was ready."""
    folder = tmp_path_factory.mktemp("chain")
    daemon = Daemon(folder, "chain", "--listen", "127.0.0.1:0", "--json")
    try:
        yield daemon.ready()
        assert daemon.stop() == 0
    finally:
        daemon.end()


@pytest.fixture
def start(tmp_path):
    """Starts processes that end with the test."""
    daemons = []

    def begin(*arguments, **options):
        daemon = Daemon(tmp_path, *arguments, **options)
        daemons.append(daemon)
        return daemon

    yield begin
    for daemon in daemons:
        daemon.end()
