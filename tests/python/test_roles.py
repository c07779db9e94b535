"""Chain, router and miners as processes of their own, from empty configurations to a question that outlives a kill.

The tests of this file are one story and run in their order.
"""

import json
import signal

import pytest
from api import NEVER_END, STORY, Api, text_of
from processes import cast, fail, free_port, send, succeed, wait_for
from town import BUNDLED, COR, PASSWORD, Town

@pytest.fixture(scope="module")
def town(tmp_path_factory):
    folder = tmp_path_factory.mktemp("town")
    town = Town(folder)
    try:
        yield town
        town.stop()
    finally:
        town.end()


@pytest.fixture(scope="module")
def router(town):
    """A registered router, running; with what the doctor said before and after its registration."""
    http = free_port()
    path, account = town.init("router", "router", {
        'http = "127.0.0.1:8080"': f'http = "127.0.0.1:{http}"',
        "session_deposit_cor = 100 ": "session_deposit_cor = 1000 ",
        "session_max_price_cor = 10 ": "session_max_price_cor = 10000 ",
    })
    story = {"path": path, "account": account, "before": town.doctor(path), "unregistered": town.command("router", "--config", path)}
    story["unfunded"] = town.command("router", "--config", path, "--register")
    town.fund(account, 12_000)
    succeed("router", "--config", path, "--register", env=PASSWORD, cwd=town.folder)
    story["after"] = town.doctor(path)
    story["daemon"] = town.start("router", "--config", path, "--json")
    story.update(story["daemon"].ready())
    story["key"] = open(story["api_key_file"]).read().strip()
    return story


@pytest.fixture(scope="module")
def guard(town):
    """A registered guard, running, on a chain that draws every receipt."""
    town.set_parameters("scores", newcomerPpm=1_000_000, suspiciousPpm=1_000_000)
    path, account = town.init("guard", "guard", {})
    town.fund(account, 1_500)
    model = json.loads(succeed("model", "inspect", BUNDLED, "--json"))["id"]
    send(town.rpc, town.contracts["usefulness"], "setFamily(bytes32,uint32)", model, "1")
    succeed("guard", "--config", path, "--register", env=PASSWORD, cwd=town.folder)
    findings, code = town.doctor(path)
    assert code == 0, findings
    daemon = town.start("guard", "--config", path, "--json")
    return {"path": path, "account": account, "daemon": daemon, **daemon.ready()}


@pytest.fixture(scope="module")
def miners(town, router, guard):
    """Two registered miners, running, by account."""
    miners = {}
    for name in ("first", "second"):
        path, account = town.init("miner", name, {
            "ROUTER_TRANSPORT_KEY@127.0.0.1:7100": router["address"],
            # Dear enough for a few answers to be worth redeeming.
            'output_price_cor = "2"': 'output_price_cor = "5000"',
            "redeem_seconds = 600 ": "redeem_seconds = 1 ",
            "guards = [] ": f'guards = ["{guard["address"]}"] ',
            "commit_seconds = 300 ": "commit_seconds = 1 ",
        })
        town.fund(account, 1_500)
        succeed("miner", "--config", path, "--register", env=PASSWORD, cwd=town.folder)
        miners[account.lower()] = {"path": path, "account": account}
    for miner in miners.values():
        miner["daemon"] = town.start("miner", "--config", miner["path"], "--json")
    for miner in miners.values():
        assert miner["daemon"].ready()["operator"].lower() == miner["account"].lower()
    return miners


@pytest.fixture(scope="module")
def town_api(router, miners):
    api = Api(router["api_url"], router["key"])
    all_ready(api, miners)
    return api


def all_ready(api, miners):
    def ready():
        try:
            nodes = api.get("/v1/nodes")
        except (OSError, AssertionError):
            return False
        return {node["operator"].lower() for node in nodes if node["state"] == "ready"} >= set(miners)

    wait_for(ready, 90, "the miners to be with the router")


def test_the_doctor_before_and_after(router):
    findings, code = router["before"]
    assert code == 1
    assert findings["config"]["ok"] and findings["key"]["ok"] and findings["contracts"]["ok"]
    assert not findings["stake"]["ok"] and "--register" in findings["stake"]["detail"]
    assert not findings["gas"]["ok"] and "coins" in findings["gas"]["detail"]
    findings, code = router["after"]
    assert code == 0 and all(finding["ok"] for finding in findings.values()), findings
    assert "10000" in findings["stake"]["detail"]


