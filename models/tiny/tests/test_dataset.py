"""Encoding and packing: which tokens are learned, what may see what, where positions jump."""

import numpy as np
import pytest

from cortensor_tiny import tokenizer
from cortensor_tiny.__main__ import plain_parts
from cortensor_tiny.corpus import Document, documents
from cortensor_tiny.dataset import ANSWER_WEIGHT, PROMPT_WEIGHT, Encoder, pack

LENGTH, CONTEXT = 257, 2048


@pytest.fixture(scope="module")
def words():
    return tokenizer.train(plain_parts(1500), 1024)


def test_only_the_answer_has_full_weight(words):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    encoded = Encoder(words).encode(Document(messages=messages))
    learned = words.decode(encoded.ids[encoded.weights == ANSWER_WEIGHT].tolist(), skip_special_tokens=False)
    assert learned == "Hello!<|im_end|>"
    assert set(encoded.weights) == {PROMPT_WEIGHT, ANSWER_WEIGHT}


def test_rows_are_filled_and_kept_apart(words):
    encoder = Encoder(words)
    rows = list(pack((encoder.encode(d) for d in documents(2, 600)), LENGTH, CONTEXT, seed=1))
    assert len(rows) > 50
    assert np.mean([np.count_nonzero(row.segments) for row in rows]) > 0.9 * LENGTH
    for row in rows:
        for segment in range(1, row.segments.max() + 1):
            inside = np.flatnonzero(row.segments == segment)
            assert np.all(np.diff(inside) == 1)
            assert np.all(np.diff(row.positions[inside].astype(int)) >= 1)
            assert row.weights[inside[0]] == 0
        assert row.positions.max() < CONTEXT


def test_some_positions_jump(words):
    encoder = Encoder(words)
    rows = list(pack((encoder.encode(d) for d in documents(2, 600)), LENGTH, CONTEXT, seed=1))
    assert max(row.positions.max() for row in rows) > LENGTH


def test_the_tokenizer_is_deterministic(words):
    again = tokenizer.train(plain_parts(1500), 1024)
    assert again.to_str() == words.to_str()
