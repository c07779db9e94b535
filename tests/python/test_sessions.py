"""A session of one's own, as docs/clients.md tells it: opened with a wallet, served on this machine, paid, closed.

The tests of this file are one story and run in their order.
"""

import json
import pathlib

import pytest
from api import Api, text_of
from processes import Daemon, cast, fail, send, succeed, wait_for

PASSWORD = {"CORTENSOR_PASSWORD": "a password of the tests"}
COR = 10**18


class Customer:
    """Somebody with a wallet and a session."""

    def __init__(self, folder, network):
        self.folder, self.network = folder, network
        self.rpc, self.token = network["l2_rpc"], network["contracts"]["token"]
        self.chain = ("--rpc", self.rpc, "--deployment", network["deployment"], "--keystore", folder / "me.json")
        self.account = self.run("wallet", "new", folder / "me.json").strip()
        send(self.rpc, self.account, "--value", "1ether")
        send(self.rpc, self.token, "transfer(address,uint256)", self.account, str(50 * COR))
        router = ("--router", network["api_url"])
        opened = self.run("session", "open", *self.chain, *router, "--deposit", "20", "--json")
        self.session = json.loads(opened)["session"]
        self.own = (self.session, *self.chain, *router, "--data", folder / "book")
        self.daemon = None

    def run(self, *arguments):
        return succeed(*arguments, env=PASSWORD)

    def refused(self, *arguments):
        return fail(*arguments, env=PASSWORD)

    def serve(self):
        self.daemon = Daemon(self.folder, "session", "serve", *self.own, "--listen", "127.0.0.1:0", "--json", env=PASSWORD)
        ready = self.daemon.ready()
        return Api(ready["api_url"], pathlib.Path(ready["api_key_file"]).read_text().strip())

    def cor(self):
        return int(cast(self.rpc, "call", self.token, "balanceOf(address)(uint256)", self.account).split()[0])


@pytest.fixture(scope="module")
def customer(network, tmp_path_factory):
    customer = Customer(tmp_path_factory.mktemp("customer"), network)
    try:
        yield customer
    finally:
        if customer.daemon:
            customer.daemon.end()


@pytest.fixture(scope="module")
def own(customer):
    return customer.serve()


def test_an_openai_client_is_served_from_a_session_of_its_own(own):
    answer, task = own.ask("What is a receipt?")
    assert "receipt" in answer.choices[0].message.content.lower()
    receipts = own.receipts(task)
    assert receipts[0]["header"]["header"]["session"] == own.get("/v1/session")["id"]
    assert own.spent() == int(receipts[0]["receipt"]["receipt"]["amount"])


def test_streams_tools_and_errors_pass_through(own):
    stream, _ = own.ask("Tell me a story about a fox.", stream=True, max_tokens=30)
    assert len("".join(text_of(chunk) for chunk in stream)) > 20
    status, _, body = own.request("/v1/chat/completions", {"model": "no-such-model", "messages": [{"role": "user", "content": "x"}]})
    assert status == 404, body
    status, _, body = own.request("/v1/chat/completions", {"model": own.model, "messages": []})
    assert status == 400 and json.loads(body)["error"]["param"] == "messages", body
    counted = own.request("/v1/messages/count_tokens", {"model": own.model, "messages": [{"role": "user", "content": "Hi"}]})
    assert counted[0] == 200 and json.loads(counted[2])["input_tokens"] > 3, counted
    stopped = {"model": own.model, "max_tokens": 60, "stop_sequences": ["zebra", "a"], "messages": [{"role": "user", "content": "What is a miner?"}]}
    status, _, body = own.request("/v1/messages", stopped)
    assert status == 200 and json.loads(body)["stop_sequence"] == "a", body
    status, _, _ = own.request("/v1/models", key="wrong")
    assert status == 401


def test_the_deposit_can_be_raised(customer, own):
    assert "5 COR" in customer.run("session", "top-up", customer.session, "5", *customer.chain)

    def raised():
        own.ask("Hello!", max_tokens=1)
        return int(own.get("/v1/session")["deposit"]) == 25 * COR

    wait_for(raised, 40, "the router to see it", pause=1)


def test_a_kill_loses_nothing(customer, own):
    own.ask("What is a voucher?")
    customer.daemon.kill()
    again = customer.serve()
    answer, _ = again.ask("What is a miner?")
    assert answer.choices[0].message.content
    assert customer.daemon.stop() == 0
    paid = json.loads(customer.run("session", "pay", *customer.own, "--json"))
    assert paid["objections"] == [] and int(paid["signed_wei"]) > 0


def test_the_rest_comes_back_at_once_and_the_session_is_over(customer):
    paid = int(json.loads(customer.run("session", "pay", *customer.own, "--json"))["signed_wei"])
    closed = customer.run(
        "session", "close", customer.session, *customer.chain, "--router", customer.network["api_url"],
        "--data", customer.folder / "book",
    )
    assert "closed" in closed
    wait_for(lambda: customer.cor() == 50 * COR - paid, 20, "the rest of the deposit")
    assert "open a new one" in customer.refused("session", "serve", *customer.own)


def test_what_is_wrong_is_said(customer, network, tmp_path):
    elsewhere = [part if part != network["api_url"] else "http://127.0.0.1:1" for part in customer.own]
    assert "cannot be reached" in customer.refused("session", "pay", *elsewhere)
    other = customer.folder / "other.json"
    customer.run("wallet", "new", other)
    wrong = [part if part != customer.folder / "me.json" else other for part in customer.own]
    assert "the session's key is" in customer.refused("session", "pay", *wrong)
    assert "neither a URL nor an address" in customer.refused(
        "session", "open", *customer.chain, "--router", "nonsense", "--deposit", "1"
    )