def test_what_is_missing_is_said(router):
    done = router["unregistered"]
    assert done.returncode == 1 and "not registered" in done.stderr and "--register" in done.stderr
    done = router["unfunded"]
    assert done.returncode == 1 and "send it" in done.stderr


def test_the_doctor_while_it_runs(town, router):
    findings, code = town.doctor(router["path"])
    assert code == 1 and not findings["http"]["ok"] and "running already" in findings["http"]["detail"]


def test_configurations_that_are_wrong(town, router):
    good = router["path"].read_text()
    wrong = router["path"].with_name("wrong.toml")
    for text, word in [
        (good.replace("[router]", "[router]\ncolour = 1"), "colour"),
        (good.replace("stake_cor = 10000", 'stake_cor = "much"'), "stake_cor"),
        (good.replace("[chain]", "[chian]"), "chian"),
        (good.replace("http = ", "http = ]"), "wrong.toml"),
        ("", "wrong.toml"),
    ]:
        wrong.write_text(text)
        assert word in fail("router", "--config", wrong, env=PASSWORD, cwd=town.folder)
    assert "--init" in fail("router", "--config", town.folder / "none.toml", env=PASSWORD)
    assert "overwritten" in fail("router", "--config", router["path"], "--init", env=PASSWORD)
    error = fail("router", "--config", router["path"], env={"CORTENSOR_PASSWORD": "another password"}, cwd=town.folder)
    assert "keystore" in error and "password" in error
    assert "CORTENSOR_PASSWORD" in fail("router", "--config", router["path"], cwd=town.folder)
    unreachable = router["path"].with_name("unreachable.toml")
    unreachable.write_text(good.replace(town.rpc, "http://127.0.0.1:1"))
    assert "127.0.0.1:1" in fail("router", "--config", unreachable, env=PASSWORD, cwd=town.folder)


def test_what_a_miner_must_have(town, router, miners):
    path = next(iter(miners.values()))["path"]
    findings, code = town.doctor(path)
    assert code == 0 and findings["model"]["ok"] and findings["stake"]["ok"], findings
    good = path.read_text()
    wrong = path.with_name("wrong.toml")
    for text, word in [
        (good.replace('{ kind = "bundled" }', '{ kind = "llama", path = "no.gguf" }'), "no.gguf"),
        (good.replace('{ kind = "bundled" }', '{ kind = "magic" }'), "magic"),
        (good.replace('input_price_cor = "0.5"', 'input_price_cor = "cheap"'), '"cheap" is not an amount'),
        (good.replace(router["address"], "nobody@nowhere"), '"nobody"'),
    ]:
        assert text != good, word
        wrong.write_text(text)
        assert word in fail("miner", "--config", wrong, env=PASSWORD, cwd=town.folder)


def test_a_question_through_the_router(town, town_api, miners, tmp_path):
    answer, task = town_api.ask()
    assert answer.choices[0].message.content
    assert town_api.task(task)["attempts"][0]["miner"].lower() in miners
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(town_api.receipts(task)))
    succeed("receipt", "verify", file, "--rpc", town.rpc)
    status, _, body = town_api.request("/readyz")
    assert status == 200, body


def test_a_guard_that_was_killed_audits_what_it_was_drawn_for(town, town_api, guard, miners):
    guard["daemon"].kill()
    _, task = town_api.ask()
    miner = town_api.task(task)["attempts"][0]["miner"]
    before = town.standing(miner)["jobs"]
    wait_for(lambda: town.events("audits", "AuditOpened"), 60, "the miner to open what was drawn")
    guard["daemon"] = town.start("guard", "--config", guard["path"], "--json")
    assert guard["daemon"].ready()["address"] == guard["address"]
    wait_for(lambda: town.standing(miner)["jobs"] > before, 120, "the audit to be settled")
    assert town.standing(miner)["state"] == "good", "an honest miner stays in good standing"


