"""Choices, templates and the small untidiness of real typing.

Every function takes its randomness from a `random.Random` that the caller
seeded, so one seed always gives one corpus, on any machine.
"""

import random
import re
from dataclasses import dataclass, field

ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")


@dataclass
class Message:
    """One chat message, in the shape that the chat template reads."""

    role: str
    content: str
    tool_calls: list = field(default_factory=list)

    def as_dict(self) -> dict:
        message = {"role": self.role, "content": self.content}
        if self.tool_calls:
            message["tool_calls"] = self.tool_calls
        return message


@dataclass
class Fact:
    """A question with its answer in three lengths: a word, a sentence, an object."""

    asks: list
    short: str
    full: str
    record: dict


def expand(rng: random.Random, template: str, **slots) -> str:
    """Resolve `[a|b|c]` (nested, innermost first) by chance, then fill `{slots}`."""
    while (found := ALTERNATIVES.search(template)) is not None:
        choice = rng.choice(found.group(1).split("|"))
        template = template[: found.start()] + choice + template[found.end() :]
    filled = SLOT.sub(lambda name: str(slots.get(name.group(1), name.group(0))), template)
    return re.sub(r"  +", " ", filled).strip()


def cells(line: str, separator: str = "|") -> list:
    """Split at separators that stand outside of `[alternatives]`."""
    parts, depth = [""], 0
    for letter in line:
        depth += (letter == "[") - (letter == "]")
        if letter == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def rows(table: str) -> list:
    """Read a text table: one row a line, cells separated by `|`, blank lines skipped."""
    lines = (line.strip() for line in table.strip().splitlines())
    return [cells(line) for line in lines if line]


def with_article(noun: str) -> str:
    return ("an " if noun[0].lower() in "aeiou" else "a ") + noun


def sentence(text: str) -> str:
    """Capitalise the first letter and nothing else."""
    return text[:1].upper() + text[1:]


def plural_of(noun: str) -> str:
    """The plural of a countable noun of the tables, by rule except where rules fail."""
    odd = {"fish": "fish", "sheep": "sheep", "deer": "deer", "mouse": "mice", "wolf": "wolves", "leaf": "leaves", "person": "people"}
    head, _, last = noun.rpartition(" ")
    if last in odd:
        ended = odd[last]
    elif last.endswith("y") and last[-2] not in "aeiou":
        ended = last[:-1] + "ies"
    elif last.endswith(("s", "x", "ch", "sh", "tomato", "potato")):
        ended = last + "es"
    else:
        ended = last + "s"
    return f"{head} {ended}".strip()


def join_words(words: list) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + " and " + words[-1]


def misspell(rng: random.Random, text: str) -> str:
    """Swap, drop or double one letter inside one longer word."""
    words = text.split(" ")
    candidates = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not candidates:
        return text
    chosen = rng.choice(candidates)
    word = words[chosen]
    at = rng.randrange(1, len(word) - 2)
    edits = [
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
    ]
    words[chosen] = rng.choice(edits)
    return " ".join(words)


OPENERS = """Hi, |Hello, |Hey, |Please |Ok, |So, |Well, |Hi! |Hello! |Hello there! |Quick question: |Tell me, |Now |And |By the way, |I wonder, |Listen, |
My question is: |Could you tell me: |Can you answer this: |I would like to know: |Can you tell me, |Next question: |One more thing: |Good morning! """.replace("\n", "").split("|")
CLOSERS = " please| please?| Thanks!| Thank you.|?|!|...| Please tell me.| I am curious.| I forgot.|, actually?|, exactly?|, do you know?| then?|, my friend?| today?".split("|")


def as_typed(rng: random.Random, text: str) -> str:
    """The same question as different people would type it."""
    if rng.random() < 0.16:
        opener = rng.choice(OPENERS)
        keep = text.startswith(("I ", "I'")) or text[:2].isupper() or opener.endswith("! ")
        text = opener + (text if keep else text[0].lower() + text[1:])
    if rng.random() < 0.10:
        text = text.rstrip("?.!") + rng.choice(CLOSERS)
    elif rng.random() < 0.25:
        text = text.rstrip("?.!")
    case = rng.random()
    if case < 0.28:
        text = text.lower()
    elif case < 0.29:
        text = text.upper()
    if rng.random() < 0.04:
        text = misspell(rng, text)
    return text
