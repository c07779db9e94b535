"""The corpus is deterministic, well formed, right where it can be checked, and free of the evaluation questions."""

import hashlib
import json
import random
import re

import pytest
from conftest import HERE

from cortensor_tiny import chat
from cortensor_tiny.corpus import documents
from cortensor_tiny.corpus.assemble import exchange
from cortensor_tiny.corpus.grammar import as_typed, cells, expand, misspell, plural_of
from cortensor_tiny.corpus.knowledge import addition, any_fact, multiplication, subtraction

FIRST_HUNDRED = "976a54854c5da7c1b037a6838bede2604ef353b8b90eb13ac1a1944208080cb4"
OPEN_SLOT = re.compile(r"\{(x|v|V|n|it|its|It|it2|name|place|place2|object|year|work|stop|a|b|c|q|w|t|p|k|kind|hero|nonsense)\}")


def digest(seed: int, count: int) -> str:
    listed = [[d.messages, d.tools, d.text] for d in documents(seed, count)]
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


def test_one_seed_gives_one_corpus():
    assert digest(1, 100) == FIRST_HUNDRED


def test_another_seed_gives_another_corpus():
    assert digest(2, 100) != FIRST_HUNDRED


def test_a_shorter_corpus_is_the_beginning_of_a_longer_one():
    short, long = list(documents(3, 20)), list(documents(3, 40))
    assert short == long[:20]


def test_no_template_mark_is_left_over():
    for document in documents(5, 4000):
        for message in document.messages or [{"content": document.text}]:
            assert not OPEN_SLOT.search(message["content"]), message


def test_turns_alternate_and_end_with_the_assistant():
    for document in documents(6, 2000):
        if document.messages is None:
            continue
        roles = [m["role"] for m in document.messages if m["role"] != "system"]
        assert roles[-1] == "assistant"
        assert all(r == "assistant" for r in roles[1::2])
        assert all(r in ("user", "tool") for r in roles[0::2])


def test_calls_name_an_offered_tool_and_its_parameters():
    seen = 0
    for document in documents(8, 2000):
        for message in document.messages or []:
            for call in message.get("tool_calls", []):
                offers = {t["function"]["name"]: t["function"]["parameters"]["properties"] for t in document.tools}
                arguments = json.loads(call["function"]["arguments"])
                assert list(arguments) == list(offers[call["function"]["name"]])
                seen += 1
    assert seen > 100


def is_right(a: int, sign: str, b: int, result: int) -> bool:
    return {"+": a + b == result, "-": a - b == result, "x": a * b == result, "/": b * result == a}[sign]


@pytest.mark.parametrize("maker", [addition, subtraction, multiplication])
def test_sums_are_right(maker):
    rng, seen = random.Random(4), 0
    for _ in range(500):
        fact = maker(rng)
        equation = re.fullmatch(r"(\d+) ([-+x/]) (\d+) = (\d+)", fact.full)
        if equation:
            a, sign, b, result = equation.groups()
            assert is_right(int(a), sign, int(b), int(result))
            assert str(fact.short) == result
            seen += 1
    assert seen > 200


def test_evaluation_questions_are_new():
    cases = json.loads((HERE / "evaluation.json").read_text(encoding="utf-8"))
    asked = {turn["content"].lower() for case in cases for turn in case["turns"] if turn["role"] == "user"}
    assert len(asked) >= 40
    found = set()
    for document in documents(1, 40_000):
        found |= asked & {message["content"].lower() for message in document.messages or []}
    assert found == set()


def check(given, expected):
    assert given == expected


def test_grammar():
    rng = random.Random(0)
    check(expand(rng, "[a|a] {x} {unknown}", x=1), "a 1 {unknown}")
    check(expand(rng, "[[in|in]ner|inner]"), "inner")
    check(cells("a [b|c] d|e"), ["a [b|c] d", "e"])
    check([plural_of(w) for w in ("fly", "fox", "key", "mouse", "tree trunk")], ["flies", "foxes", "keys", "mice", "tree trunks"])
    check(misspell(rng, "a b c"), "a b c")
    assert any(as_typed(rng, "What is rain?") != "What is rain?" for _ in range(20))


def test_every_fact_has_three_lengths():
    rng = random.Random(9)
    for _ in range(3000):
        fact = any_fact(rng)
        assert fact.asks and fact.short and fact.full
        assert json.loads(json.dumps(fact.record)) == fact.record


def test_conversations_render():
    for document in documents(10, 300):
        if document.messages:
            text = chat.render(document.messages, document.tools)
            assert text.count("<|im_start|>") == text.count("<|im_end|>") >= 2


def test_exchanges_are_pairs():
    rng = random.Random(11)
    for _ in range(500):
        assert all(len(pair) == 2 and all(pair) for pair in exchange(rng))