@pytest.mark.parametrize(("contract", "event"), [("batches", "BatchCommitted"), ("audits", "FindingCommitted")])
def test_everything_is_killed_in_the_middle_of_an_audit(town, town_api, router, guard, miners, contract, event):
    """Before the draw, and between a guard's commitment and its reveal: chain, router, guard and miners at once."""

    def count(contract, event):
        return len(town.events(contract, event))

    wait_for(lambda: count("audits", "AuditOpened") == count("audits", "AuditSettled"), 120, "earlier audits to be over")
    seen, settled = count(contract, event), count("audits", "AuditSettled")
    _, task = town_api.ask()
    miner, receipts = town_api.task(task)["attempts"][0]["miner"], town_api.receipts(task)
    before, stakes = town.standing(miner), [town.nodes()[one]["stake"] for one in miners]
    wait_for(lambda: count(contract, event) > seen, 90, event, pause=0.01)
    roles = [(router, "router"), (guard, "guard"), *((one, "miner") for one in miners.values())]
    for daemon in [town.chain, *(role["daemon"] for role, _ in roles)]:
        daemon.kill()
    town.chain = town.start_chain()
    assert town.chain.ready()["rpc"] == town.rpc
    assert count(contract, event) > seen and count("audits", "AuditSettled") == settled, "killed in the middle"
    for role, kind in roles:
        role["daemon"] = town.start(kind, "--config", role["path"], "--json")
    for role, _ in roles:
        role["daemon"].ready()
    # A batch of before may have been opened meanwhile; then it is settled as well.
    wait_for(lambda: town.standing(miner)["jobs"] > before["jobs"], 150, "the audit to be settled")
    wait_for(lambda: count("audits", "AuditOpened") == count("audits", "AuditSettled"), 120, "all audits to be settled")
    assert town.standing(miner)["state"] == "good", town.standing(miner)
    assert not town.events("audits", "ReceiptMissing")
    assert [town.nodes()[one]["stake"] for one in miners] == stakes
    record = cast(town.rpc, "call", town.contracts["registry"], "slashable(address)(uint128)", guard["account"])
    assert int(record.split()[0]) == 1_000 * COR, "the guard revealed what it had committed to"
    all_ready(town_api, miners)
    assert town_api.receipts(task) == receipts
    assert town_api.ask()[0].choices


def useful_events(town, event):
    """The items of an event of the contract that judges."""
    return [item for item, *_ in town.events("usefulness", event)]


def test_a_judge_that_was_killed_after_its_commitment_still_reveals(town, town_api, guard, miners):
    assert guard["judges"], "governance let the model judge"
    committed, revealed, settled = "ScoreCommitted", "ScoreRevealed", "JudgementSettled"

    def waiting():
        return set(useful_events(town, committed)) - set(useful_events(town, revealed))

    town_api.ask()
    item, *_ = wait_for(waiting, 240, "the judge to commit to a score")
    guard["daemon"].kill()
    assert item in waiting(), "it was killed before it revealed"
    guard["daemon"] = town.start("guard", "--config", guard["path"], "--json")
    guard["daemon"].ready()
    wait_for(lambda: item in useful_events(town, settled), 120, "the judgement to be settled")
    assert item in useful_events(town, revealed)
    kinds = "(address,uint8,uint8,uint8,uint8,uint40,uint40,uint40,uint32)"
    shown = cast(town.rpc, "call", town.contracts["usefulness"], f"judgement(bytes32)({kinds})", item)
    miner, status, *_ = shown.strip().strip("()").split(", ")
    assert miner.lower() in miners and status == "2", shown
    known = cast(town.rpc, "call", town.contracts["usefulness"], "recordOf(address)((uint32,uint32))", miner)
    assert int(known.strip().strip("()").split(", ")[1]) >= 1, known


