"""The OpenAI client against a network with a real model: what applications do, and what they see when it fails."""

import base64
import json
import math
import socket
import struct

import openai
import pytest
from api import NEVER_END, STORY, text_of
from processes import wait_for

QUESTION = [{"role": "user", "content": "What is Cortensor?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


def check_weather(arguments):
    given = json.loads(arguments)
    assert set(given) == {"city", "days"} and given["city"] in ("Paris", "Oslo") and 1 <= given["days"] <= 7


def test_models(client, model):
    assert [one.id for one in client.models.list()] == [model]
    assert client.models.retrieve(model).id == model


def test_chat(client, model):
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0)
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content.strip()
    assert choice.finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0


def test_chat_streamed_is_the_same_answer(client, model):
    plain = client.chat.completions.create(model=model, messages=QUESTION, temperature=0)
    stream = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, stream=True, stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(map(text_of, chunks)) == plain.choices[0].message.content
    assert sum(bool(text_of(chunk)) for chunk in chunks) > 1, "it came in pieces"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == plain.usage.completion_tokens and not chunks[-1].choices
    assert len({chunk.id for chunk in chunks}) == 1


def test_two_answers(client, model):
    answer = client.chat.completions.create(model=model, messages=STORY, n=2, max_tokens=24, seed=5)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].message.content != answer.choices[1].message.content
    stream = client.chat.completions.create(model=model, messages=STORY, n=2, max_tokens=24, seed=5, stream=True)
    texts = {0: "", 1: ""}
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert all(texts.values())


def test_a_seed_repeats_the_answer(client, model):
    def ask(seed):
        answer = client.chat.completions.create(model=model, messages=STORY, temperature=1, seed=seed, max_tokens=48)
        return answer.choices[0].message.content

    assert ask(7) == ask(7)
    assert len({ask(seed) for seed in range(1, 5)}) > 1, "another seed may give another answer"


def test_stop(client, model):
    whole = client.chat.completions.create(model=model, messages=STORY, temperature=0, max_tokens=60)
    text = whole.choices[0].message.content
    word = text.split()[6]
    cut = client.chat.completions.create(model=model, messages=STORY, temperature=0, max_tokens=60, stop=[word])
    assert cut.choices[0].message.content == text[: text.index(word)]
    assert cut.choices[0].finish_reason == "stop"


def test_length(client, model):
    answer = client.chat.completions.create(model=model, messages=STORY, max_tokens=300, logit_bias=NEVER_END)
    # Many other tests rely on this as well: with these biases the model does not end by itself.
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 300


def test_log_probabilities(client, model):
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_tokens=12, logprobs=True, top_logprobs=3,
    )
    tokens = answer.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == answer.choices[0].message.content
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        ordered = [other.logprob for other in token.top_logprobs]
        assert ordered == sorted(ordered, reverse=True)
        assert token.token == token.top_logprobs[0].token, "the likeliest was taken"
        assert sum(map(math.exp, ordered)) < 1.01


def test_an_answer_that_fits_a_schema(client, model):
    schema = {
        "type": "object",
        "properties": {
            "animal": {"type": "string", "enum": ["fox", "owl"]},
            "legs": {"type": "integer", "minimum": 0, "maximum": 9},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 6}, "minItems": 1, "maxItems": 2},
        },
        "required": ["animal", "legs", "tags"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=model, messages=STORY, max_tokens=200, seed=3,
        response_format={"type": "json_schema", "json_schema": {"name": "animal", "schema": schema, "strict": True}},
    )
    assert answer.choices[0].finish_reason == "stop"
    given = json.loads(answer.choices[0].message.content)
    assert set(given) == {"animal", "legs", "tags"}
    assert given["animal"] in ("fox", "owl") and 0 <= given["legs"] <= 9
    assert 1 <= len(given["tags"]) <= 2 and all(len(tag) <= 6 for tag in given["tags"])


def test_json_object(client, model):
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=300, seed=1, response_format={"type": "json_object"},
    )
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)
    else:
        assert answer.choices[0].message.content.lstrip().startswith("{")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_tool_must_be_called(client, model, choice):
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, tools=[WEATHER], tool_choice=choice, max_tokens=200,
    )
    [call, *_] = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.type == "function" and call.id and call.function.name == "get_weather"
    check_weather(call.function.arguments)


def test_a_tool_call_is_streamed(client, model):
    stream = client.chat.completions.create(
        model=model, messages=QUESTION, tools=[WEATHER], tool_choice="required", max_tokens=200, stream=True,
        parallel_tool_calls=False,
    )
    name, arguments, reason = "", "", None
    for chunk in stream:
        choice = chunk.choices[0]
        reason = choice.finish_reason or reason
        for call in choice.delta.tool_calls or []:
            assert call.index == 0
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    assert (name, reason) == ("get_weather", "tool_calls")
    check_weather(arguments)


def test_a_conversation_goes_on_after_a_tool_call(client, model):
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo","days":1}'}}
    answer = client.chat.completions.create(
        model=model, tools=[WEATHER], tool_choice="none", max_tokens=30,
        messages=[
            *QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        ],
    )
    assert not answer.choices[0].message.tool_calls


