"""A private network in real processes: made, closed to strangers, joined, used, left, shown, and settled on another chain."""

import json
import os
import re
import shutil
import socket
import time
import urllib.error
import urllib.request

import pytest
from api import Api
from processes import REPOSITORY, RICH_KEY, Daemon, cast, foundry, free_port, free_ports, run, send, succeed, wait_for

STRANGER_KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
VALIDATORS = 4
EPOCH_BLOCKS = 40


class Private:
    """A network that `cortensor l3 create` wrote, and the people in it."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "acme"
        self.daemons = []
        self.rpc_port = free_ports(VALIDATORS + 1)
        arguments = ("--validators", VALIDATORS, "--epoch-blocks", EPOCH_BLOCKS, "--empty-block-ms", 300)
        places = ("--rpc-port", self.rpc_port, "--peer-port", free_ports(VALIDATORS + 1))
        # The parent's port is known before the parent runs.
        self.parent_port = free_port()
        parent = ("--parent-rpc", f"http://127.0.0.1:{self.parent_port}")
        self.said = succeed("l3", "create", self.home, "--name", "Acme", *arguments, *places, *parent)
        self.facts = json.loads((self.home / "l3.json").read_text())
        self.contracts = json.loads((self.home / "deployment.json").read_text())
        self.rpc = self.facts["rpc"][0]
        for index in range(VALIDATORS):
            self.start("chain", "run", "-v", "--home", self.home / f"node-{index}", "--json")
        for daemon in self.daemons:
            daemon.ready()

    def start(self, *arguments, env=None, cwd=None, **options):
        daemon = Daemon(self.folder, *arguments, env=env, cwd=cwd or self.folder, **options)
        self.daemons.append(daemon)
        return daemon

    def end(self):
        for daemon in self.daemons:
            daemon.end()

    def stop(self):
        for daemon in reversed(self.daemons):
            if daemon.process.poll() is None:
                assert daemon.stop() == 0, daemon.log

    def token(self, home=None, server=None):
        server = () if server is None else ("--server", server)
        return succeed("l3", "token", "--home", home or self.home, *server).strip()

    def cast(self, *arguments, home=None):
        """cast, with a member's token."""
        header = f"Authorization: Bearer {self.token(home, self.rpc.removeprefix('http://'))}"
        return cast(self.rpc, *arguments[:1], "--rpc-headers", header, *arguments[1:])

    def invite(self, name):
        path = self.folder / f"{name}.json"
        succeed("l3", "invite", "--home", self.home, "--out", path)
        return path

    def join(self, name):
        """Somebody becomes a member: its folder, its account, and what opens its keystore."""
        home = self.folder / name
        port = free_port()
        places = ("--rpc-port", port, "--peer-port", free_port())
        said = succeed("l3", "join", self.invite(name), home, *places)
        account = re.search(r"0x[0-9a-fA-F]{40}", said)[0]
        # What the environment of the tests sets is not passed on; this is.
        return {"home": home, "account": account, "rpc": f"http://127.0.0.1:{port}", "env": {
            "CORTENSOR_PASSWORD_FILE": str(home / "account.password"),
        }}

    def remove(self, member):
        said = succeed("l3", "remove", member["account"], "--home", self.home)
        return int(re.search(r"in block (\d+)", said)[1])

    def role(self, kind, member, changes):
        """A configuration of a member's node, on the member's own account."""
        place = member["home"]
        shutil.copy(place / "account.key.json", place / f"{kind}-key.json")
        path = place / f"{kind}.toml"
        succeed(kind, "--config", path, "--init", env=member["env"], cwd=place)
        text = path.read_text()
        changes = {
            'rpc = "http://127.0.0.1:8545"': f'rpc = "{self.rpc}"',
            'deployment = "deployment.json"': f'deployment = "{place / "deployment.json"}"',
            f'keystore = "{kind}-key.json"': f'keystore = "{place / f"{kind}-key.json"}"',
            f'data = "{kind}-data"': f'data = "{place / "data"}"',
            **changes,
        }
        for old, new in changes.items():
            assert old in text, f"the template of {kind} has no {old}"
            text = text.replace(old, new)
        path.write_text(text)
        succeed("l3", "send", member["account"], "--cor", "30000", "--home", self.home)
        succeed(kind, "--config", path, "--register", env=member["env"], cwd=place)
        return path


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    network = Private(tmp_path_factory.mktemp("private"))
    try:
        yield network
        network.stop()
    finally:
        network.end()


