"""From documents to training batches: token ids, loss weights, segments and positions.

Short documents are packed into rows of a fixed length; a segment number keeps
them from seeing each other. In some rows positions jump forward between turns,
so that the model meets distances far beyond the row length (positional skips).
"""

import random
from dataclasses import dataclass

import numpy as np

from . import chat
from .corpus import Document
from .tokenizer import END_OF_TEXT, TURN_END, TURN_START

PROMPT_WEIGHT = 25
ANSWER_WEIGHT = 255
SKIP_SHARE = 0.3


@dataclass
class Encoded:
    """Ids of one document, a weight (0 to 255) for predicting each, and where turns start."""

    ids: np.ndarray
    weights: np.ndarray
    turns: np.ndarray


@dataclass
class Row:
    tokens: np.ndarray
    weights: np.ndarray
    segments: np.ndarray
    positions: np.ndarray


def document_text(document: Document) -> str:
    """The exact text of a document, control tokens included."""
    if document.text is not None:
        return document.text + END_OF_TEXT
    return chat.render(document.messages, document.tools).rstrip("\n")


class Encoder:
    """Encodes documents and marks which tokens an assistant would have to produce."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.start = tokenizer.token_to_id(TURN_START)
        self.end = tokenizer.token_to_id(TURN_END)
        self.header = tokenizer.encode(f"{TURN_START}assistant\n").ids

    def encode(self, document: Document) -> Encoded:
        ids = self.tokenizer.encode(document_text(document)).ids
        array = np.asarray(ids, np.uint16)
        if document.text is not None:
            return Encoded(array, np.full(len(ids), ANSWER_WEIGHT, np.uint8), np.zeros(0, int))
        weights = np.full(len(ids), PROMPT_WEIGHT, np.uint8)
        size = len(self.header)
        for at in np.flatnonzero(array == self.start):
            if ids[at : at + size] == self.header:
                stop = ids.index(self.end, at) + 1
                weights[at + size : stop] = ANSWER_WEIGHT
        return Encoded(array, weights, np.flatnonzero(array == self.start))


def positions_of(rng: random.Random, document: Encoded, context: int) -> np.ndarray:
    """Consecutive positions, or positions that jump ahead at some turns."""
    length = len(document.ids)
    positions = np.arange(length)
    if rng.random() < SKIP_SHARE and length < context:
        budget = rng.randrange(context - length)
        places = [int(t) for t in document.turns[1:] if rng.random() < 0.7] or [0]
        cuts = sorted(rng.randrange(budget + 1) for _ in places)
        for place, cut, previous in zip(places, cuts, [0, *cuts]):
            positions[place:] += cut - previous
    return positions


def pack(encoded, length: int, context: int, seed: int):
    """Fill rows of `length` tokens, looking a little ahead for documents that fit."""
    rng = random.Random(seed)
    waiting = []
    row = []
    used = 0
    for document in encoded:
        for at in range(0, len(document.ids), length):
            cut = slice(at, at + length)
            turns = document.turns[(document.turns >= at) & (document.turns < at + length)] - at
            waiting.append(Encoded(document.ids[cut], document.weights[cut], turns))
        while len(waiting) >= 64:
            fit = next((i for i, w in enumerate(waiting) if used + len(w.ids) <= length), None)
            if fit is None:
                yield _finish(rng, row, length, context)
                row, used = [], 0
            else:
                row.append(waiting.pop(fit))
                used += len(row[-1].ids)


def _finish(rng, parts, length, context) -> Row:
    row = Row(*(np.zeros(length, kind) for kind in (np.uint16, np.uint8, np.uint8, np.uint16)))
    at = 0
    for number, part in enumerate(parts, start=1):
        cut = slice(at, at + len(part.ids))
        row.tokens[cut], row.weights[cut] = part.ids, part.weights
        row.segments[cut] = number
        row.positions[cut] = positions_of(rng, part, context)
        row.weights[at] = 0
        at += len(part.ids)
    return row
