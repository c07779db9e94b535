"""`cortensor serve`: one model, or a server that runs already, behind our API; no network and no money."""

import json

import openai
import pytest
from api import Api
from processes import fail

KEY = "a key of the tests"


@pytest.fixture
def served(start):
    """The bundled model behind a key."""
    environment = {"CORTENSOR_API_KEY": KEY}
    daemon = start("serve", "--listen", "127.0.0.1:0", "--parallel", "2", "--json", env=environment)
    return daemon, daemon.ready()


def ask(api, **options):
    messages = [{"role": "user", "content": "What is Cortensor?"}]
    return api.openai.chat.completions.create(model=api.model, messages=messages, max_tokens=24, temperature=0, **options)


def test_a_model_is_served_to_those_who_have_the_key(served):
    daemon, ready = served
    assert ready["api_key_required"]
    api = Api(ready["api_url"], KEY)
    assert api.model == ready["model"]
    whole = ask(api)
    text = whole.choices[0].message.content
    assert text and whole.usage.completion_tokens > 0
    chunks = list(ask(api, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    with pytest.raises(openai.AuthenticationError):
        ask(Api(ready["api_url"], "another key"))
    assert api.get("/readyz")["ready"]
    status, _, body = api.request("/v1/session")
    assert status == 404 and "no sessions here" in json.loads(body)["error"]["message"]
    assert daemon.stop() == 0


def test_our_api_in_front_of_a_server_that_runs_already(served, start):
    _, behind = served
    front = start(
        "serve", "--upstream", behind["api_url"] + "/v1", "--upstream-model", behind["model"], "--listen", "127.0.0.1:0",
        "--json", env={"CORTENSOR_UPSTREAM_KEY": KEY},
    )
    ready = front.ready()
    assert not ready["api_key_required"]
    through, straight = Api(ready["api_url"], "any"), Api(behind["api_url"], KEY)
    one, other = ask(through), ask(straight)
    assert one.choices[0].message.content == other.choices[0].message.content
    assert one.usage.prompt_tokens == other.usage.prompt_tokens
    streamed = list(ask(through, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert text == other.choices[0].message.content
    assert streamed[-1].usage.completion_tokens == other.usage.completion_tokens
    assert front.stop() == 0


def test_what_cannot_be_served_is_said():
    assert "cannot use" in fail("serve", "--upstream", "http://127.0.0.1:9/v1", "--upstream-model", "m", "--listen", "127.0.0.1:0")
    assert "no model file" in fail("serve", "--model", "nothing.gguf", "--listen", "127.0.0.1:0")
    assert "1 to 4096" in fail("serve", "--listen", "127.0.0.1:0", env={"CORTENSOR_API_KEY": " "})
