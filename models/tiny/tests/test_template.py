"""The chat template gives the same text in jinja2 and in minijinja, for every shape of message."""

import json

import minijinja
import pytest

from cortensor_tiny import chat

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
BARE = {"type": "function", "function": {"name": "now"}}
HI = {"role": "user", "content": "Hi"}
HI_TEXT = "<|im_start|>user\nHi<|im_end|>\n"
KIND_TEXT = "<|im_start|>system\nBe kind.<|im_end|>\n" + HI_TEXT
PROMPT = "<|im_start|>assistant\n"


def rendered(messages, tools=None, prompt=False) -> str:
    ours = chat.render(messages, tools, prompt)
    theirs = minijinja.Environment().render_str(
        chat.template_source(), messages=messages, tools=tools, add_generation_prompt=prompt
    )
    assert ours == theirs
    return ours


def called(arguments):
    call = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


CALL_TEXT = PROMPT + '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>\n'
CASES = {
    "no prompt": ([HI], None, False, HI_TEXT),
    "prompt": ([HI], None, True, HI_TEXT + PROMPT),
    "empty tools": ([HI], [], True, HI_TEXT + PROMPT),
    "system": ([{"role": "system", "content": "Be kind."}, HI], None, False, KIND_TEXT),
    "developer": ([{"role": "developer", "content": "Be kind."}, HI], None, False, KIND_TEXT),
    "parts": ([{"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}], None, False, HI_TEXT),
    "tools": ([HI], [WEATHER, BARE], False, "<|im_start|>system\nTools:\n- get_weather(city): Weather of a city\n- now()<|im_end|>\n" + HI_TEXT),
    "system and tools": ([{"role": "system", "content": "S"}, HI], [BARE], False, "<|im_start|>system\nS\n\nTools:\n- now()<|im_end|>\n" + HI_TEXT),
    "call": ([called('{"city": "Rome"}')], None, False, CALL_TEXT),
    "two calls": ([called('{"city": "Rome"}') | {"tool_calls": called('{"city": "Rome"}')["tool_calls"] * 2}], None, False, CALL_TEXT.replace("<|im_end|>\n", "\n") + CALL_TEXT.removeprefix(PROMPT)),
    "tool result": ([{"role": "tool", "tool_call_id": "1", "content": "18"}], None, False, "<|im_start|>tool\n18<|im_end|>\n"),
    "nothing": ([], None, True, PROMPT),
    "later system": ([HI, {"role": "system", "content": "S"}], None, False, HI_TEXT + "<|im_start|>system\nS<|im_end|>\n"),
}


@pytest.mark.parametrize("messages, tools, prompt, expected", CASES.values(), ids=CASES)
def test_rendering(messages, tools, prompt, expected):
    assert rendered(messages, tools, prompt) == expected


def test_arguments_may_be_an_object():
    text = chat.render([called({"city": "Rome"})])
    body = text.split("<tool_call>\n")[1].split("\n</tool_call>")[0]
    assert json.loads(body) == {"name": "get_weather", "arguments": {"city": "Rome"}}


def test_content_beside_a_call_is_kept():
    message = called("{}") | {"content": "One moment."}
    assert rendered([message]).startswith(PROMPT + "One moment.\n<tool_call>\n")