@pytest.fixture(scope="module")
def house(private):
    """A member with a router."""
    member = private.join("house")
    path = private.role("router", member, {
        'listen = "0.0.0.0:7100"': f'listen = "127.0.0.1:{free_port()}"',
        'http = "127.0.0.1:8080"': 'http = "127.0.0.1:0"',
    })
    daemon = private.start("router", "--config", path, "--json", env=member["env"])
    facts = daemon.ready()
    key = open(facts["api_key_file"]).read().strip()
    return {**member, **facts, "api": Api(facts["api_url"], key)}


@pytest.fixture(scope="module")
def worker(private, house):
    """A member with a miner of the bundled model."""
    member = private.join("worker")
    path = private.role("miner", member, {
        "ROUTER_TRANSPORT_KEY@127.0.0.1:7100": house["address"],
        "commit_seconds = 300 ": "commit_seconds = 1 ",
    })
    member["daemon"] = private.start("miner", "--config", path, "--json", env=member["env"])
    member["daemon"].ready()

    def ready():
        nodes = house["api"].get("/v1/nodes")
        return [node for node in nodes if node["state"] == "ready"]

    wait_for(ready, 90, "the miner to be with the router")
    return member


@pytest.fixture(scope="module")
def client(private, house, worker):
    """A member with a node of its own and a session."""
    member = private.join("client")
    member["node"] = private.start("chain", "run", "--home", member["home"], "--json")
    member["node"].ready()
    succeed("l3", "send", member["account"], "--cor", "100", "--home", private.home)
    chain = ("--rpc", private.rpc, "--deployment", member["home"] / "deployment.json")
    keystore = ("--keystore", member["home"] / "account.key.json")
    arguments = (*chain, *keystore, "--router", house["api_url"], "--deposit", "50", "--json")
    session = json.loads(succeed("session", "open", *arguments, env=member["env"]))["session"]
    serving = private.start(
        "session", "serve", session, *chain, *keystore, "--router", house["api_url"],
        "--data", member["home"] / "sessions", "--listen", "127.0.0.1:0", "--json", env=member["env"],
    )
    facts = serving.ready()
    key = open(facts["api_key_file"]).read().strip()
    return {**member, "api": Api(facts["api_url"], key), "serving": serving}


def post(url, token, method, *params):
    """Status and answer of a call."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, body, headers), timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def height(url, token):
    status, answer = post(url, token, "eth_blockNumber")
    assert status == 200, answer
    return int(answer["result"], 16)


def upgrade(url, token):
    """The status line of a WebSocket's handshake, and the socket."""
    host, port = url.removeprefix("http://").split(":")
    stream = socket.create_connection((host, int(port)), 30)
    lines = [
        "GET / HTTP/1.1", f"Host: {host}:{port}", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *([f"Authorization: Bearer {token}"] if token else []),
    ]
    stream.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
    return stream.recv(4096).split(b"\r\n")[0].decode(), stream


