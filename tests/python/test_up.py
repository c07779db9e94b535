"""`cortensor up` as a process: stopped, started again, killed, and started where it cannot work."""

import json
import shutil
import signal
import socket
import time
from pathlib import Path

import openai
import pytest
from api import Api, text_of
from processes import Daemon, cast, fail, succeed


def up(start, data, *options):
    daemon = start("up", "--data", data, "--listen", "127.0.0.1:0", "--json", *options)
    return daemon, daemon.ready()


def api_of(ready):
    return Api(ready["api_url"], ready["api_key"])


# The contracts that pay guards, judges and miners.
POOLS = ("court", "usefulness", "rewards")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The data of a network that answered one question and was stopped; what it said; the task; the session then."""
    folder = tmp_path_factory.mktemp("stopped")
    daemon = Daemon(folder, "up", "--data", folder / "data", "--listen", "127.0.0.1:0", "--simulate", "--json")
    try:
        ready = daemon.ready()
        api = api_of(ready)
        _, task = api.ask("hello")
        receipts, session = api.receipts(task), api.get("/v1/session")
        pools = {name: cast(ready["l2_rpc"], "call", ready["contracts"][name], "pool()(uint256)") for name in POOLS}
        began = time.monotonic()
        assert daemon.stop() == 0
        took = time.monotonic() - began
    finally:
        daemon.end()
    return {"data": folder / "data", "ready": ready, "task": task, "receipts": receipts, "session": session, "took": took, "pools": pools}


@pytest.fixture
def data(stopped, tmp_path):
    """A copy of that data."""
    return shutil.copytree(stopped["data"], tmp_path / "data")


def test_it_says_what_a_program_needs(stopped):
    ready = stopped["ready"]
    for name in ("api_url", "api_key", "l1_rpc", "l2_rpc", "chain_id", "contracts", "funded_account"):
        assert ready[name], name
    deployed = json.loads(Path(ready["deployment"]).read_text())
    assert ready["contracts"] == {name: deployed[name] for name in deployed if name not in ("chain_id", "block")}
    assert {"sessions", "audits", "batches", "capabilities"} <= set(ready["contracts"])
    assert set(ready["funded_account"]) == {"address", "private_key"}


def test_whoever_works_can_be_paid(stopped):
    assert all(int(pool.split()[0]) >= 100 * 10**18 for pool in stopped["pools"].values()), stopped["pools"]


def test_it_stops_soon(stopped):
    # The time is part of the promise: supervisors kill what does not stop.
    assert stopped["took"] < 15


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_the_middle_of_a_stream(start, data, which):
    daemon, ready = up(start, data, "--simulate")
    stream, _ = api_of(ready).endless(max_tokens=4000)
    next(iter(stream))
    began = time.monotonic()
    daemon.signal(which)
    assert daemon.process.wait(60) == 0
    assert time.monotonic() - began < 15
    stream.close()


def test_it_stops_while_it_starts(start, tmp_path):
    daemon = start("up", "--data", tmp_path / "data", "--listen", "127.0.0.1:0", "--simulate", "--json")
    time.sleep(0.3)
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 30


def test_it_goes_on_where_it_stopped(start, data, stopped):
    daemon, ready = up(start, data, "--simulate")
    for name in ("api_key", "session", "contracts", "router", "miners", "chain_id"):
        assert ready[name] == stopped["ready"][name], name
    api = api_of(ready)
    assert api.get("/v1/session") == stopped["session"]
    assert api.receipts(stopped["task"]) == stopped["receipts"]
    assert api.task(stopped["task"])["state"] == "finished"
    _, task = api.ask("hello again")
    assert task != stopped["task"] and api.receipts(task)
    assert api.spent() > int(stopped["session"]["spent"])
    assert daemon.stop() == 0


def test_kill_in_the_middle_of_a_stream(start, tmp_path):
    """With the real model: what was acknowledged before the kill is there after it, and all works again."""
    daemon, ready = up(start, tmp_path / "data")
    api = api_of(ready)
    _, task = api.ask()
    receipts, before = api.receipts(task), api.spent()
    stream, running = api.endless()
    for _, _chunk in zip(range(3), stream):
        pass
    daemon.kill()
    # A stream that breaks off must not look like one that ended.
    with pytest.raises(openai.APIConnectionError):
        for _chunk in stream:
            pass
    daemon, again = up(start, tmp_path / "data")
    assert again["api_key"] == ready["api_key"] and again["session"] == ready["session"]
    api = api_of(again)
    assert api.spent() >= before
    assert api.receipts(task) == receipts
    # The broken task is known as broken, or not at all; it is not said to be running still.
    status, _, body = api.request(f"/v1/tasks/{running}")
    assert status == 404 or json.loads(body)["state"] != "running", body
    answer, newer = api.ask()
    assert answer.choices[0].message.content
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(api.receipts(newer)))
    succeed("receipt", "verify", file, "--rpc", again["l2_rpc"])
    stream, _ = api.ask("Tell me a story.", stream=True, max_tokens=20)
    assert "".join(map(text_of, stream))
    assert daemon.stop() == 0


def test_a_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        error = fail("up", "--data", tmp_path / "up", "--listen", address, "--simulate", "--json")
        assert "in use" in error
        error = fail("up", "--data", tmp_path / "rpc", "--listen", "127.0.0.1:0", "--l2-listen", address, "--simulate")
        assert "in use" in error and "L2" in error
        assert "in use" in fail("chain", "--listen", address)


def test_data_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for command in (["up", "--simulate", "--listen", "127.0.0.1:0"], ["chain", "--listen", "127.0.0.1:0"]):
        error = fail(*command, "--data", file / "data")
        assert str(file) in error, error
        error = fail(*command, "--data", "/proc/cortensor")
        assert "/proc/cortensor" in error, error


def test_data_that_is_in_use(start, data):
    daemon, _ = up(start, data, "--simulate")
    error = fail("up", "--data", data, "--listen", "127.0.0.1:0", "--simulate", "--json")
    assert "l1" in error.lower() or "in use" in error or "lock" in error, error
    assert daemon.stop() == 0


CORRUPTIONS = {
    "router.redb": "books",
    "l2/chain.redb": "L2",
    "keys/router.json": "keystore",
    "deployment.json": "deployment",
}


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("how", ["garbage", "cut"])
def test_a_corrupted_file(data, name, how):
    path = data / name
    whole = path.read_bytes()
    path.write_bytes(b"\xa5" * 4096 if how == "garbage" else whole[: len(whole) // 3])
    error = fail("up", "--data", data, "--listen", "127.0.0.1:0", "--simulate", "--json")
    assert CORRUPTIONS[name].lower() in error.lower() or name in error, error
    assert path.exists(), "nothing is thrown away"


def test_a_model_that_is_not_there(tmp_path):
    error = fail("up", "--data", tmp_path / "data", "--model", tmp_path / "no.gguf", "--listen", "127.0.0.1:0")
    assert "no.gguf" in error
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    assert "broken.gguf" in fail("up", "--data", tmp_path / "data", "--model", broken, "--listen", "127.0.0.1:0")
    assert "no.gguf" in fail("model", "add", tmp_path / "no.gguf", "--data", tmp_path / "data")


def test_a_chain_with_damaged_data(start, tmp_path):
    daemon = start("chain", "--data", tmp_path / "chain", "--listen", "127.0.0.1:0", "--json")
    daemon.ready()
    assert daemon.stop() == 0
    [file] = [path for path in (tmp_path / "chain").rglob("*.redb")]
    file.write_bytes(b"\xa5" * 4096)
    assert "chain" in fail("chain", "--data", tmp_path / "chain", "--listen", "127.0.0.1:0")
