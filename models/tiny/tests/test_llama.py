"""llama.cpp computes what our network computes, and the committed file answers in words.

Skipped where llama-cpp-python is not installed (see requirements-llama.txt).
"""

import numpy as np
import pytest

pytest.importorskip("llama_cpp")

import evaluate  # noqa: E402
from cortensor_tiny import export, model, restore  # noqa: E402
from cortensor_tiny.__main__ import WEIGHTS  # noqa: E402

ANSWERS = {
    "Hello!": "What can I do for you?",
    "What is Cortensor?": "a decentralised network for AI inference",
    "What is a voucher?": "a promise to pay",
}


@pytest.fixture(scope="module")
def llama():
    return evaluate.load(WEIGHTS)


def ask(llama, text: str) -> str:
    return evaluate.answer(llama, [{"role": "user", "content": text}])


@pytest.mark.parametrize("question, expected", ANSWERS.items())
def test_simple_questions(llama, question, expected):
    assert expected in ask(llama, question)


def test_a_story_is_long_enough_to_watch(llama):
    assert len(ask(llama, "Tell me a story.").split()) >= 45


def test_llama_cpp_agrees_with_our_network(tmp_path):
    """Catches a wrong order of rotary pairs, a swapped matrix or a wrong norm, whatever the training."""
    from llama_cpp import Llama

    parameters, shape, words = restore.read(WEIGHTS)
    ids = words.encode("<|im_start|>user\nTell me a story about a fox.<|im_end|>\n<|im_start|>assistant\nOnce").ids
    ours = np.asarray(model.logits(parameters, *one_row(ids), shape))[0]
    llama = Llama(str(WEIGHTS), n_ctx=256, logits_all=True, verbose=False)
    assert llama.tokenize(words.decode(ids, skip_special_tokens=False).encode(), add_bos=False, special=True) == ids
    llama.eval(ids)
    theirs = np.asarray(llama.scores[: len(ids)])
    assert np.abs(log_softmax(ours) - log_softmax(theirs)).max() < 0.3
    assert np.mean(ours.argmax(-1) == theirs.argmax(-1)) > 0.9


def test_an_exported_file_reads_back_the_same(tmp_path):
    parameters, shape, words = restore.read(WEIGHTS)
    again = tmp_path / "again.gguf"
    export.write(again, parameters, shape, words)
    assert again.read_bytes() == WEIGHTS.read_bytes()


def one_row(ids):
    tokens = np.asarray([ids], np.int32)
    return tokens, np.arange(len(ids))[None], np.ones_like(tokens)


def log_softmax(scores):
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
