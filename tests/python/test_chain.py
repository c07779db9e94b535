"""Foundry's programs and `cortensor deploy` against `cortensor chain`, and `cortensor deploy` against anvil."""

import json
import re
import signal

import pytest
from processes import (
    CONTRACTS, OTHER, RICH, RICH_KEY, Daemon, cast, fail, foundry, free_ports, run, send, succeed, wait_for,
)

BILLION = str(10**27)


@pytest.fixture(scope="module", params=["chain", "anvil"])
def any_chain(request, chain, tmp_path_factory):
    """Our chain, and the one that everybody knows."""
    if request.param == "chain":
        yield chain["rpc"]
        return
    daemon = Daemon(tmp_path_factory.mktemp("anvil"), "--port", "0", "--chain-id", "31337", program=foundry("anvil"))
    try:
        pattern = re.compile(r"Listening on (\S+)")

        def listening():
            found = pattern.search(daemon.stdout_path.read_text(errors="replace"))
            return found and f"http://{found[1]}"

        yield wait_for(listening, 60, "anvil")
    finally:
        daemon.end()


@pytest.fixture(scope="module", params=["one", "four"])
def our_chain(request, chain, tmp_path_factory):
    """Our chain of one validator, and one that four decide together."""
    if request.param == "one":
        yield chain
        return
    folder = tmp_path_factory.mktemp("four")
    places = ("--rpc-port", free_ports(4), "--peer-port", free_ports(4))
    succeed("chain", "init", folder / "net", "--validators", "4", "--fund-test-accounts", *places)
    daemons = [Daemon(folder, "chain", "run", "--home", folder / "net" / f"node-{i}", "--json") for i in range(4)]
    try:
        # Not the first one: what any of them is told reaches all.
        facts = [daemon.ready() for daemon in daemons][2]
        wait_for(lambda: cast(facts["rpc"], "rpc", "net_peerCount") == '"0x3"', 60, "the validators to meet")
        yield facts
        for daemon in daemons:
            daemon.signal(signal.SIGTERM)
        assert [daemon.stop() for daemon in daemons] == [0] * 4
    finally:
        for daemon in daemons:
            daemon.end()


def check_wiring(rpc, contracts, owner):
    """Asks the contracts themselves whether they belong together."""

    def call(who, signature, *arguments):
        return cast(rpc, "call", contracts[who], signature, *arguments)

    def same(said, expected):
        assert said.lower() == expected.lower()

    same(call("sessions", "token()(address)"), contracts["token"])
    same(call("sessions", "nodeRegistry()(address)"), contracts["registry"])
    same(call("sessions", "modelRegistry()(address)"), contracts["models"])
    same(call("registry", "token()(address)"), contracts["token"])
    same(call("registry", "isSlasher(address)(bool)", contracts["sessions"]), "true")
    same(call("sessions", "owner()(address)"), owner)
    assert call("token", "cap()(uint256)").split()[0] == BILLION
    assert int(call("token", "balanceOf(address)(uint256)", owner).split()[0]) > 0


def test_deploy(any_chain, tmp_path):
    out = tmp_path / "deployment.json"
    said = json.loads(succeed("deploy", "--rpc", any_chain, "--out", out, "--json"))
    assert said == json.loads(out.read_text())
    check_wiring(any_chain, said, RICH)
    # A second time it finds what is there, and deploys nothing.
    nonce = cast(any_chain, "nonce", RICH)
    assert json.loads(succeed("deploy", "--rpc", any_chain, "--out", out, "--json")) == said
    assert cast(any_chain, "nonce", RICH) == nonce


def test_deploy_says_what_is_wrong(chain, tmp_path):
    out = tmp_path / "deployment.json"
    assert "127.0.0.1:1" in fail("deploy", "--rpc", "http://127.0.0.1:1", "--out", out)
    fail("deploy", "--rpc", "no url", "--out", out)
    out.write_text("{}")
    assert str(out) in fail("deploy", "--rpc", chain["rpc"], "--out", out)
    missing = fail("deploy", "--rpc", chain["rpc"], "--out", tmp_path / "new.json", "--keystore", tmp_path / "nothing.json", env={"CORTENSOR_PASSWORD": "x" * 12})
    assert "nothing.json" in missing


def test_a_foundry_script(our_chain, tmp_path):
    """Deploys with the contracts' own script."""
    output = succeed(
        "script", "script/Deploy.s.sol", "--rpc-url", our_chain["rpc"], "--broadcast", "--private-key", RICH_KEY, "--json",
        program=foundry("forge"), cwd=CONTRACTS, env={"FOUNDRY_BROADCAST": str(tmp_path / "broadcast")}, seconds=280,
    )
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    returns = next(line["returns"] for line in lines if "returns" in line)
    # A struct of addresses, of which the first four are looked at here.
    addresses = re.findall(r"0x[0-9a-fA-F]{40}", returns["all"]["value"])
    check_wiring(our_chain["rpc"], dict(zip(("token", "registry", "models", "sessions"), addresses)), RICH)


def test_cast(our_chain, tmp_path):
    """What crates/chain/tests/js does not ask with cast: blocks, receipts and a trace of a contract of ours."""
    rpc = our_chain["rpc"]
    token = json.loads(succeed("deploy", "--rpc", rpc, "--out", tmp_path / "deployment.json", "--json"))["token"]
    assert cast(rpc, "chain-id") == str(our_chain["chain_id"])
    sent = send(rpc, token, "transfer(address,uint256)", OTHER, "7")
    block = json.loads(cast(rpc, "block", sent["blockHash"], "--json"))
    assert block["transactions"] == [sent["transactionHash"]]
    assert json.loads(cast(rpc, "receipt", sent["transactionHash"], "--json"))["logs"] == sent["logs"]
    trace = json.loads(cast(rpc, "rpc", "debug_traceTransaction", sent["transactionHash"], '{"tracer":"callTracer"}'))
    assert trace["type"] == "CALL" and trace["to"] == token.lower() and trace["from"] == RICH.lower()
    assert int(trace["gasUsed"], 16) == int(sent["gasUsed"], 16) and int(trace["output"], 16) == 1
    logs = json.loads(cast(rpc, "logs", "--json", "--from-block", "0", "--address", token, "Transfer(address,address,uint256)"))
    assert [log for log in logs if log["transactionHash"] == sent["transactionHash"]][0]["data"].endswith("7")
    revert = fail_call(rpc, token, "transfer(address,uint256)", RICH, BILLION)
    assert "0xe450d38c" in revert or "ERC20InsufficientBalance" in revert, revert


def fail_call(rpc, *arguments):
    done = run("call", *arguments, "--from", OTHER, program=foundry("cast"), env={"ETH_RPC_URL": rpc})
    assert done.returncode != 0
    return done.stderr