def test_a_miner_is_killed_in_the_middle_of_an_answer(town, town_api, miners):
    stream, task = town_api.endless(max_tokens=600)
    chunks = iter(stream)
    text = "".join(text_of(next(chunks)) for _ in range(3))
    # Held, so that the answer cannot be over before it is known who gives it.
    for miner in miners.values():
        miner["daemon"].signal(signal.SIGSTOP)
    answering = town_api.task(task)["attempts"][-1]["miner"].lower()
    miners[answering]["daemon"].kill()
    [other] = [miner for account, miner in miners.items() if account != answering]
    other["daemon"].signal(signal.SIGCONT)
    rest = list(chunks)
    text += "".join(map(text_of, rest))
    assert [chunk.choices[0].finish_reason for chunk in rest if chunk.choices][-1] == "length"
    assert rest[-1].usage.completion_tokens == 600

    view = town_api.task(task)
    assert view["state"] == "finished"
    killed, *_, last = view["attempts"]
    assert killed["miner"].lower() == answering and last["miner"].lower() == other["account"].lower()
    assert 0 < killed["output_tokens"] < 600 and int(killed["owed"]) > 0, "it is owed what it delivered"
    expected = 0
    for attempt in view["attempts"]:
        assert attempt["first_token"] == expected, "nothing twice, nothing left out"
        expected += attempt["output_tokens"]
    assert expected == 600
    receipts = town_api.receipts(task)
    [final] = [one for one in receipts if one["receipt"]["receipt"]["miner"].lower() == last["miner"].lower()]
    assert text.endswith(final["text"])
    assert final["receipt"]["receipt"]["first_token"] == last["first_token"]

    assert town_api.ask()[0].choices, "one miner is enough to go on"
    miners[answering]["daemon"] = town.start("miner", "--config", miners[answering]["path"], "--json")
    miners[answering]["daemon"].ready()
    all_ready(town_api, miners)


def test_the_router_is_killed_and_started_again(town, town_api, router, miners):
    _, task = town_api.ask()
    receipts, session, view = town_api.receipts(task), town_api.get("/v1/session"), town_api.task(task)
    router["daemon"].kill()
    router["daemon"] = town.start("router", "--config", router["path"], "--json")
    again = router["daemon"].ready()
    assert again["api_url"] == router["api_url"] and again["address"] == router["address"]
    assert open(again["api_key_file"]).read().strip() == router["key"]
    now = town_api.get("/v1/session")
    assert now["id"] == session["id"] and int(now["spent"]) >= int(session["spent"])
    assert now["sequence"] >= session["sequence"]
    assert town_api.receipts(task) == receipts and town_api.task(task) == view
    all_ready(town_api, miners)
    _, newer = town_api.ask()
    assert town_api.receipts(newer)
    assert town_api.spent() > int(session["spent"])


def test_miners_redeem_what_they_earned(town, town_api):
    """The miners bring vouchers that are worth a COR to the chain by themselves."""
    arguments = ("--rpc", town.rpc, "--deployment", town.folder / "deployment.json", "--json")
    session = town_api.get("/v1/session")["id"]

    def redeemed():
        town_api.ask(messages=STORY, logit_bias=NEVER_END, max_tokens=400)
        return int(json.loads(succeed("session", "show", session, *arguments))["spent"])

    paid = wait_for(redeemed, 90, "a voucher to be redeemed", pause=1)
    assert paid <= town_api.spent(), "never more than what is owed"
    events = [json.loads(line) for line in succeed("session", "list", *arguments).splitlines()]
    assert any("redeem" in json.dumps(event).lower() for event in events), events


def test_a_wallet_opens_a_session_and_gets_its_deposit_back(town, router, tmp_path):
    """The last test of the story: it moves the chain's clock."""
    keystore = tmp_path / "key.json"
    account = succeed("wallet", "new", keystore, env=PASSWORD).strip()
    town.fund(account, 50)
    on_chain = ("--rpc", town.rpc, "--deployment", town.folder / "deployment.json")
    arguments = ("--keystore", keystore, "--router", router["account"], "--deposit", "20", "--json")
    opened = json.loads(succeed("session", "open", *on_chain, *arguments, env=PASSWORD))["session"]
    shown = json.loads(succeed("session", "show", opened, *on_chain, "--json"))
    assert int(shown["deposit"]) == 20 * COR and shown["owner"].lower() == account.lower()
    assert town.cor(account) == 30 * COR
    succeed("session", "close", opened, *on_chain, "--keystore", keystore, env=PASSWORD)
    early = fail("session", "finalize", opened, *on_chain, "--keystore", keystore, env=PASSWORD)
    assert "grace" in early.lower() or "early" in early.lower(), early
    cast(town.rpc, "rpc", "evm_increaseTime", str(shown["terms"]["grace_s"] + 1))
    succeed("session", "finalize", opened, *on_chain, "--keystore", keystore, env=PASSWORD)
    assert town.cor(account) == 50 * COR
    assert "error:" in fail("session", "open", *on_chain, *arguments[:-2], "60", env=PASSWORD), "more than it has"
