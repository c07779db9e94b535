"""Miners that cheat, each as a process of its own, are slashed on chain; honest ones beside them are not.

One network: a chain, a router, four guards, and a miner for each cheat of the design's list (`crates/node/examples/adversary.rs`)
and for each kind of honesty. Every answer is audited, which is a parameter of this deployment; all that convicts is evidence
that guards find by profiles that were calibrated here, or a contradiction in a record. Sampling cheats that differ little
from honesty take thousands of tokens (BENCHMARKS.md), so they are taken in a strong form.
"""

import concurrent.futures
import json
import os
import pathlib
import time

import pytest
from api import Api
from processes import cast, free_port, send, succeed, wait_for
from town import BUNDLED, COR, PASSWORD, Town

ADVERSARY = os.environ.get("CORTENSOR_ADVERSARY")

# What each does, and how many answers it is asked for at first. Whoever is not convicted is asked for more.
CHEATS = {
    "weights:Q4_0": 2, "kv:q4_0": 3, "cut:25": 3, "altered:4": 3, "seed": 4, "open-seed": 3, "cached": 4, "injected:16": 2,
    "early:3": 5, "padding": 5, "text:Q4_0": 6, "temperature:0.4": 8, "open-temperature:0.4": 8, "top-p:0.4": 8, "open-top-p:0.4": 8, "lenient:4096": 8,
    "selective:4:seed": 9, "selective:4:weights:Q4_0": 5,
}
# Another class of engines; another number of threads and sequences at once; kernels that give other bits than the guards'.
HONEST = {"exact": "exact = true, threads = 1", "threads": "threads = 2, slots = 4", "flash-off": "threads = 1"}
# And one that sets traps for guards, beside honest work.
QUESTIONS = ["Tell me a short story about the moon.", "Write a small poem about rain.", "Who are you?", "What is a miner?"]
TOKENS = 96
# The bundled model knows these questions by heart, so that seeds and temperatures show only where it is asked to be bold.
TEMPERATURES = [1.0, 1.0, 2.0]


def calibrate(folder):
    """Profiles for guards of the ordinary build: of miners of the same build, and of the exact class."""
    size = ("--model", BUNDLED, "--answers", "300", "--tokens", TOKENS)
    answers, same, other = folder / "answers.jsonl", folder / "same.profile", folder / "other.profile"
    run = ("calibrate", "run", *size, "--cheat-answers", "24", "--json", "--data", folder / "calibration")
    succeed("calibrate", "record", *size, "--exact", "--out", answers, seconds=300)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        made = [pool.submit(succeed, *run, "--out", same, seconds=300),
                pool.submit(succeed, *run, "--record", answers, "--out", other, seconds=300)]
        classes = [json.loads(one.result())["miner_class"] for one in made]
    assert classes[0] != classes[1], "the exact class is another one"
    return same, other