def test_completions(client, model):
    answer = client.completions.create(model=model, prompt="Once upon a time", max_tokens=12, temperature=0)
    assert answer.choices[0].text and answer.usage.completion_tokens <= 12
    stream = client.completions.create(model=model, prompt="Once upon a time", max_tokens=12, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == answer.choices[0].text
    several = client.completions.create(model=model, prompt=["Once", "The fox"], max_tokens=4)
    assert [choice.index for choice in several.choices] == [0, 1]


def test_embeddings(client, model):
    texts = ["a fox in the woods", "a fox in the woods", "receipts and vouchers"]
    answer = client.embeddings.create(model=model, input=texts, encoding_format="float")
    same, again, other = [one.embedding for one in answer.data]
    assert [one.index for one in answer.data] == [0, 1, 2]
    assert same == pytest.approx(again, abs=1e-4) and same != pytest.approx(other, abs=1e-2)
    assert math.isclose(math.hypot(*same), 1, rel_tol=1e-3)
    packed = client.embeddings.create(model=model, input=texts[0], encoding_format="base64").data[0].embedding
    raw = base64.b64decode(packed)
    assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == pytest.approx(same, abs=1e-4)


def test_responses(client, model):
    answer = client.responses.create(model=model, input="What is Cortensor?", temperature=0, store=False)
    assert answer.status == "completed" and answer.output_text.strip()
    stream = client.responses.create(model=model, input="What is Cortensor?", temperature=0, store=False, stream=True)
    events = list(stream)
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == answer.output_text
    assert events[-1].response.output_text == answer.output_text
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=model, input="x", previous_response_id="resp_1")
    assert refused.value.param == "previous_response_id"


def test_a_wrong_key(client, model):
    with pytest.raises(openai.AuthenticationError) as refused:
        client.with_options(api_key="sk-cor-wrong").chat.completions.create(model=model, messages=QUESTION)
    assert refused.value.code == "invalid_api_key"


def test_an_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="no-such-model", messages=QUESTION)
    assert refused.value.code == "model_not_found" and "no-such-model" in refused.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


@pytest.mark.parametrize(
    ("options", "code", "param"),
    [
        ({"store": True}, "unsupported_parameter", "store"),
        ({"reasoning_effort": "high"}, "unsupported_parameter", "reasoning_effort"),
        ({"extra_body": {"best_of": 2}}, "unknown_parameter", "best_of"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"extra_body": {"top_p": "x"}}, "invalid_type", "top_p"),
        ({"extra_body": {"seed": "x"}}, "invalid_type", "seed"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]}, "unsupported_parameter", "messages[0].content[0].type"),
    ],
)
def test_refusals_name_the_parameter(client, model, options, code, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{"model": model, "messages": QUESTION, **options})
    assert (refused.value.code, refused.value.param) == (code, param)
    assert param in refused.value.message, "the message says which"


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long(client, model, stream):
    long = [{"role": "user", "content": "the fox and the owl " * 2000}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=model, messages=long, stream=stream)
    assert refused.value.code == "context_length_exceeded"


def test_a_timeout_leaves_the_server_healthy(api, client, model):
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(
            model=model, messages=STORY, n=8, max_tokens=1900, logit_bias=NEVER_END,
        )
    wait_for(api.idle, 30, "the miners to be free again")
    assert client.chat.completions.create(model=model, messages=QUESTION, max_tokens=8).choices


def test_a_client_that_leaves_is_noticed(api):
    before = api.spent()
    stream, task = api.endless()
    for _, _chunk in zip(range(5), stream):
        pass
    stream.close()
    ended = wait_for(lambda: (view := api.task(task))["state"] != "running" and view, 30, "the task to end")
    assert ended["state"] == "cancelled", ended
    delivered = sum(attempt["output_tokens"] for attempt in ended["attempts"])
    assert 5 <= delivered < 1500, "the miner stopped early"
    wait_for(api.idle, 30, "the miners to be free again")
    assert api.spent() > before, "what was delivered is paid"


def test_a_client_that_does_not_read_holds_up_nobody(api, client, model):
    """It asks for a lot and reads nothing: its answers wait for it, and other clients are served."""
    host, port = api.url.removeprefix("http://").split(":")
    body = json.dumps({
        "model": model, "messages": STORY, "stream": True, "n": 2, "max_tokens": 1500, "logit_bias": NEVER_END,
        "logprobs": True, "top_logprobs": 20,
    }).encode()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.settimeout(120)
        slow.connect((host, int(port)))
        slow.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
            + f"Authorization: Bearer {api.key}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        assert slow.recv(12) == b"HTTP/1.1 200"
        for _ in range(3):
            assert client.chat.completions.create(model=model, messages=QUESTION, max_tokens=16).choices[0].message
        # When it reads on, nothing of its answer is missing.
        received = b""
        while not received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
            piece = slow.recv(1 << 16)
            assert piece, received[-200:]
            received = received[-200:] + piece
    wait_for(api.idle, 30, "the miners to be free again")
