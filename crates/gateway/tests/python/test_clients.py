"""The OpenAI and Anthropic Python clients against the gateway over a scripted service (examples/scripted.rs).

What the service answers is decided by words in the last message; see tests/support/scripted.rs.
"""

import base64
import json
import os
import struct
import subprocess
import unittest

import anthropic
import openai

MODEL = "scripted"
KEY = "test-key"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Server:
    """The example server; it ends with its standard input."""

    def __init__(self):
        built = os.environ.get("CORTENSOR_SCRIPTED")
        command = [built] if built else ["cargo", "run", "--quiet", "-p", "cortensor-gateway", "--example", "scripted"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), "the example did not print its address"

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0, "the server did not end cleanly"
        self.process.stdout.close()


def setUpModule():
    global server
    server = Server()


def tearDownModule():
    server.close()


def said(words):
    return [{"role": "user", "content": words}]


class OpenAi(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=30)
        self.addCleanup(self.client.close)

    def chat(self, words, **options):
        return self.client.chat.completions.create(model=MODEL, messages=said(words), **options)

    def test_chat(self):
        answer = self.chat("say Hello there", temperature=0.2, seed=7, user="u", metadata={"a": "b"}, store=False)
        self.assertEqual(answer.choices[0].message.content, "Hello there")
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertEqual((answer.usage.prompt_tokens, answer.usage.prompt_tokens_details.cached_tokens), (7, 2))
        self.assertTrue(answer._request_id.startswith("req_"))

    def test_task_header(self):
        raw = self.client.chat.completions.with_raw_response.create(model=MODEL, messages=said("say x"))
        self.assertRegex(raw.headers["x-cortensor-task"], "^0x[0-9a-f]{64}$")
        self.assertEqual(raw.parse().choices[0].message.content, "x")

    def test_extensions(self):
        extra = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1}
        self.assertEqual(self.chat("say x", extra_body=extra).choices[0].message.content, "x")

    def test_stream(self):
        chunks = list(self.chat("say Hello there", stream=True, stream_options={"include_usage": True}))
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        self.assertEqual(text, "Hello there")
        self.assertEqual(chunks[-1].usage.completion_tokens, 3)
        self.assertEqual(chunks[-2].choices[0].finish_reason, "stop")

    def test_stream_helper(self):
        with self.client.chat.completions.stream(model=MODEL, messages=said("say Hello there")) as stream:
            events = [event.type for event in stream]
            final = stream.get_final_completion()
        self.assertIn("content.delta", events)
        self.assertEqual(final.choices[0].message.content, "Hello there")

    def test_several_choices_and_limits(self):
        answer = self.chat("say Hello there", n=2, max_completion_tokens=2)
        self.assertEqual([choice.message.content for choice in answer.choices], ["Hello th"] * 2)
        self.assertEqual({choice.finish_reason for choice in answer.choices}, {"length"})
        self.assertEqual(self.chat("say Hello there", stop=["the"]).choices[0].message.content, "Hello ")

    def test_tools(self):
        answer = self.chat("weather?", tools=[TOOL], tool_choice="auto")
        message = answer.choices[0].message
        self.assertEqual((answer.choices[0].finish_reason, message.content), ("tool_calls", "Let me check."))
        self.assertEqual([json.loads(call.function.arguments)["city"] for call in message.tool_calls], ["Rome", "Oslo"])
        results = [{"role": "tool", "tool_call_id": call.id, "content": "say Sun"} for call in message.tool_calls]
        history = said("weather?") + [message] + results
        answer = self.client.chat.completions.create(model=MODEL, messages=history, tools=[TOOL])
        self.assertEqual(answer.choices[0].message.content, "Sun")

    def test_tools_streamed(self):
        calls = {}
        for chunk in self.chat("weather?", tools=[TOOL], stream=True):
            for call in chunk.choices[0].delta.tool_calls or []:
                entry = calls.setdefault(call.index, {"id": "", "arguments": ""})
                entry["id"] += call.id or ""
                entry["arguments"] += call.function.arguments or ""
        self.assertEqual([json.loads(call["arguments"])["city"] for call in calls.values()], ["Rome", "Oslo"])
        self.assertEqual(len({call["id"] for call in calls.values()}), 2)

    def test_one_tool_call(self):
        answer = self.chat("weather?", tools=[TOOL], parallel_tool_calls=False)
        self.assertEqual(len(answer.choices[0].message.tool_calls), 1)

    def test_json_schema(self):
        schema = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
        self.assertEqual(json.loads(self.chat("?", response_format=form).choices[0].message.content), {"answer": 42})

    def test_logprobs(self):
        answer = self.chat("say abcdefgh", logprobs=True, top_logprobs=3)
        content = answer.choices[0].logprobs.content
        self.assertEqual([entry.token for entry in content], ["abcd", "efgh"])
        self.assertEqual((content[0].logprob, content[0].bytes), (-0.25, list(b"abcd")))
        self.assertEqual([top.logprob for top in content[0].top_logprobs], [-0.25, -0.5, -0.75])
        chunks = self.chat("say abcdefgh", logprobs=True, stream=True)
        tokens = [e.token for c in chunks if c.choices and c.choices[0].logprobs for e in c.choices[0].logprobs.content]
        self.assertEqual(tokens, ["abcd", "efgh"])

    def test_models(self):
        self.assertEqual({model.id for model in self.client.models.list()}, {"scripted", "plain"})
        self.assertEqual(self.client.models.retrieve(MODEL).owned_by, "cortensor")

    def test_embeddings(self):
        answer = self.client.embeddings.create(model=MODEL, input=["a", "bcd"])
        self.assertEqual(answer.data[1].embedding, [3.0, 0.5, -1.0])
        answer = self.client.embeddings.create(model=MODEL, input="a", encoding_format="base64")
        self.assertEqual(struct.unpack("<3f", base64.b64decode(answer.data[0].embedding)), (1.0, 0.5, -1.0))

    def test_completions(self):
        answer = self.client.completions.create(model=MODEL, prompt=["say a", "say b"], logprobs=1)
        self.assertEqual([choice.text for choice in answer.choices], ["a", "b"])
        self.assertEqual(answer.choices[0].logprobs.tokens, ["a"])
        chunks = self.client.completions.create(model=MODEL, prompt=[1, 2], stream=True)
        self.assertEqual("".join(chunk.choices[0].text for chunk in chunks), "You said: [1, 2]")

    def test_responses(self):
        answer = self.client.responses.create(model=MODEL, input="say Hello there", instructions="Be kind.", store=False)
        self.assertEqual((answer.status, answer.output_text), ("completed", "Hello there"))
        self.assertEqual(answer.usage.input_tokens_details.cached_tokens, 2)
        form = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}}
        answer = self.client.responses.create(model=MODEL, input="?", text=form)
        self.assertEqual(json.loads(answer.output_text), {"answer": 42})

    def test_responses_streamed(self):
        with self.client.responses.stream(model=MODEL, input="say Hello there") as stream:
            text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            final = stream.get_final_response()
        self.assertEqual((text, final.output_text, final.usage.output_tokens), ("Hello there", "Hello there", 3))

    def test_responses_tools(self):
        tool = {"type": "function", **TOOL["function"], "strict": False}
        answer = self.client.responses.create(model=MODEL, input="weather?", tools=[tool])
        calls = [item for item in answer.output if item.type == "function_call"]
        self.assertEqual([json.loads(call.arguments)["city"] for call in calls], ["Rome", "Oslo"])
        history = said("weather?") + [item.model_dump(exclude_none=True) for item in answer.output]
        history += [{"type": "function_call_output", "call_id": call.call_id, "output": "say Sun"} for call in calls]
        answer = self.client.responses.create(model=MODEL, input=history, tools=[tool])
        self.assertEqual(answer.output_text, "Sun")
        with self.client.responses.stream(model=MODEL, input="weather?", tools=[tool]) as stream:
            final = stream.get_final_response()
        self.assertEqual([item.type for item in final.output], ["message", "function_call", "function_call"])

    def refused(self, error, code, param, **options):
        with self.assertRaises(error) as caught:
            self.client.chat.completions.create(**{"model": MODEL, "messages": said("x"), **options})
        self.assertEqual((caught.exception.code, caught.exception.param), (code, param))
        return caught.exception

    def test_errors(self):
        self.refused(openai.NotFoundError, "model_not_found", "model", model="nobody")
        self.refused(openai.BadRequestError, "invalid_value", "temperature", temperature=9)
        self.refused(openai.BadRequestError, "unsupported_parameter", "store", store=True)
        self.refused(openai.BadRequestError, "unknown_parameter", "colour", extra_body={"colour": "red"})
        image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
        self.refused(openai.BadRequestError, "unsupported_parameter", "messages[0].content[0].type", messages=image)
        self.refused(openai.BadRequestError, "unsupported_parameter", "tools", model="plain", tools=[TOOL])
        self.refused(openai.BadRequestError, "context_length_exceeded", "messages", messages=said("refuse"), stream=True)
        busy = self.refused(openai.RateLimitError, "rate_limit_exceeded", None, messages=said("busy"))
        self.assertEqual(busy.response.headers["retry-after"], "2")
        stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0)
        with self.assertRaises(openai.AuthenticationError):
            stranger.models.list()
        stranger.close()

    def test_a_stream_that_breaks_off_raises(self):
        with self.assertRaises(openai.APIError) as caught:
            list(self.chat("break this now", stream=True))
        self.assertIn("every miner left", str(caught.exception))

    def test_timeouts(self):
        with self.assertRaises(openai.APITimeoutError):
            self.chat("silent", timeout=0.3)

    def test_a_stream_can_be_left(self):
        with self.chat("slow", stream=True) as stream:
            self.assertEqual(next(iter(stream)).choices[0].delta.content, "tick ")


