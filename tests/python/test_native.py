"""The network's own routes: tasks, sessions, nodes, health, metrics, the OpenAPI document; and bodies that are none."""

import json

import pytest

from processes import succeed


def test_a_task_tells_who_answered_and_why(api):
    answer, task = api.ask()
    view = api.task(task)
    assert view["id"] == task and view["state"] == "finished" and view["model"] == api.model
    [attempt] = view["attempts"]
    assert attempt["outcome"] == "finished" and attempt["reason"] and attempt["first_token"] == 0
    assert attempt["output_tokens"] == answer.usage.completion_tokens == view["usage"]["output_tokens"]
    assert attempt["miner"] in [node["operator"] for node in api.get("/v1/nodes")]
    assert 0 <= view["first_token_ms"] <= view["duration_ms"]


def test_the_session_pays_what_the_receipts_say(api):
    before = api.spent()
    _, task = api.ask()
    [receipt] = api.receipts(task)
    body = receipt["receipt"]["receipt"]
    price = {way: int(amount) for way, amount in body["price"].items()}
    due = price["input"] * body["input_tokens"] + price["output"] * body["output_tokens"]
    assert int(body["amount"]) == -(-due // 1_000_000)
    assert api.spent() - before == int(body["amount"])
    assert int(body["amount"]) == int(api.task(task)["attempts"][0]["owed"])
    ended = body["finish"] == "end_of_sequence"
    assert receipt["tokens"] and len(receipt["tokens"]) == body["output_tokens"] + ended, "the token that ended it is there"


def test_the_session_is_on_chain(api, network, tmp_path):
    view = api.get("/v1/session")
    assert view["id"] == network["session"] and view["state"] == "open"
    deployment = tmp_path / "deployment.json"
    deployment.write_text(json.dumps({"chain_id": network["chain_id"], "block": 0, **network["contracts"]}))
    arguments = ("--rpc", network["l2_rpc"], "--deployment", deployment, "--json")
    shown = json.loads(succeed("session", "show", view["id"], *arguments))
    assert int(shown["deposit"]) == int(view["deposit"])
    assert shown["router"].lower() == network["router"].lower()
    events = [json.loads(line) for line in succeed("session", "list", *arguments).splitlines()]
    assert events, "the opening was an event"


def test_nodes(api, network):
    nodes = api.get("/v1/nodes")
    assert sorted(node["operator"] for node in nodes) == sorted(network["miners"])
    for node in nodes:
        assert node["state"] == "ready" and node["models"][0]["name"] == api.model


def test_nodes_on_the_command_line(api, network, tmp_path):
    env = {"CORTENSOR_API_KEY": network["api_key"]}
    nodes = [json.loads(line) for line in succeed("nodes", "--api", api.url, "--json", env=env).splitlines()]
    assert sorted(node["operator"] for node in nodes) == sorted(network["miners"])
    for node in nodes:
        assert node["standing"] == "good" and node["reputation_ppm"] >= 500_000
        assert {"reputation_ppm", "evidence", "uptime_ppm"} <= set(node["reasons"])
        assert {"speed", "class", "price"} <= set(node["models"][0]["reasons"])
    table = succeed("nodes", "--api", api.url, "--why", env=env)
    assert "REPUTATION" in table and "the contract Scores as of epoch" in table
    deployment = tmp_path / "deployment.json"
    deployment.write_text(json.dumps({"chain_id": network["chain_id"], "block": 0, **network["contracts"]}))
    on_chain = succeed("nodes", "--rpc", network["l2_rpc"], "--deployment", deployment, "--json").splitlines()
    assert sorted(json.loads(line)["operator"] for line in on_chain) == sorted(network["miners"])


def test_a_request_says_where_it_may_go(api, network):
    for miner in network["miners"]:
        answer, task = api.ask(extra_body={"cortensor": {"miner": miner, "min_tier": "A"}})
        assert answer.choices and api.task(task)["attempts"][-1]["miner"] == miner
    body = {"model": api.model, "messages": [{"role": "user", "content": "x"}], "cortensor": {"miner": "0x" + "11" * 20}}
    status, _, refusal = api.request("/v1/chat/completions", body)
    assert status == 404 and b"is not connected to this router" in refusal


def test_a_receipt_says_what_its_tier_buys(api, network, tmp_path):
    _, task = api.ask()
    [receipt] = api.receipts(task)
    bought = receipt["guarantee"]
    assert bought["rate_ppm"] > 0 and int(bought["at_stake"]) > int(bought["expected_loss"]) > 0
    file, deployment = tmp_path / "receipt.json", tmp_path / "deployment.json"
    file.write_text(json.dumps(receipt))
    deployment.write_text(json.dumps({"chain_id": network["chain_id"], "block": 0, **network["contracts"]}))
    on_chain = ("--rpc", network["l2_rpc"], "--deployment", deployment)
    told = json.loads(succeed("receipt", "verify", file, *on_chain, "--json"))
    [guarantee] = [check for check in told["checks"] if check["check"] == "guarantee"]
    assert "tier A" in guarantee["detail"] and "at stake" in guarantee["detail"]


def test_an_engine_is_measured():
    told = json.loads(succeed("node", "benchmark", "--smoke", "--seed", "1", "--json", seconds=120))
    assert told["tier"] == "A" and told["capability"]["decode_tokens_per_second"] > 0
    assert told["capability"]["trace_ppm"] == 1_000_000 and told["tokens"] <= 6_000


def test_health_and_metrics(api):
    assert api.request("/healthz")[0] == 200
    status, _, body = api.request("/readyz")
    assert status == 200 and json.loads(body)["ready"] is True
    api.ask()
    status, headers, body = api.request("/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    values, kinds = {}, {}
    for line in body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds, "each metric is described once"
            kinds[name] = kind
        elif not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            assert series not in values, "each series is given once"
            values[series] = float(value)
    assert values['cortensor_http_requests_total{route="/v1/chat/completions",status="200"}'] >= 1
    assert values['cortensor_http_tokens_total{kind="output"}'] > 0
    described = {series.split("{")[0] for series in values}
    for name in described:
        base = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        assert name in kinds or kinds.get(base) == "histogram", name


def test_the_openapi_document(api):
    status, headers, body = api.request("/openapi.json")
    document = json.loads(body)
    assert status == 200 and headers["content-type"] == "application/json"
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] and document["info"]["version"]
    seen = set()

    def walk(node):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                target = document
                for step in node["$ref"].removeprefix("#/").split("/"):
                    target = target[step.replace("~1", "/").replace("~0", "~")]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["operationId"] not in seen, "each operation has a name of its own"
            seen.add(operation["operationId"])
            assert operation["responses"], (path, method)
            named = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
            assert named == {part.strip("{}") for part in path.split("/") if part.startswith("{")}
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/tasks/{id}", "/v1/session", "/readyz", "/metrics"):
        assert path in document["paths"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"[]", "invalid_type"),
        (b"[" * 100_000, "json_too_deep"),
        (b'{"model": "x", "model": "y", "messages": []}', None),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "missing_required_parameter"),
    ],
)
def test_malformed_bodies(api, body, code):
    status, _, answer = api.request("/v1/chat/completions", body)
    error = json.loads(answer)["error"]
    assert status == 400 and error["message"] and (code is None or error["code"] == code), error


def test_a_body_that_is_too_large(api):
    try:
        status, _, answer = api.request("/v1/chat/completions", b'{"model":"' + b"x" * (9 << 20) + b'"}')
    except OSError:
        # The server need not read on to the end of a body that it has refused.
        pass
    else:
        assert status == 413 and json.loads(answer)["error"]["message"]
    assert api.request("/healthz")[0] == 200


def test_what_is_not_there(api):
    for path, status in [("/v1/nothing", 404), ("/v1/tasks/0x" + "11" * 32, 404), ("/v1/tasks/x", 400), ("/v1/chat/completions", 405)]:
        got, _, body = api.request(path)
        assert got == status and json.loads(body)["error"]["message"], path
    status, headers, _ = api.request("/v1/session", key="sk-cor-wrong")
    assert status == 401 and headers["www-authenticate"] == "Bearer"
