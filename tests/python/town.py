"""A chain with the contracts, and nodes that live on it as processes of their own."""

import json
import re

from processes import REPOSITORY, Daemon, cast, foundry, free_port, run, send, succeed

PASSWORD = {"CORTENSOR_PASSWORD": "a password of the tests"}
COR = 10**18
BUNDLED = REPOSITORY / "models" / "tiny" / "cortensor-tiny-q8_0.gguf"
# Where a configuration names a port of its own, by kind of node.
PORTS = {"router": 'listen = "0.0.0.0:7100"', "guard": 'listen = "0.0.0.0:7200"', "miner": 'listen = "0.0.0.0:0"'}


def described(contract, name):
    """A function or event of a contract, as its ABI has it."""
    abi = json.loads((REPOSITORY / "crates" / "contracts" / "abi" / f"{contract.capitalize()}.json").read_text())
    [found] = [one for one in abi if one.get("name") == name]
    return found


def kinds_of(fields):
    """The types of some fields, as a signature has them."""
    kinds = (kinds_of(field["components"]) if field["type"] == "tuple" else field["type"] for field in fields)
    return f"({','.join(kinds)})"


class Town:
    """A chain with the contracts, and the nodes that live on it."""

    def __init__(self, folder):
        self.folder = folder
        self.daemons = []
        self.port = free_port()
        self.chain = self.start_chain()
        self.rpc = self.chain.ready()["rpc"]
        arguments = ("deploy", "--rpc", self.rpc, "--out", "deployment.json", "--json")
        self.contracts = json.loads(succeed(*arguments, cwd=folder))

    def start(self, *arguments, **options):
        daemon = Daemon(self.folder, *arguments, env=PASSWORD, cwd=self.folder, **options)
        self.daemons.append(daemon)
        return daemon

    def command(self, *arguments):
        return run(*arguments, env=PASSWORD, cwd=self.folder)

    def start_chain(self):
        """The chain, on the data and the port of last time."""
        return self.start("chain", "--data", "chain", "--listen", f"127.0.0.1:{self.port}", "--json")

    def stop(self):
        """Stops everything; each process must end well."""
        for daemon in reversed(self.daemons):
            if daemon.process.poll() is None:
                assert daemon.stop() == 0, daemon.log

    def end(self):
        for daemon in self.daemons:
            daemon.end()

    def light_key(self, path):
        """Makes a keystore that opens in no time, and returns what names its account."""
        made = ("wallet", "new", path.parent, path.name, "--unsafe-password", PASSWORD["CORTENSOR_PASSWORD"])
        return re.search(r"0x[0-9a-fA-F]{40}", succeed(*made, program=foundry("cast")))[0]

    def init(self, kind, name, changes, light=False):
        """Writes a configuration with `--init`, changes it as a person would, and returns the node's account. `light` makes a
        keystore that opens in no time."""
        place = self.folder / name
        place.mkdir()
        path = place / f"{kind}.toml"
        said = self.light_key(place / f"{kind}-key.json") if light else ""
        said += succeed(kind, "--config", path, "--init", env=PASSWORD, cwd=place)
        account = re.search(r"0x[0-9a-fA-F]{40}", said)[0]
        text = path.read_text()
        port = f"127.0.0.1:{0 if kind == 'miner' else free_port()}"
        changes = {
            'rpc = "http://127.0.0.1:8545"': f'rpc = "{self.rpc}"',
            'deployment = "deployment.json"': f'deployment = "{self.folder / "deployment.json"}"',
            f'keystore = "{kind}-key.json"': f'keystore = "{place / f"{kind}-key.json"}"',
            f'data = "{kind}-data"': f'data = "{place / "data"}"',
            PORTS[kind]: f'listen = "{port}"',
            **changes,
        }
        for old, new in changes.items():
            assert old in text, f"the template of {kind} has no {old}"
            text = text.replace(old, new)
        path.write_text(text)
        return path, account

    def fund(self, account, cor):
        send(self.rpc, account, "--value", "10ether")
        send(self.rpc, self.contracts["token"], "transfer(address,uint256)", account, str(cor * COR))

    def cor(self, account):
        return int(cast(self.rpc, "call", self.contracts["token"], "balanceOf(address)(uint256)", account).split()[0])

    def doctor(self, path):
        """The doctor's findings by name, and its exit code."""
        done = self.command("doctor", "--config", path, "--json")
        return {line["what"]: line for line in map(json.loads, done.stdout.splitlines())}, done.returncode

    def set_parameters(self, contract, **changes):
        """Changes some parameters of a contract, by their names in Solidity."""
        fields = described(contract, "setParameters")["inputs"][0]["components"]
        kinds = kinds_of(fields)
        shown = cast(self.rpc, "call", self.contracts[contract], f"parameters()({kinds})").strip("()").split(", ")
        values = {field["name"]: value.split()[0] for field, value in zip(fields, shown, strict=True)}
        assert set(changes) <= set(values), changes
        values |= {name: str(value) for name, value in changes.items()}
        send(self.rpc, self.contracts[contract], f"setParameters({kinds})", f"({','.join(values.values())})")

    def events(self, contract, event):
        """An event of a contract, as often as it happened: its topics, without the first, and its data."""
        event += kinds_of(described(contract, event)["inputs"])
        found = cast(self.rpc, "logs", "--json", "--from-block", "0", "--address", self.contracts[contract], event)
        return [[*log["topics"][1:], log["data"]] for log in json.loads(found)]

    def standing(self, miner):
        """What audits have shown about a miner."""
        return self.nodes()[miner.lower()]["standing"]

    def nodes(self):
        """What the chain says of the miners, by account."""
        arguments = ("nodes", "--rpc", self.rpc, "--deployment", self.folder / "deployment.json", "--json")
        return {node["operator"].lower(): node for node in map(json.loads, succeed(*arguments).splitlines())}