class Anthropic(unittest.TestCase):
    def setUp(self):
        self.client = anthropic.Anthropic(base_url=server.url, api_key=KEY, max_retries=0, timeout=30)
        self.addCleanup(self.client.close)

    def message(self, words, **options):
        return self.client.messages.create(model=MODEL, max_tokens=99, messages=said(words), **options)

    tool = {"name": "weather", "description": "w", "input_schema": TOOL["function"]["parameters"]}

    def test_message(self):
        answer = self.message("say Hello there", system="Be kind.", extra_body={"temperature": 0.5, "top_k": 4})
        self.assertEqual((answer.content[0].text, answer.stop_reason), ("Hello there", "end_turn"))
        self.assertEqual((answer.usage.input_tokens, answer.usage.cache_read_input_tokens), (5, 2))
        answer = self.message("say Hello there", stop_sequences=["the"])
        self.assertEqual((answer.stop_reason, answer.stop_sequence), ("stop_sequence", "the"))

    def test_stream(self):
        with self.client.messages.stream(model=MODEL, max_tokens=99, messages=said("say Hello there")) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual((text, final.stop_reason, final.usage.output_tokens), ("Hello there", "end_turn", 3))

    def test_tools(self):
        answer = self.message("weather?", tools=[self.tool], tool_choice={"type": "any"})
        self.assertEqual(answer.stop_reason, "tool_use")
        calls = [block for block in answer.content if block.type == "tool_use"]
        self.assertEqual([call.input["city"] for call in calls], ["Rome", "Oslo"])
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": "say Sun"} for call in calls]
        blocks = [block.model_dump(exclude_none=True) for block in answer.content]
        history = said("weather?") + [{"role": "assistant", "content": blocks}, {"role": "user", "content": results}]
        answer = self.client.messages.create(model=MODEL, max_tokens=99, messages=history, tools=[self.tool])
        self.assertEqual(answer.content[0].text, "Sun")

    def test_tools_streamed(self):
        options = {"model": MODEL, "max_tokens": 99, "messages": said("weather?"), "tools": [self.tool]}
        with self.client.messages.stream(**options) as stream:
            final = stream.get_final_message()
        self.assertEqual([block.type for block in final.content], ["text", "tool_use", "tool_use"])
        self.assertEqual(final.content[2].input, {"city": "Oslo"})

    def test_json_schema(self):
        answer = self.message("?", output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}})
        self.assertEqual(json.loads(answer.content[0].text), {"answer": 42})

    def test_count_tokens(self):
        counted = self.client.messages.count_tokens(model=MODEL, messages=said("two words"), system="one")
        self.assertEqual(counted.input_tokens, 3)

    def test_older_version(self):
        older = {"anthropic-version": "2023-06-01", "x-api-key": KEY}
        self.assertEqual(self.message("say x", extra_headers=older).content[0].text, "x")

    def test_errors(self):
        with self.assertRaises(anthropic.NotFoundError) as caught:
            self.client.messages.create(model="nobody", max_tokens=1, messages=said("x"))
        self.assertEqual(caught.exception.body["error"]["type"], "not_found_error")
        with self.assertRaises(anthropic.BadRequestError) as caught:
            self.message("x", thinking={"type": "enabled", "budget_tokens": 1024})
        self.assertIn("thinking", caught.exception.message)
        with self.assertRaises(anthropic.RateLimitError):
            self.message("busy")
        with self.assertRaises(anthropic.APIStatusError) as caught:
            list(self.message("break this now", stream=True))
        self.assertIn("every miner left", str(caught.exception))
        stranger = anthropic.Anthropic(base_url=server.url, api_key="wrong", max_retries=0)
        with self.assertRaises(anthropic.AuthenticationError):
            stranger.messages.create(model=MODEL, max_tokens=1, messages=said("x"))
        stranger.close()


if __name__ == "__main__":
    unittest.main()