def test_strangers_are_refused_at_every_door(private):
    # JSON-RPC.
    status, answer = post(private.rpc, None, "eth_blockNumber")
    assert status == 401 and "private" in answer["error"]["message"]
    assert " 401 " in upgrade(private.rpc, None)[0]
    assert post(private.rpc, private.token(server="127.0.0.1:1"), "eth_blockNumber")[0] == 401, "another server's token"
    assert height(private.rpc, private.token()) > 0
    # The mempool: a member passes a stranger's transaction on.
    to = "0x00000000000000000000000000000000000000ae"
    header = f"Authorization: Bearer {private.token()}"
    arguments = ("send", "--rpc-headers", header, "--async", "--private-key", STRANGER_KEY, "--gas-limit", "21000",
                 "--gas-price", "2gwei", "--nonce", "0", to)
    done = run(*arguments, program=foundry("cast"), env={"ETH_RPC_URL": private.rpc})
    assert done.returncode != 0 and "is not a member" in done.stderr, done.stderr
    # The transport: a node that knows everything but is no member's.
    invitation = json.loads(private.invite("never").read_text())
    home = private.folder / "stranger"
    home.mkdir()
    (home / "network.json").write_text(json.dumps(invitation["chain"]))
    node = json.loads((private.home / "node.json").read_text())
    port = free_port()
    node |= {"rpc": f"127.0.0.1:{port}", "listen": f"0.0.0.0:{free_port()}"}
    (home / "node.json").write_text(json.dumps(node))
    (home / "transport.key").write_text(os.urandom(32).hex() + "\n")
    daemon = private.start("chain", "run", "--home", home, "--json")
    daemon.ready()
    # The validators' logs say so, and nothing reached it.
    wait_for(lambda: any("turned away" in one.log for one in private.daemons), 30, "the stranger to be turned away")
    time.sleep(2)
    # On its own copy of block 0 the founder is alone, so the founder may look.
    assert height(f"http://127.0.0.1:{port}", private.token(server=f"127.0.0.1:{port}")) == 0
    assert daemon.stop() == 0


def test_an_invitation_counts_once(private, house):
    used = private.folder / "house.json"
    done = run("l3", "join", used, private.folder / "again")
    assert done.returncode == 1 and "does not count" in done.stderr
    listed = [json.loads(line) for line in succeed("l3", "members", "--home", private.home, "--json").splitlines()]
    assert house["account"].lower() in {member["account"].lower() for member in listed}


def test_a_private_session_is_answered(private, client, worker):
    answer, task = client["api"].ask("What is Cortensor?", max_tokens=24)
    assert answer.choices[0].message.content
    [receipt] = client["api"].receipts(task)
    assert receipt["receipt"]["receipt"]["miner"].lower() == worker["account"].lower()
    # The member's own node follows. Until it has caught up it knows the founder only.
    founder = private.token(server=client["rpc"].removeprefix("http://"))
    wait_for(lambda: height(client["rpc"], founder) >= height(private.rpc, private.token()) - 2, 60, "the node to follow")
    assert height(client["rpc"], private.token(client["home"])) > 0


def test_a_removed_member_neither_reads_nor_writes(private, client):
    token = private.token(client["home"], private.rpc.removeprefix("http://"))
    assert height(private.rpc, token) > 0
    status, stream = upgrade(private.rpc, token)
    assert " 101 " in status
    removed = private.remove(client)
    status, answer = post(private.rpc, token, "eth_blockNumber")
    assert status == 401 and "not a member" in answer["error"]["message"], answer
    stream.settimeout(20)
    while stream.recv(4096):
        pass
    # Its node hears nothing of later blocks, its transactions are refused, its session is not served.
    wait_for(lambda: height(private.rpc, private.token()) > removed + 8, 60, "some blocks")
    assert height(client["rpc"], private.token(server=client["rpc"].removeprefix("http://"))) <= removed
    key = ("--keystore", client["home"] / "account.key.json")
    chain = ("--rpc", private.rpc, "--deployment", client["home"] / "deployment.json")
    done = run("session", "top-up", "0x" + "00" * 32, "1", *chain, *key, env=client["env"])
    assert done.returncode == 1 and "members" in done.stderr, done.stderr
    with pytest.raises(Exception, match="(?i)session|closed|member|payment"):
        client["api"].ask("Are you there?", max_tokens=4)


def test_a_removed_miner_is_cut_off(private, house, worker):
    private.remove(worker)
    wait_for(lambda: not [n for n in house["api"].get("/v1/nodes") if n["state"] == "ready"], 20, "the miner to be gone")