class City(Town):
    """The network, up to its first answer."""

    def __init__(self, folder):
        super().__init__(folder)
        self.set_parameters("scores", newcomerPpm=1_000_000, suspiciousPpm=1_000_000, suspend=1_306_235)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            profiles = pool.submit(calibrate, folder)
            self.router = self.register("router", "router", 12_000, {
                'http = "127.0.0.1:8080"': f'http = "127.0.0.1:{free_port()}"',
                "session_deposit_cor = 100 ": "session_deposit_cor = 1000 ",
            })
            router = self.start("router", "--config", self.router[0], "--json").ready()
            self.profiles = profiles.result()
        for profile in self.profiles:
            succeed("calibrate", "register", profile, "--rpc", self.rpc, "--deployment", folder / "deployment.json")
        self.api = Api(router["api_url"], pathlib.Path(router["api_key_file"]).read_text().strip())
        listed = ", ".join(f'"{profile}"' for profile in self.profiles)
        guards = [self.guard(f"guard-{number}", listed).ready() for number in range(4)]
        self.guards = {guard["address"]: guard["operator"] for guard in guards}
        self.addresses = router["address"], ", ".join(f'"{address}"' for address in self.guards)
        self.miners = {}
        for name, backend in HONEST.items():
            self.miner(name, backend, special="flash-off" if name == "flash-off" else None)
        for name in CHEATS:
            self.miner(name, "threads = 1", special=name)
        self.miner("trapper", "threads = 1", more=self.traps(router["api_url"]))
        for daemon in self.daemons:
            daemon.ready()
        self.wait_for_classes()

    def register(self, kind, name, cor, changes):
        path, account = self.init(kind, name, changes, light=True)
        self.fund(account, cor)
        succeed(kind, "--config", path, "--register", env=PASSWORD, cwd=self.folder)
        return path, account

    def guard(self, name, profiles):
        path, _ = self.register("guard", name, 1_500, {
            "profiles = [] ": f"profiles = [{profiles}] ", "judge = true ": "judge = false ",
        })
        return self.start("guard", "--config", path, "--json")

    def traps(self, router):
        """What a miner's configuration needs to set traps: an account with governance's word, and a session of another."""
        setter, asker = self.folder / "setter-key.json", self.folder / "asker-key.json"
        account = self.light_key(setter)
        send(self.rpc, account, "--value", "10ether")
        send(self.rpc, self.contracts["court"], "setTrapSetter(address,bool)", account, "true")
        self.fund(self.light_key(asker), 50)
        on_chain = ("--rpc", self.rpc, "--deployment", self.folder / "deployment.json", "--keystore", asker)
        opened = ("session", "open", *on_chain, "--router", router, "--deposit", "20", "--json")
        session = json.loads(succeed(*opened, env=PASSWORD))["session"]
        return {
            "# [miner.traps]": "[miner.traps]", '# keystore = "setter-key.json"': f'keystore = "{setter}"',
            '# router = "http://127.0.0.1:8080"': f'router = "{router}"', '# session = "0x…"': f'session = "{session}"',
            '# session_keystore = "trap-session-key.json"': f'session_keystore = "{asker}"',
            "# every_seconds = 600": "every_seconds = 3", "# bad_percent = 50": "bad_percent = 50",
        }

    def miner(self, name, backend, special=None, more=None):
        router, guards = self.addresses
        path, account = self.register("miner", name.replace(":", "-"), 1_500, {
            "ROUTER_TRANSPORT_KEY@127.0.0.1:7100": router,
            "guards = [] ": f"guards = [{guards}] ",
            "commit_seconds = 300 ": "commit_seconds = 1 ",
            **(more or {}),
            'backend = { kind = "bundled" }': f'backend = {{ kind = "llama", path = "{BUNDLED}", context = 1024, {backend} }}',
        })
        self.miners[name] = account.lower()
        if special is None:
            self.start("miner", "--config", path, "--json")
        else:
            self.start("--cheat", special, "--config", path, program=ADVERSARY)

    def wait_for_classes(self):
        """Classes count from the epoch after the one in which they were declared; before, nothing is weighed."""
        wait_for(lambda: self.ready() >= set(self.miners.values()), 90, "the miners to be with the router")
        time.sleep(21)

    def ready(self):
        return {node["operator"].lower() for node in self.api.get("/v1/nodes") if node["state"] == "ready"}

    def ask(self, name, number):
        """Asks one miner for an answer; the router lets nobody ask one that is not in good standing."""
        body = {
            "model": "cortensor-tiny", "max_tokens": TOKENS, "temperature": TEMPERATURES[min(number, 2)], "cortensor": {"miner": self.miners[name]},
            "messages": [{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}],
        }
        status, headers, _ = self.api.request("/v1/chat/completions", body)
        return headers["x-cortensor-task"] if status == 200 else None

    def states(self):
        nodes = self.nodes()
        return {name: nodes[account]["standing"] | {"stake": int(nodes[account]["stake"])} for name, account in self.miners.items()}


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    assert ADVERSARY, "CORTENSOR_ADVERSARY names the program that cheats: target/debug/examples/adversary"
    city = None
    try:
        city = City(tmp_path_factory.mktemp("city"))
        yield city
        city.stop()
    finally:
        if city:
            city.end()


def test_every_cheat_is_slashed_and_honest_miners_are_not(city):
    asked = [(name, number) for number in range(10) for name in city.miners if number < CHEATS.get(name, 6)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        tasks = list(pool.map(lambda one: city.ask(*one), asked))
    for name in city.miners:
        assert any(task for (of, _), task in zip(asked, tasks) if of == name), f"{name} answered nothing"
    number = 10
    deadline = time.monotonic() + 240

    def left():
        return [name for name, state in city.states().items() if name in CHEATS and state["state"] != "slashed"]

    while (cheating := left()) and time.monotonic() < deadline:
        for name in cheating:
            city.ask(name, number)
        number += 1
        time.sleep(4)
    states = city.states()
    for name, state in states.items():
        print(f"{name:26} {state['state']:8} {state['jobs']:3} audits {state['tokens']:4} tokens {state['evidence'] / 65536:7.1f} bits")
    assert not cheating, {name: states[name] for name in cheating}
    for name in CHEATS:
        assert states[name]["stake"] < 1_000 * COR, (name, states[name])
    for name in HONEST:
        assert states[name]["state"] == "good" and states[name]["jobs"] > 0, (name, states[name])
        assert states[name]["evidence"] < 0 and states[name]["stake"] == 1_000 * COR, (name, states[name])


def test_guards_that_work_fall_into_no_trap(city):
    def sprung():
        return [int(data, 16) for *_, data in city.events("audits", "TrapSprung")]

    wait_for(lambda: set(sprung()) == {0, 1} and len(sprung()) >= 4, 120, "good and bad traps to be sprung")
    for account in city.guards.values():
        stake = cast(city.rpc, "call", city.contracts["registry"], "slashable(address)(uint128)", account)
        assert int(stake.split()[0]) == 1_000 * COR, "a guard was punished"
    trapper = city.states()["trapper"]
    assert trapper["state"] == "good" and trapper["stake"] == 1_000 * COR, trapper


def test_an_honest_miner_with_other_kernels_differs_in_bits(city, tmp_path):
    """What survived above is no copy of what the guards compute."""
    tasks = [city.ask("flash-off", number) for number in range(4)]
    receipts = [receipt for task in tasks for receipt in city.api.get(f"/v1/tasks/{task}/receipts?open=true")]
    file = tmp_path / "receipts.json"
    file.write_text(json.dumps(receipts))
    found = [json.loads(line) for line in succeed("receipt", "audit", file, "--model", BUNDLED, "--json").splitlines()]
    assert len(found) == len(tasks) and all(one["ok"] and one["summary"]["tokens"] for one in found), found
    assert all(one["summary"]["identical"] < one["summary"]["tokens"] for one in found), found
