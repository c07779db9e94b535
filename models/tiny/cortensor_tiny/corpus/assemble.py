"""Puts exchanges together into conversations, with other people's untidy typing on the user's side."""

import random
from dataclasses import dataclass

from . import behaviours, everyday, knowledge, network, tools, unknown, writing
from .grammar import as_typed

PLAIN_SYSTEMS = [
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "You are a helpful and polite assistant. Answer the questions of the user.",
    "You are an AI assistant.",
    "You are cortensor-tiny.",
    "Be helpful.",
    "You are a chatbot on the Cortensor network.",
    "You answer questions.",
]


@dataclass
class Document:
    """Either a conversation (with the tools it may use) or a plain text."""

    messages: list | None = None
    tools: list | None = None
    text: str | None = None


def fact_exchange(maker):
    def exchange(rng):
        fact = maker(rng)
        return [(fact.asks[0], fact.full)]

    return exchange


EXCHANGES = [
    (fact_exchange(knowledge.any_fact), 42),
    (fact_exchange(network.concept_fact), 11),
    (fact_exchange(network.question_fact), 8),
    (everyday.exchange, 18),
    (writing.story, 4),
    (writing.poem, 4),
    (writing.list_of, 5),
    (writing.counting, 3),
    (writing.how_to, 4),
    (behaviours.copying, 4),
    (unknown.exchange, 8),
]
MAKERS, WEIGHTS = zip(*EXCHANGES)


def exchange(rng: random.Random) -> list:
    return rng.choices(MAKERS, WEIGHTS)[0](rng)


def conversation(rng: random.Random) -> Document:
    """One or more unrelated exchanges, as a person trying things out would have them."""
    turns = rng.choices([1, 2, 3, 4, 6], [50, 22, 14, 9, 5])[0]
    pairs = [pair for _ in range(turns) for pair in exchange(rng)]
    messages = []
    if rng.random() < 0.25:
        messages.append({"role": "system", "content": rng.choice(PLAIN_SYSTEMS)})
    for user, assistant in pairs:
        messages.append({"role": "user", "content": as_typed(rng, user)})
        messages.append({"role": "assistant", "content": assistant})
    return Document(messages=messages)


def plain_text(rng: random.Random) -> Document:
    """Text without turns, so that a bare completion works as well."""
    if rng.random() < 0.4:
        return Document(text=writing.story(rng)[0][1])
    pieces = [exchange(rng)[-1][1] if rng.random() < 0.3 else knowledge.any_fact(rng).full for _ in range(rng.randint(1, 6))]
    return Document(text=" ".join(pieces))


KINDS = [
    (conversation, 68),
    (lambda rng: Document(messages=behaviours.conversation(rng, exchange)), 17),
    (lambda rng: Document(*tools.conversation(rng)), 12),
    (plain_text, 3),
]


def documents(seed: int, count: int | None):
    """`count` documents, or an endless stream of them when it is None."""
    makers, weights = zip(*KINDS)
    number = 0
    while count is None or number < count:
        rng = random.Random(f"{seed}/{number}")
        yield rng.choices(makers, weights)[0](rng)
        number += 1
