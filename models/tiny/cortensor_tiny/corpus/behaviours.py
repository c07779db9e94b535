"""Conversations in which something said earlier decides the answer.

A name to remember, a system prompt that asks for one word or for JSON, a part to
play, words to repeat. These teach copying and obedience in a very small way.
"""

import json
import random

from . import everyday, knowledge, network, unknown, words
from .grammar import Fact, as_typed, expand, rows, sentence

QUOTES = rows("""
The early bird catches the worm|Practice makes perfect|Good things take time|The sky is clear tonight|My bike is red
I like green apples|We meet at noon|The train is late|Every cloud has a silver lining|All is well|The door is open|Tea is ready|This is a test|It works
Hello world|Happy birthday|Good luck|See you soon|Never give up|The cat sat on the mat|One two three|Open sesame
""")
PHRASES = [phrase for row in QUOTES for phrase in row]
PLAIN_WORDS = sorted({w for c in words.CATEGORIES.values() for w in c} | {a for p in words.OPPOSITES for a in p})


def any_word(rng: random.Random) -> str:
    return unknown.nonsense(rng) if rng.random() < 0.35 else rng.choice(PLAIN_WORDS)


def random_phrase(rng: random.Random) -> str:
    if rng.random() < 0.4:
        return rng.choice(PHRASES)
    return sentence(" ".join(any_word(rng) for _ in range(rng.randint(2, 5))))


def copying(rng: random.Random) -> list:
    """Say this, repeat that, so many times."""
    kind = rng.random()
    if kind < 0.4:
        word = any_word(rng)
        ask = expand(rng, "[Say|Please say|Repeat|Can you say|Say the word|Repeat the word|Write the word|Just say|Type] {w}[.|!||?]", w=rng.choice([word, f'"{word}"']))
        return [(ask, sentence(word) + ".")]
    if kind < 0.6:
        word, count = any_word(rng), rng.randint(2, 5)
        ask = expand(rng, "[Say|Repeat|Write|Please say] [the word |]{w} {n} times[.|]", w=word, n=rng.choice([count, words.NUMBER_WORDS[count]]))
        return [(ask, " ".join([word] * count))]
    phrase = random_phrase(rng)
    if kind < 0.7:
        return [(expand(rng, "[Say|Please say|Just say|Write] {p}[.|!|]", p=phrase[0].lower() + phrase[1:]), phrase + ".")]
    ask = expand(rng, '[Repeat after me|Repeat|Say|Please repeat|Repeat this|Say this|Echo|Copy this|Repeat exactly|Say exactly]: {p}[|.|!]', p=rng.choice([phrase, f'"{phrase}"']))
    return [(ask, phrase)]


def person(rng: random.Random) -> str:
    return sentence(unknown.nonsense(rng)) if rng.random() < 0.3 else rng.choice(words.NAMES)


# what is told | what is acknowledged | what is asked | what is answered | answer when it was not told
MEMORIES = {
    "name": (
        "[My name is|I am|I'm|You can call me|Call me|They call me|The name is|Hi, I am|Hello, my name is|Hi, my name is|Hey, I'm] {v}[.|!||, nice to meet you]",
        "[Nice to meet you|Hello|Pleased to meet you], {v}! [How can I help you|What can I do for you]?",
        "[What is my name|What's my name|Do you [remember|know] my name|Who am I|How am I called|What did I say my name was|Tell me my name|Say my name|Can you tell me my name|Do you remember who I am|And my name][?|]",
        "Your name is {v}.",
        "You have not told me your name yet.",
    ),
    "colour": (
        "My [favourite|favorite] [colour|color] is {v}[.|]",
        "{V} is a beautiful colour!",
        "[What is my favourite colour|What's my favorite color|Which colour do I like|Do you remember my favourite colour|What color do I like best|What is my favorite color][?|]",
        "Your favourite colour is {v}.",
        "You have not told me your favourite colour yet.",
    ),
    "age": (
        "[I am|I'm] {v} years old[.|]",
        "{v} is a good age!",
        "[How old am I|What is my age|Do you remember my age|Do you know how old I am][?|]",
        "You are {v} years old.",
        "You have not told me your age yet.",
    ),
    "city": (
        "[I live in|I am from|I come from|My home is|I'm from] {v}[.|]",
        "{v} sounds like a nice place to live!",
        "[Where do I live|Where am I from|Which city am I from|Do you remember where I live|Where is my home|What city do I live in][?|]",
        "You live in {v}.",
        "You have not told me where you live yet.",
    ),
    "pet": (
        "[My dog is called|My cat is called|My dog's name is|My cat's name is|My pet is called] {v}[.|]",
        "{v} is a lovely name!",
        "[What is my pet called|What is the name of my pet|What is my dog called|What is my cat called|What is my cat's name|What is my dog's name|Do you remember the name of my pet][?|]",
        "Your pet is called {v}.",
        "You have not told me about your pet yet.",
    ),
    "number": (
        "[Remember|Please remember|Keep in mind] [the number|this number:|number] {v}[.|]",
        "I will remember the number {v}.",
        "[What was the number|Which number did I say|What is the number|Do you remember the number|What number should you remember][?|]",
        "The number is {v}.",
        "You have not told me a number yet.",
    ),
    "word": (
        "[Remember|Please remember|Keep in mind] [the word|this word:] {v}[.|]",
        "I will remember the word {v}.",
        "[What was the word|Which word did I say|What is the word|Do you remember the word|What word should you remember][?|]",
        "The word is {v}.",
        "You have not told me a word yet.",
    ),
}


