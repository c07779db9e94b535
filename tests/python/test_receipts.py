"""`cortensor receipt verify` on receipts as they are downloaded: whole, tampered with, and no receipts at all."""

import copy
import json

import pytest
from processes import fail, run, succeed


@pytest.fixture(scope="module")
def receipt(api):
    _, task = api.ask("What is a receipt?")
    return api.receipts(task)[0]


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "receipt.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_a_receipt_holds_by_itself(file, receipt):
    said = succeed("receipt", "verify", file(receipt))
    assert "✓ file" in said and "receipt audit" in said, "it also says what it did not check"
    told = json.loads(succeed("receipt", "verify", file(receipt), "--json"))
    assert told["ok"] is True and told["task"] == receipt["receipt"]["receipt"]["task"]


def test_a_list_of_receipts(api, file):
    _, task = api.ask()
    downloaded = api.request(f"/v1/tasks/{task}/receipts")[2].decode()
    api.receipts(task)
    assert "✓ file" in succeed("receipt", "verify", file(downloaded))


def test_a_receipt_holds_against_the_chain(file, receipt, network):
    told = json.loads(succeed("receipt", "verify", file(receipt), "--rpc", network["l2_rpc"], "--json"))
    assert told["ok"] and {check["check"] for check in told["checks"]} == {"file", "registration", "session"}
    # The other chain knows none of it.
    done = run("receipt", "verify", file(receipt), "--rpc", network["l1_rpc"])
    assert done.returncode == 1 and ("✗" in done.stdout or done.stderr.startswith("error:")), done


def change(path, value):
    def apply(receipt):
        changed = copy.deepcopy(receipt)
        at = changed
        for step in path[:-1]:
            at = at[step]
        assert path[-1] in at if isinstance(at, dict) else True, path
        at[path[-1]] = value(at[path[-1]]) if callable(value) else value
        return changed

    return apply


BODY = ("receipt", "receipt")
TAMPERED = {
    "a higher amount": (change((*BODY, "amount"), lambda amount: str(int(amount) + 1)), "the receipt is signed by"),
    "more tokens": (change((*BODY, "output_tokens"), lambda count: count + 1), "the receipt is signed by"),
    "another miner": (change((*BODY, "miner"), "0x" + "11" * 20), "the receipt is signed by"),
    "other tokens": (change(("tokens",), lambda tokens: [{**tokens[0], "id": tokens[0]["id"] ^ 1}, *tokens[1:]]), "trace root"),
    "a token less": (change(("tokens",), lambda tokens: tokens[:-1]), "tokens, the file holds"),
    "another question": (change(("header", "header", "request_hash"), "0x" + "22" * 32), "the header is signed by"),
    "another prompt": (change(("request", "max_tokens"), lambda most: most + 1), "request is not the header's"),
    "other evidence": (change(("evidence",), lambda leaves: ["0x" + "44" * 32, *leaves[1:]]), "trace root"),
    "another salt": (change(("salt",), "0x" + "33" * 32), "trace root"),
    "a cheaper voucher": (change(("voucher", "voucher", "cumulative_amount"), "1"), "the voucher is invalid"),
    "another chain": (change(("domain", "chain_id"), lambda chain: chain + 1), "is signed by"),
    "another version": (change(("version",), 1), "version 1"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_receipt_that_was_tampered_with(file, receipt, name):
    tamper, sentence = TAMPERED[name]
    done = run("receipt", "verify", file(tamper(receipt)))
    assert done.returncode == 1, done
    assert "✗ file" in done.stdout and sentence in done.stdout, done.stdout
    told = json.loads(run("receipt", "verify", file(tamper(receipt)), "--json").stdout)
    assert told["ok"] is False


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "not json", '{"version": 1}', "[1]", "\x00\x01", "[" * 5000],
    ids=["empty", "no fields", "no receipts", "no JSON", "one field", "a number", "zeros", "deep"],
)
def test_a_file_that_is_no_receipt(file, content):
    error = fail("receipt", "verify", file(content))
    assert "receipt" in error


def test_unknown_fields_are_refused(file, receipt):
    assert "surprise" in fail("receipt", "verify", file({**receipt, "surprise": 1}))


def test_no_file(tmp_path):
    assert "cannot read" in fail("receipt", "verify", tmp_path / "nothing.json")
    assert "error:" in fail("receipt", "verify", tmp_path)
    binary = tmp_path / "binary"
    binary.write_bytes(bytes(range(256)))
    fail("receipt", "verify", binary)


def test_a_chain_that_does_not_answer(file, receipt):
    error = fail("receipt", "verify", file(receipt), "--rpc", "http://127.0.0.1:1")
    assert "127.0.0.1:1" in error


@pytest.fixture(scope="module")
def opened(api):
    _, task = api.ask("What is an audit?")
    api.receipts(task)
    return json.loads(api.request(f"/v1/tasks/{task}/receipts?open=true")[2])


def test_an_honest_answer_passes_its_audit(file, opened):
    assert opened[0]["opened"] and len(opened[0]["opened"]) == len(opened[0]["tokens"])
    told = json.loads(succeed("receipt", "audit", file(opened), "--json"))
    summary = told["summary"]
    assert told["ok"] is True and told["faults"] == []
    assert summary["tokens"] == summary["sketches"] == len(opened[0]["tokens"])
    assert summary["sketch_distance_micro"] < 10_000
    assert "✓ nothing in it convicts" in succeed("receipt", "audit", file(opened))


def test_an_audit_needs_the_evidence_and_the_right_model(file, receipt, opened, tmp_path):
    assert "open=true" in fail("receipt", "audit", file(receipt))
    assert "no model file" in fail("receipt", "audit", file(opened), "--model", tmp_path / "none.gguf")
    swapped = copy.deepcopy(opened)
    first, second, *rest = swapped[0]["opened"][0]["alternatives"]
    swapped[0]["opened"][0]["alternatives"] = [second, first, *rest]
    assert "does not hold" in fail("receipt", "audit", file(swapped))


def test_a_parameter_that_does_not_exist(api):
    _, task = api.ask()
    status = api.request(f"/v1/tasks/{task}/receipts?openn=true")[0]
    assert status == 400
