"""`cortensor demo` tells a story whose sums are right."""

import contextlib
import json

import pytest
from processes import Daemon, cast, fail, foundry, free_port, succeed, wait_for


@pytest.fixture(params=["chains of its own", "anvil in the place of L2"])
def chains(request, tmp_path):
    """What names the chains on the command line."""
    if request.param == "chains of its own":
        yield []
        return
    url = f"http://127.0.0.1:{(port := free_port())}"
    daemon = Daemon(tmp_path, "--port", port, "--silent", program=foundry("anvil"))
    try:
        yield ["--l2-rpc", url]
        # It is there that the contracts stand and that everything was paid.
        assert int(cast(url, "block-number")) > 10
    finally:
        daemon.end()


def test_the_demo_adds_up(chains, tmp_path):
    wait_for(lambda: not chains or reachable(chains[1]), 60, "anvil")
    report = json.loads(succeed("demo", *chains, "--json", "--data", tmp_path / "data", seconds=280))
    assert report["ok"] is True
    assert int(report["deposit_wei"]) == int(report["paid_wei"]) + int(report["refunded_wei"])
    assert 0 < int(report["killed_miner_owed_wei"]) < int(report["paid_wei"])
    assert len(report["tasks"]) == len(set(report["tasks"])) == 3
    # One receipt for each answer; the miner that was killed hands one over as well if it came back in time.
    assert report["receipts"] >= 3
    change = {row["who"]: int(row["after"]) - int(row["before"]) for row in report["balances"]}
    assert sum(change.values()) == 0, "nothing appears and nothing is lost"
    assert change["client"] == int(report["refunded_wei"])
    assert change["in escrow"] == -int(report["deposit_wei"])
    assert change["guard"] == -change["guards' pool"] == int(report["audit"]["paid_wei"])
    audit = report["audit"]
    assert audit["after"]["jobs"] > audit["before"]["jobs"] and not audit["faulty"]
    assert audit["after"]["reputation_ppm"] > audit["before"]["reputation_ppm"] and audit["paid_wei"] != "0"
    earned = {who: amount for who, amount in change.items() if who not in ("client", "in escrow", "guard", "guards' pool")}
    assert sum(earned.values()) == int(report["paid_wei"])
    assert all(amount > 0 for amount in earned.values()), earned
    assert report["seconds_to_first_token"] > 0


def test_a_chain_that_is_not_there_is_named(tmp_path):
    assert "no Ethereum node answers" in fail("demo", "--data", tmp_path / "data", "--l2-rpc", "http://127.0.0.1:1")


def reachable(url):
    """Whether a chain answers."""
    with contextlib.suppress(AssertionError):
        return cast(url, "chain-id")
    return None