def memory_value(rng: random.Random, kind: str) -> str:
    makers = {
        "name": lambda: person(rng), "pet": lambda: person(rng), "colour": lambda: rng.choice(words.COLOURS), "age": lambda: str(rng.randint(5, 99)),
        "city": lambda: rng.choice(words.CITIES), "number": lambda: str(rng.randint(1, 999)), "word": lambda: any_word(rng),
    }
    return makers[kind]()


def remembering(rng: random.Random, exchange) -> list:
    """Something is told, other things are talked about, then it is asked for."""
    kinds = rng.sample(list(MEMORIES), rng.choice([1, 1, 2]))
    if rng.random() < 0.6 and "name" not in kinds:
        kinds[0] = "name"
    pairs, asks = [], []
    for kind in kinds:
        told, heard, asked, answered, missing = MEMORIES[kind]
        value = memory_value(rng, kind)
        if rng.random() < 0.12:
            asks.append((expand(rng, asked), missing))
            continue
        pairs.append((expand(rng, told, v=value), expand(rng, heard, v=value, V=sentence(value))))
        asks.append((expand(rng, asked), expand(rng, answered, v=value)))
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        pairs += exchange(rng)
    rng.shuffle(asks)
    return to_messages(rng, None, pairs + asks)


def to_messages(rng: random.Random, system: str | None, pairs: list, keep_case: bool = True) -> list:
    messages = [{"role": "system", "content": system}] if system else []
    for user, assistant in pairs:
        typed = user if keep_case and rng.random() < 0.5 else gentle(rng, user)
        messages += [{"role": "user", "content": typed}, {"role": "assistant", "content": assistant}]
    return messages


def gentle(rng: random.Random, text: str) -> str:
    """Untidy typing that never changes the letters of a name or a word to copy."""
    return text.rstrip("?.!") if rng.random() < 0.5 else text


def any_fact(rng: random.Random) -> Fact:
    return rng.choices([knowledge.any_fact, network.concept_fact, network.question_fact], [75, 15, 10])[0](rng)


ONE_WORD = """[Answer|Reply|Respond|Always answer|You answer|Please answer] [in|with|using] [one word|a single word|one word only|just one word][.| only.|, please.|]
[Answer only|Only answer|Reply only] with one word.
You are a helpful assistant. Answer in one word.
You are [terse|a terse assistant]. [Answer|Reply] with a single word.
One word answers only.
Use one word.
Be as short as possible[.|, one word is enough.]""".splitlines()

BRIEF = """[Answer|Reply|Be|Answer very|Please answer] [briefly|brief|in one sentence|shortly][.|]
Keep [it|your answers] short.
[Short|Brief] answers[, please|].
You are a helpful assistant. Be brief.
You are concise.
Answer in one short sentence.""".splitlines()

JSON = """[Answer|Reply|Respond|Always answer|You answer|Please answer] [in|with|as|using] [JSON|json|a JSON object|valid JSON][.| only.|, nothing else.|]
You are a helpful assistant. Answer in JSON.
Output JSON[ only|].
You only speak JSON.
Return [a JSON object|JSON].""".splitlines()

PIRATE = """You are a pirate[.|!]
[Speak|Talk|Answer] like a pirate.
You are a [friendly|old|wild] pirate. Answer every question.
Pretend to be a pirate.""".splitlines()

POLITE = """[Be|You are] very polite[.|]
[Always be|Be] [extremely |]polite and formal.
Answer very politely.
You are a polite butler.
Speak like a butler.""".splitlines()


