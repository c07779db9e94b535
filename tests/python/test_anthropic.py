"""The Anthropic client against the same network."""

import anthropic
import pytest

QUESTION = [{"role": "user", "content": "What is Cortensor?"}]
TOOL = {
    "name": "look_up",
    "description": "Looks a word up.",
    "input_schema": {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": ["receipt", "voucher"]}},
        "required": ["word"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def claude(network):
    return anthropic.Anthropic(base_url=network["api_url"], api_key=network["api_key"], max_retries=0, timeout=120)


def test_a_message(claude, model):
    message = claude.messages.create(model=model, max_tokens=64, messages=QUESTION, extra_body={"temperature": 0}, system="Be brief.")
    assert message.role == "assistant" and message.content[0].type == "text" and message.content[0].text.strip()
    assert message.stop_reason in ("end_turn", "max_tokens")
    assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0


def test_a_message_streamed_is_the_same(claude, model):
    options = {"model": model, "max_tokens": 64, "messages": QUESTION, "extra_body": {"temperature": 0}}
    plain = claude.messages.create(**options)
    with claude.messages.stream(**options) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == plain.content[0].text == final.content[0].text
    assert final.usage.output_tokens == plain.usage.output_tokens
    assert final.stop_reason == plain.stop_reason


def test_a_tool(claude, model):
    options = {"model": model, "max_tokens": 200, "messages": QUESTION, "tools": [TOOL], "tool_choice": {"type": "any"}}
    message = claude.messages.create(**options)
    used = [block for block in message.content if block.type == "tool_use"]
    assert message.stop_reason == "tool_use"
    assert used[0].name == "look_up" and used[0].input["word"] in ("receipt", "voucher")
    with claude.messages.stream(**options) as stream:
        final = stream.get_final_message()
    used = [block for block in final.content if block.type == "tool_use"]
    assert final.stop_reason == "tool_use" and used[0].input["word"] in ("receipt", "voucher")
    answered = claude.messages.create(
        model=model, max_tokens=30, tools=[TOOL], tool_choice={"type": "none"},
        messages=[
            *QUESTION, {"role": "assistant", "content": [used[0].model_dump(include={"type", "id", "name", "input"})]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": used[0].id, "content": "a proof of payment"}]},
        ],
    )
    assert answered.content[0].type == "text"


def test_limits_and_stops(claude, model):
    message = claude.messages.create(model=model, max_tokens=3, messages=QUESTION, extra_body={"temperature": 0})
    assert message.stop_reason == "max_tokens" and message.usage.output_tokens == 3
    whole = claude.messages.create(model=model, max_tokens=60, messages=QUESTION, extra_body={"temperature": 0}).content[0].text
    word = whole.split()[3]
    cut = claude.messages.create(model=model, max_tokens=60, messages=QUESTION, extra_body={"temperature": 0}, stop_sequences=[word])
    assert cut.content[0].text == whole[: whole.index(word)]
    assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", word)


def test_of_several_stops_the_one_that_matched_is_named(claude, model):
    options = {"model": model, "max_tokens": 60, "messages": QUESTION, "extra_body": {"temperature": 0}}
    word = claude.messages.create(**options).content[0].text.split()[3]
    cut = claude.messages.create(**options, stop_sequences=["never said", word, "nor this"])
    assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", word)


def test_tokens_are_counted_as_they_are_charged(claude, model):
    prompt = {"model": model, "messages": QUESTION, "system": "Be brief.", "tools": [TOOL]}
    counted = claude.messages.count_tokens(**prompt).input_tokens
    usage = claude.messages.create(max_tokens=3, **prompt).usage
    assert counted == usage.input_tokens + usage.cache_read_input_tokens
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.count_tokens(model=model, messages=[])
    assert "messages" in refused.value.body["error"]["message"]
    with pytest.raises(anthropic.NotFoundError) as refused:
        claude.messages.count_tokens(model="no-such-model", messages=QUESTION)
    assert refused.value.body["error"]["type"] == "not_found_error"


def test_errors_have_their_own_shape(claude, model):
    with pytest.raises(anthropic.AuthenticationError) as refused:
        claude.with_options(api_key="wrong").messages.create(model=model, max_tokens=3, messages=QUESTION)
    assert refused.value.body["error"]["type"] == "authentication_error"
    with pytest.raises(anthropic.NotFoundError) as refused:
        claude.messages.create(model="no-such-model", max_tokens=3, messages=QUESTION)
    assert refused.value.body["type"] == "error" and refused.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.create(
            model=model, max_tokens=2000, messages=QUESTION, thinking={"type": "enabled", "budget_tokens": 1024},
        )
    assert "thinking" in refused.value.body["error"]["message"]
