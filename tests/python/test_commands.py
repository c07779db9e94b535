"""The commands that a person types: chat, wallet, model, doctor, help."""

import json
import shutil

import pytest
from processes import REPOSITORY, fail, foundry, run, send, succeed

MODEL = REPOSITORY / "models" / "tiny" / "cortensor-tiny-q8_0.gguf"
PASSWORD = {"CORTENSOR_PASSWORD": "a password of the tests"}


def test_chat(network):
    key = {"CORTENSOR_API_KEY": network["api_key"]}
    said = succeed("chat", "--api", network["api_url"], "--temperature", "0", "What is Cortensor?", env=key)
    assert said.strip()
    talk = succeed("chat", "--api", network["api_url"], "--max-tokens", "16", env=key, input="Who are you?\nAnd who am I?\n\n")
    assert talk.count("> ") == 3, "two questions and the empty line that ends it"


def test_chat_says_what_is_wrong(network, tmp_path):
    assert "API key" in fail("chat", "--api", network["api_url"], "--data", tmp_path, "hello")
    assert "API key" in fail("chat", "--api", network["api_url"], "hello", env={"CORTENSOR_API_KEY": "wrong"})
    assert "127.0.0.1:1" in fail("chat", "--api", "http://127.0.0.1:1", "hello", env={"CORTENSOR_API_KEY": "wrong"})
    key = {"CORTENSOR_API_KEY": network["api_key"]}
    assert "no-such" in fail("chat", "--api", network["api_url"], "--model", "no-such", "hello", env=key)


def test_wallet(network, tmp_path):
    deployment = tmp_path / "deployment.json"
    deployment.write_text(json.dumps({"chain_id": network["chain_id"], "block": 0, **network["contracts"]}))
    keystore = tmp_path / "key.json"
    account = succeed("wallet", "new", keystore, env=PASSWORD).strip()
    assert json.loads(keystore.read_text())["version"] == 3
    assert keystore.stat().st_mode & 0o077 == 0, "nobody else can read it"
    whole = keystore.read_bytes()
    assert "key.json" in fail("wallet", "new", keystore, env=PASSWORD)
    assert keystore.read_bytes() == whole, "it is never overwritten"
    assert "CORTENSOR_PASSWORD" in fail("wallet", "new", tmp_path / "other.json")
    send(network["l2_rpc"], account, "--value", "2ether")
    send(network["l2_rpc"], network["contracts"]["token"], "transfer(address,uint256)", account, "5")
    for who in (account, keystore):
        arguments = ("wallet", "balance", who, "--rpc", network["l2_rpc"], "--deployment", deployment, "--json")
        told = json.loads(succeed(*arguments))
        assert (told["address"].lower(), told["coins_wei"], int(told["cor_wei"])) == (account.lower(), str(2 * 10**18), 5)
    # The keystore is the standard one: another program opens it.
    (tmp_path / "password").write_text(PASSWORD["CORTENSOR_PASSWORD"])
    opened = succeed("wallet", "address", "--keystore", keystore, "--password-file", tmp_path / "password", program=foundry("cast"))
    assert opened.strip().lower() == account.lower()
    assert "nobody" in fail("wallet", "balance", "nobody", "--rpc", network["l2_rpc"], "--deployment", deployment)


def test_models(tmp_path):
    told = succeed("model", "inspect", MODEL)
    assert "cortensor-tiny" in told and "Q8_0" in told
    data = ("--data", tmp_path / "data")
    assert "cortensor-tiny" in succeed("model", "list", *data)
    mine = shutil.copy(MODEL, tmp_path / "mine.gguf")
    succeed("model", "add", mine, *data)
    assert "mine.gguf" in succeed("model", "list", *data)
    succeed("model", "reset", *data)
    assert "mine.gguf" not in succeed("model", "list", *data)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(MODEL.read_bytes()[:100_000])
    assert "broken.gguf" in fail("model", "inspect", broken)


def test_doctor(tmp_path):
    findings = [json.loads(line) for line in succeed("doctor", "--json", cwd=tmp_path).splitlines()]
    assert findings and all(finding["ok"] for finding in findings)
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"
    done = run("doctor", "--config", tmp_path / "none.toml", cwd=tmp_path)
    assert done.returncode == 1 and "none.toml" in done.stdout


COMMANDS = ["demo", "up", "chain", "router", "miner", "wallet", "session", "chat", "model", "receipt", "deploy", "bench", "doctor"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    assert "Usage: cortensor" in succeed(command, "--help")
    done = run(command, "--no-such-option")
    assert done.returncode == 2 and "--no-such-option" in done.stderr