def styled(rng: random.Random) -> list:
    """A system prompt that asks for one manner of answering, and a few questions."""
    styles = [
        (ONE_WORD, lambda f: sentence(f.short)),
        (ONE_WORD, lambda f: sentence(f.short)),
        (BRIEF, lambda f: f.full.split(". ")[0].rstrip(".") + "."),
        (JSON, lambda f: json.dumps(f.record)),
        (JSON, lambda f: json.dumps(f.record)),
        (PIRATE, lambda f: f"Arr! {f.full} Yo ho ho!"),
        (POLITE, lambda f: f"Certainly, with pleasure. {f.full} I hope that helps."),
    ]
    systems, answer = rng.choice(styles)
    system = expand(rng, rng.choice(systems))
    facts = [any_fact(rng) for _ in range(rng.choice([1, 2, 2, 3]))]
    inline = len(facts) == 1 and rng.random() < 0.7
    pairs = [(as_typed(rng, f.asks[0]), answer(f)) for f in facts]
    if inline:
        ask, reply = pairs[0]
        mark = system.rstrip(".!")
        joined = rng.choice([f"{mark}: {ask}", f"{ask.rstrip('.')} {mark}.", f"{mark}. {ask}"])
        return to_messages(rng, None, [(joined, reply)])
    return to_messages(rng, system, pairs)


def marked(rng: random.Random) -> list:
    """A system prompt that asks to begin or end every answer with given words."""
    phrase = rng.choice([random_phrase(rng), sentence(any_word(rng))])
    at_end = rng.random() < 0.5
    how = "[End|Finish|Always end|Close]" if at_end else "[Begin|Start|Always start|Open]"
    system = expand(rng, how + " [every|each] [answer|reply|message] with [the words |]{p}.", p=rng.choice([phrase, f'"{phrase}"']))
    pairs = []
    for _ in range(rng.choice([1, 2])):
        fact = any_fact(rng)
        pairs.append((as_typed(rng, fact.asks[0]), f"{fact.full} {phrase}." if at_end else f"{phrase}. {fact.full}"))
    return to_messages(rng, system, pairs)


TRADES = """a friendly cook|a wise old teacher|a space explorer|a helpful robot|a garden expert|a sailor|a doctor for plants|a travel guide|a
librarian|a farmer|a funny clown|a detective|a math teacher|a baker|a talking cat|a knight|a weather reporter|a music teacher""".replace("\n", " ").split("|")


def persona(rng: random.Random) -> list:
    """A system prompt that gives the model another name and trade."""
    name, trade = person(rng), rng.choice(TRADES)
    system = expand(rng, rng.choice(["You are {n}, {t}.", "Your name is {n}. You are {t}.", "You are {t} called {n}.", "You are {t} named {n}. Stay in your role.", "Act as {n}, {t}."]), n=name, t=trade)
    pairs = []
    for _ in range(rng.choice([1, 2])):
        if rng.random() < 0.5:
            pairs.append((expand(rng, "[What is your name|Who are you|What's your name|Tell me your name|What are you called|Introduce yourself|Hi, who are you|Hello, what is your name][?|.|]"), f"I am {name}, {trade}."))
        elif rng.random() < 0.5:
            pairs.append((expand(rng, "[What do you do|What is your job|What are you|What do you do all day|What is your work][?|]"), f"I am {trade}."))
        else:
            fact = any_fact(rng)
            pairs.append((as_typed(rng, fact.asks[0]), fact.full))
    return to_messages(rng, system, pairs)


def extraction(rng: random.Random) -> list:
    """A sentence in, a JSON object out."""
    name, age, city, colour = person(rng), rng.randint(5, 99), rng.choice(words.CITIES), rng.choice(words.COLOURS)
    forms = [
        (f"{name} is {age} years old and lives in {city}.", {"name": name, "age": age, "city": city}),
        (f"{name} is {age} years old.", {"name": name, "age": age}),
        (f"{name} lives in {city}.", {"name": name, "city": city}),
        (f"{name} is {age} and likes {colour}.", {"name": name, "age": age, "color": colour}),
        (f"{name} from {city} likes {colour}.", {"name": name, "city": city, "color": colour}),
    ]
    text, record = rng.choice(forms)
    ask = expand(rng, rng.choice(["[Turn|Convert|Put|Write|Change] [this|this sentence|the text] [into|in|to|as] JSON: {x}", "[Extract|Give me|Return] {k} as JSON: {x}", "{x} [Write|Return|Give me] [that|this|it] as JSON.", "Make JSON from this: {x}"]), x=text, k=", ".join(record))
    return to_messages(rng, None, [(ask, json.dumps(record))])


KINDS = [(remembering, 34), (styled, 36), (marked, 8), (persona, 9), (extraction, 7)]


def conversation(rng: random.Random, exchange) -> list:
    makers, weights = zip(*KINDS)
    maker = rng.choices(makers, weights)[0]
    return maker(rng, exchange) if maker is remembering else maker(rng)


__all__ = ["conversation", "copying", "everyday"]
