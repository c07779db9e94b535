"""`cortensor chain proof|verify` and `chain run --sync snapshot` with four validators."""

import json

import pytest
from processes import OTHER, Daemon, cast, fail, free_ports, run, send, succeed, wait_for

NOBODY = "0x00000000000000000000000000000000000000bb"


@pytest.fixture(scope="module")
def validators(tmp_path_factory):
    """Four validators with short epochs: their JSON-RPC addresses, and their folders."""
    folder = tmp_path_factory.mktemp("validators")
    rpc, peer = free_ports(5), free_ports(5)
    succeed("chain", "init", folder / "net", "--validators", 4, "--epoch-blocks", 5, "--empty-block-ms", 100,
            "--fund-test-accounts", "--bare", "--rpc-port", rpc, "--peer-port", peer)
    homes = [folder / "net" / f"node-{index}" for index in range(4)]
    for home in homes:
        node = json.loads((home / "node.json").read_text())
        (home / "node.json").write_text(json.dumps({**node, "copy_every_blocks": 10}))
    daemons = []
    try:
        for index, home in enumerate(homes):
            (folder / str(index)).mkdir()
            daemons.append(Daemon(folder / str(index), "chain", "run", "--home", home, "--json"))
        yield [daemon.ready()["rpc"] for daemon in daemons], homes, (rpc + 4, peer + 4)
        assert all(daemon.stop() == 0 for daemon in daemons)
    finally:
        for daemon in daemons:
            daemon.end()


def head(rpc):
    return int(cast(rpc, "block-number"))


def test_proofs_convince_without_trust_and_nothing_else_does(validators, tmp_path):
    [rpc, other, *_], homes, _ = validators
    genesis = homes[0] / "network.json"
    hash = send(rpc, OTHER, "--value", "5")["transactionHash"]
    wait_for(lambda: head(other) > 12, 60, "two epochs")

    def prove(*more):
        return succeed("chain", "proof", "--rpc", other, "--genesis", genesis, *more)

    def verify(text, *more, check=succeed):
        path = tmp_path / "proof.json"
        path.write_text(text)
        return check("chain", "verify", path, "--genesis", genesis, *more)

    receipt = prove("--transaction", hash, "--address", OTHER)
    shown = json.loads(verify(receipt, "--json"))
    assert (shown["transaction"]["hash"], shown["transaction"]["success"]) == (hash, True)
    assert shown["power_signed"] * 3 > shown["power_total"] * 2
    assert "has no account" in verify(prove("--address", NOBODY))
    balance = json.loads(verify(prove("--address", OTHER), "--json"))["account"]["account"]["balance"]
    assert int(balance, 16) == int(cast(rpc, "balance", OTHER))
    trusted = json.loads(cast(rpc, "block", "7", "--json"))["hash"]
    later = prove("--trusted-header", trusted)
    verify(later, "--trusted-header", trusted)
    assert "another header is trusted" in verify(receipt, "--trusted-header", trusted, check=fail)
    assert "block 0 is trusted" in verify(later, check=fail)
    forged = json.loads(receipt)
    forged["account"]["account"]["balance"] = "0xffff"
    assert "the account" in verify(json.dumps(forged), check=fail)
    forged = json.loads(prove())
    forged["block"]["signatures"] = "0x" + "11" * 65 + forged["block"]["signatures"][132:]
    assert "signature" in verify(json.dumps(forged), check=fail)
    wait_for(lambda: "s old" in verify(receipt, "--max-age-seconds", 1, check=lambda *a: run(*a).stderr), 30, "age")


def test_a_new_node_begins_with_a_copy(validators, tmp_path, start):
    [rpc, *_], homes, (rpc_port, peer_port) = validators
    copies = homes[0] / "data" / "copies"
    wait_for(lambda: any(entry.name.isdigit() for entry in copies.glob("*")), 60, "a copy of the state")
    home = tmp_path / "late"
    home.mkdir()
    (home / "network.json").write_text((homes[0] / "network.json").read_text())
    node = json.loads((homes[0] / "node.json").read_text())
    node = {**node, "rpc": f"127.0.0.1:{rpc_port}", "listen": f"127.0.0.1:{peer_port}"}
    (home / "node.json").write_text(json.dumps(node))
    (home / "transport.key").write_text("0x" + "42" * 32)
    late = start("chain", "run", "--home", home, "--sync", "snapshot", "--json").ready()
    assert late["block"] >= 10 and not late["validator"]
    wait_for(lambda: head(late["rpc"]) >= head(rpc), 60, "the others' height")
    assert cast(late["rpc"], "balance", OTHER) == cast(rpc, "balance", OTHER)