def test_the_export_can_be_checked_without_the_chain(private, client):
    out = private.folder / "audit.jsonl"
    succeed("l3", "export-audit", "--home", private.home, "--out", out)
    network = private.home / "network.json"
    found = json.loads(succeed("l3", "verify-audit", out, "--network", network, "--json"))
    assert found["events"]["members.Logged"] >= VALIDATORS + 1 + 6
    assert found["events"]["sessions.SessionOpened"] >= 2, found
    lines = out.read_text().splitlines(keepends=True)
    assert "prompt" not in "".join(lines)

    def broken(change, word):
        copy = private.folder / "broken.jsonl"
        copy.write_text("".join(change(list(lines))))
        done = run("l3", "verify-audit", copy, "--network", network)
        assert done.returncode == 1 and word in done.stderr, done.stderr

    event = next(index for index, line in enumerate(lines) if '"kind":"event"' in line)
    broken(lambda all: all[:event] + all[event + 1:], "line")
    broken(lambda all: all[:-1], "not signed")
    broken(lambda all: all[:2] + all[3:], "line 3")
    broken(lambda all: [all[0].replace("Acme", "Acne"), *all[1:]], "not those that were signed")
    removed = next(index for index, line in enumerate(lines) if '"kind":"block"' in line and '"receipts":["' in line)

    def without_receipts(all):
        block = json.loads(all[removed])
        block["receipts"] = []
        return [*all[:removed], json.dumps(block) + "\n", *all[removed + 1:]]

    broken(without_receipts, "receipts")


def test_the_parent_learns_checkpoints_and_nothing_else(private):
    parent = private.start("chain", "--listen", f"127.0.0.1:{private.parent_port}", "--chain-id", "777", "--json")
    rpc = parent.ready()["rpc"]
    founder = json.loads((private.home / "network.json").read_text())["members"]["founder"]
    send(rpc, founder, "--value", "10ether")
    token = json.loads((REPOSITORY / "contracts/artifacts/CortensorToken.json").read_text())
    made = cast(rpc, "send", "--json", "--private-key", RICH_KEY, "--create", token["bytecode"]
                + "".join(cast(rpc, "abi-encode", "f(address,address,uint256)", founder, founder, "1000")[2:]))
    succeed("relay", "deploy", "--config", "relay.toml", "--token", json.loads(made)["contractAddress"],
            "--governance", founder, "--delay-hours", "1", cwd=private.home)
    begun = int(cast(rpc, "block-number"))
    config = private.home / "relay.toml"
    config.write_text(config.read_text().replace("interval_seconds = 10", "interval_seconds = 1"))
    private.start("relay", "run", "--config", config, cwd=private.home)
    settlement = json.loads((private.home / "settlement.json").read_text())
    checkpoints = settlement["upper"]["blocks"]
    wait_for(lambda: int(cast(rpc, "block-number")) >= begun + 2, 90, "two checkpoints")
    submit = cast(rpc, "sig", "submit(bytes,(uint32,address[],uint64[],uint256,bytes))")
    for number in range(begun + 1, int(cast(rpc, "block-number")) + 1):
        for transaction in json.loads(cast(rpc, "block", "--json", "--full", str(number)))["transactions"]:
            assert transaction["from"].lower() == founder.lower()
            assert transaction["to"].lower() == checkpoints.lower() and transaction["input"].startswith(submit)
            check_checkpoint(private, rpc, transaction["input"])


def check_checkpoint(private, rpc, calldata):
    """What was sent is the header and the certificate of the private chain's block, encoded, and not a byte more."""
    kinds = "submit(bytes,(uint32,address[],uint64[],uint256,bytes))"
    header = json.loads(cast(rpc, "decode-calldata", "--json", kinds, calldata))[0]
    number = int(json.loads(cast(rpc, "from-rlp", header))[8], 16)
    status, answer = post(private.rpc, private.token(), "cortensor_getCertificate", hex(number))
    assert status == 200
    block = answer["result"]
    assert block["header"] == header
    certificate = "({},[{}],[{}],{},{})".format(
        int(block["round"], 16), ",".join(block["validators"]), ",".join(str(int(one, 16)) for one in block["powers"]),
        int(block["signers"], 16), block["signatures"],
    )
    assert cast(rpc, "calldata", kinds, header, certificate) == calldata
