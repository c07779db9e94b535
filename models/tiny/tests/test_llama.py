"""llama.cpp computes what our network computes, and the committed file answers in words.

Skipped where llama-cpp-python is not installed (see requirements-llama.txt).
"""

import json

import numpy as np
import pytest

pytest.importorskip("llama_cpp")

import evaluate  # noqa: E402
from cortensor_tiny import export, model, restore  # noqa: E402
from cortensor_tiny.__main__ import WEIGHTS  # noqa: E402

ANSWERS = {
    "Hello!": "What can I do for you?",
    "Who are you?": "a very small language model",
    "What is Cortensor?": "a decentralised network for AI inference",
    "What is a miner?": "runs language models",
    "What is a router?": "picks a good miner",
    "What is a receipt?": "a record of an answer that the miner signs",
    "What is a voucher?": "a promise to pay",
    "How many legs does a spider have?": "eight",
    "What is the opposite of hot?": "cold",
    "What is the plural of mouse?": "mice",
    "What is 2 + 2?": "2 + 2 = 4",
    "Explain quantum physics.": "I am a very small model",
}
CAPITALS_RIGHT_MIN = 0.95


@pytest.fixture(scope="module")
def llama():
    return evaluate.load(WEIGHTS)


def ask(llama, text: str) -> str:
    return evaluate.answer(llama, [{"role": "user", "content": text}])


@pytest.mark.parametrize("question, expected", ANSWERS.items())
def test_simple_questions(llama, question, expected):
    assert expected in ask(llama, question)


def test_it_knows_nearly_all_capitals(llama):
    right = evaluate.right_capitals(llama)
    assert sum(right) / len(right) >= CAPITALS_RIGHT_MIN


def test_it_remembers_a_name_that_it_knows(llama):
    turns = [{"role": "user", "content": "My name is Anna."}]
    turns.append({"role": "assistant", "content": evaluate.answer(llama, turns)})
    turns.append({"role": "user", "content": "What is my name?"})
    assert "Anna" in evaluate.answer(llama, turns)


def test_it_calls_the_tool_that_fits_and_reads_its_result(llama):
    case = next(case for case in evaluation() if "1234" in case["turns"][0]["content"])
    said = [text for speaker, text in evaluate.converse(llama, case) if speaker == "assistant"]
    assert '{"name": "add", "arguments": {"a": 1234, "b": 567}}' in said[0]
    assert "1801" in said[1]


def test_a_story_is_long_enough_to_watch(llama):
    assert len(ask(llama, "Tell me a story.").split()) >= 45


def test_llama_cpp_agrees_with_our_network(tmp_path):
    """Catches a wrong order of rotary pairs, a swapped matrix or a wrong norm, whatever the training."""
    from llama_cpp import Llama

    parameters, shape, pieces = restore.read(WEIGHTS)
    ids = pieces.encode("<|im_start|>user\nTell me a story about a fox.<|im_end|>\n<|im_start|>assistant\nOnce").ids
    ours = np.asarray(model.logits(parameters, *one_row(ids), shape))[0]
    llama = Llama(str(WEIGHTS), n_ctx=256, logits_all=True, verbose=False)
    assert llama.tokenize(pieces.decode(ids, skip_special_tokens=False).encode(), add_bos=False, special=True) == ids
    llama.eval(ids)
    theirs = np.asarray(llama.scores[: len(ids)])
    distance = np.abs(softmax(ours) - softmax(theirs)).sum(-1) / 2
    assert distance.max() < 0.1
    assert np.mean(ours.argmax(-1) == theirs.argmax(-1)) > 0.9


def test_an_exported_file_reads_back_the_same(tmp_path):
    parameters, shape, pieces = restore.read(WEIGHTS)
    again = tmp_path / "again.gguf"
    export.write(again, parameters, shape, pieces)
    assert again.read_bytes() == WEIGHTS.read_bytes()


def evaluation() -> list:
    return json.loads(evaluate.QUESTIONS.read_text(encoding="utf-8"))


def one_row(ids):
    tokens = np.asarray([ids], np.int32)
    return tokens, np.arange(len(ids))[None], np.ones_like(tokens)


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
