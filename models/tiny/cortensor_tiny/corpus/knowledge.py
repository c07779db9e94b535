"""Small facts about the world: colours, animals, days, months, capitals, words and numbers.

Each function draws one fact and several ways to ask for it. Nothing here looks
anything up; the tables in `words` are the whole of what the model is told.
"""

import random

from . import words
from .grammar import Fact, expand, join_words, plural_of, sentence, with_article


def fact(rng, asks, short, full, record) -> Fact:
    """Expand one of the newline-separated ways to ask."""
    return Fact([sentence(expand(rng, rng.choice(asks.strip().splitlines())))], str(short), full, record)


def capital(rng: random.Random) -> Fact:
    country, city, continent = rng.choice(words.CAPITALS)
    kind = rng.random()
    if kind < 0.62:
        asks = f"""[What is|What's|Name|Tell me|Do you know|Give me] the capital [city|] of {country}[?|.]
[Which|What] city is the capital of {country}?
What is {country}'s capital[ city|]?
The capital of {country} is?
capital of {country}
[Can you tell me|Could you say|I want to know] [what the capital of {country} is|the capital of {country}]?
What city is the capital [in|of] {country}?
{country}: what is the capital?"""
        return fact(rng, asks, city, f"The capital of {country} is {city}.", {"country": bare(country), "capital": city})
    if kind < 0.82:
        asks = f"""[Which country has the capital|Which country is|In which country is|What country is] {city}[ in|]?
{city} is the capital of which country?
Where is {city}?
What is {city} the capital of?
Which country's capital is {city}?"""
        return fact(rng, asks, sentence(bare(country)), f"{city} is the capital of {country}.", {"city": city, "country": bare(country)})
    asks = f"""[Which|What] continent is {country} [in|on]?
On which continent is {country}?
Where is {country}?
Where in the world is {country}?
Which part of the world is {country} in?"""
    return fact(rng, asks, continent, f"{sentence(country)} is in {continent}.", {"country": bare(country), "continent": continent})


def bare(country: str) -> str:
    return country.removeprefix("the ")


def colour(rng: random.Random) -> Fact:
    word = rng.choice(["colour", "color"])
    if rng.random() < 0.25:
        first, second, result = rng.choice(words.MIXES)
        if rng.random() < 0.5:
            first, second = second, first
        asks = f"""What [{word} do you get|do you get|do I get|happens] [if|when] you mix {first} and {second}?
[Mix|What is] {first} and {second}[?|.]
What does {first} and {second} make?
Which {word} [comes from|is made by] mixing {first} with {second}?
{first} plus {second} is which {word}?"""
        return fact(rng, asks, result, f"{sentence(first)} and {second} make {result}.", {"mix": [first, second], "color": result})
    thing, shade = rng.choice(words.THING_COLOURS)
    verb = "is"
    plural = thing.split(" ", 1)[-1]
    asks = f"""[What|Which] {word} {verb} {thing}?
What is the {word} of {thing}?
[Tell me|Do you know|Can you tell me] [the {word} of {thing}|what {word} {thing} is][?|.]
What {word} does {thing} have?
{plural}: what {word}?
[Name|Give me] the {word} of {thing}."""
    if thing.startswith(("a ", "an ")):
        many = plural_of(plural)
        asks += f"\n[What|Which] {word} are {many}?\n[What|Which] {word} do {many} have?\n[Tell me|Name] the {word} of {many}."
    return fact(rng, asks, shade, f"{sentence(thing)} is {shade}.", {"thing": thing.split(" ", 1)[-1], "color": shade})


def animal(rng: random.Random) -> Fact:
    name, sound, legs, food, young, home, more = rng.choice(words.ANIMALS)
    one, many = with_article(name), plural_of(name)
    count = words.NUMBER_WORDS[int(legs)]
    noise = f"{sentence(one)} says {sound}." if sound not in ("nothing", "song") else f"{sentence(one)} {'sings a long song' if sound == 'song' else 'makes hardly any sound'}."
    choices = [
        (f"[What|Which] [sound|noise] does {one} make?\nWhat does [{one}|the {name}] say?\nHow does {one} sound?\n[What|Which] [sound|noise] do {many} make?\nWhat do {many} say?\nWhat [sound|noise] do they make, {name}?\nMake the sound of {one}.", sound, noise, {"animal": name, "sound": sound}),
        (f"How many legs does {one} have?\nHow many legs has {one} got?\n[Count|Tell me|Say] the legs of {one}.\nThe number of legs of {one}?\nHow many legs are on {one}?\nHow many legs do {many} have?\nHow many legs have {many}[ got|]?", count, f"{sentence(one)} has {count if legs != '0' else 'no'} legs.", {"animal": name, "legs": int(legs)}),
        (f"What does {one} eat?\nWhat do {many} eat?\nWhat [food|] do {many} like[ to eat|]?\nWhat do I feed {one}?\nWhat [food does {one} like|is the food of {one}]?\nWhat [kind of food|sort of food] does {one} eat?", food, f"{sentence(one)} eats {food}.", {"animal": name, "food": food}),
        (f"What is a baby {name} called?\nWhat do you call [a baby|a young] {name}?\nWhat is [the young|the baby|the child] of {one} called?\nHow is a young {name} called?\nbaby {name} name\nWhat are [baby|young] {many} called?\nWhat do {many} call their [babies|young]?", young, f"A baby {name} is called {with_article(young)}.", {"animal": name, "young": young}),
        (f"Where does {one} live?\nWhere do {many} live?\nWhere can I find {many}?\nWhere can I find {one}?\nWhat is the home of {one}?\nIn what place does {one} live?", home, f"{sentence(one)} lives {home}.", {"animal": name, "home": home}),
        (f"What is {one}?\n[Tell me|Say something|Tell me something|What do you know] about [{one}|{many}|the {name}][.|?|]\nWhat are {many}?\n[Tell|Teach] me [something|more|] about {many}[.|]\n[Describe|Explain] {one}.\nWhat kind of animal is {one}?", "an animal", f"{sentence(one)} is an animal that lives {home}. It eats {food}, and it {more}.", {"animal": name, "home": home, "food": food}),
    ]
    return fact(rng, *rng.choice(choices))


def day(rng: random.Random) -> Fact:
    at = rng.randrange(7)
    name, after, before = words.DAYS[at], words.DAYS[(at + 1) % 7], words.DAYS[at - 1]
    kind = rng.randrange(5)
    if kind == 0:
        asks = f"[What|Which] day [comes|is] after {name}?\nWhat is the day after {name}?\nIf today is {name}, what is tomorrow?\nToday is {name}. What day is tomorrow?\nWhich day follows {name}?"
        return fact(rng, asks, after, f"{after} comes after {name}.", {"day": name, "next": after})
    if kind == 1:
        asks = f"[What|Which] day [comes|is] before {name}?\nWhat is the day before {name}?\nIf today is {name}, what was yesterday?\nToday is {name}. What day was yesterday?\nWhich day precedes {name}?"
        return fact(rng, asks, before, f"{before} comes before {name}.", {"day": name, "previous": before})
    if kind == 2:
        weekend = at >= 5
        asks = f"Is {name} [a weekday|a work day]?\nIs {name} [part of|on|in] the weekend?"
        ask = expand(rng, rng.choice(asks.splitlines()))
        truth = weekend == ("weekend" in ask)
        return Fact([ask], "yes" if truth else "no", f"{'Yes' if truth else 'No'}. {name} is {'part of the weekend' if weekend else 'a weekday'}.", {"day": name, "weekend": weekend})
    if kind == 3:
        asks = f"[What|Which] is the {words.ORDINALS[at]} day of the week?\nName the {words.ORDINALS[at]} day of the week.\nWhich day of the week is number {at + 1}?"
        return fact(rng, asks, name, f"{name} is the {words.ORDINALS[at]} day of the week.", {"number": at + 1, "day": name})
    asks = "[List|Name|Tell me|Give me|Say|What are] [all|] the days of the week[.|?]\nWhat are the seven days?\nWhich days does a week have?\ndays of the week\n[Can you list|Please list] the days of the week?"
    return fact(rng, asks, ", ".join(words.DAYS), f"The days of the week are {join_words(words.DAYS)}.", {"days": words.DAYS})


def month(rng: random.Random) -> Fact:
    at = rng.randrange(12)
    name, after, before = words.MONTHS[at], words.MONTHS[(at + 1) % 12], words.MONTHS[at - 1]
    kind = rng.randrange(6)
    if kind == 0:
        asks = f"[What|Which] month [comes|is] after {name}?\nWhat is the month after {name}?\nWhich month follows {name}?\nAfter {name} comes which month?"
        return fact(rng, asks, after, f"{after} comes after {name}.", {"month": name, "next": after})
    if kind == 1:
        asks = f"[What|Which] month [comes|is] before {name}?\nWhat is the month before {name}?\nBefore {name} comes which month?"
        return fact(rng, asks, before, f"{before} comes before {name}.", {"month": name, "previous": before})
    if kind == 2:
        length = words.MONTH_LENGTHS[at]
        extra = " In a leap year it has 29." if at == 1 else ""
        asks = f"How many days [are in|does|are there in] {name}[ have|]?\nHow long is {name}?\nHow many days has {name}?\nThe number of days in {name}?"
        return fact(rng, asks, length, f"{name} has {length} days.{extra}", {"month": name, "days": length})
    if kind == 3:
        season = words.SEASONS[at]
        asks = f"[What|Which] season is {name} in?\nIn which season is {name}?\nWhat season is it in {name}?\nIs {name} in summer or winter?"
        return fact(rng, asks, season, f"In the northern half of the world {name} is in {season}.", {"month": name, "season": season})
    if kind == 4:
        asks = f"[What|Which] is the {words.ORDINALS[at]} month[ of the year|]?\nName the {words.ORDINALS[at]} month of the year.\nWhich month is number {at + 1}?"
        return fact(rng, asks, name, f"{name} is the {words.ORDINALS[at]} month of the year.", {"number": at + 1, "month": name})
    asks = "[List|Name|Tell me|Give me|Say|What are] [all|] the months[ of the year|][.|?]\nWhich months does a year have?\nmonths of the year\n[Can you list|Please list] the twelve months?"
    return fact(rng, asks, ", ".join(words.MONTHS), f"The months of the year are {join_words(words.MONTHS)}.", {"months": words.MONTHS})


def vocabulary(rng: random.Random) -> Fact:
    kind = rng.choice(["opposite"] * 4 + ["plural"] * 3 + ["past", "synonym"])
    if kind == "opposite":
        a, b = rng.choice(words.OPPOSITES)
        if rng.random() < 0.5 and b not in ("short", "old", "light", "right", "lose"):
            a, b = b, a
        asks = f"[What is|What's|Tell me|Name|Give me] the opposite of {a}[?|.]\n[Which word|What word|What] is the opposite of \"{a}\"?\nopposite of {a}\nWhat is the [antonym|contrary] of {a}?\nThe opposite of {a} is?"
        return fact(rng, asks, b, f"The opposite of {a} is {b}.", {"word": a, "opposite": b})
    if kind == "plural":
        a, b = rng.choice(words.PLURALS)
        asks = f"[What is|What's|Tell me|Give me] the plural [form|] of {a}[?|.]\nWhat is the plural of \"{a}\"?\nplural of {a}\nHow do you [say|write] more than one {a}?\nOne {a}, two what?\nWhat do you call two of {a}?\nMake {a} plural."
        return fact(rng, asks, b, f"The plural of {a} is {b}.", {"word": a, "plural": b})
    if kind == "past":
        a, b = rng.choice(words.PAST)
        asks = f"[What is|Tell me|Give me] the past [tense|form] of {a}[?|.]\npast tense of {a}\nWhat is the past tense of \"{a}\"?\nToday I {a}, yesterday I what?"
        return fact(rng, asks, b, f"The past tense of {a} is {b}.", {"word": a, "past": b})
    a, b = rng.choice(words.SYNONYMS)
    asks = f"[What is|Give me|Tell me|Name] [a synonym|another word] for {a}[?|.]\nWhat is a word that means the same as {a}?\nsynonym of {a}"
    return fact(rng, asks, b, f"Another word for {a} is {b}.", {"word": a, "synonym": b})


def definition(rng: random.Random) -> Fact:
    thing, meaning = rng.choice(words.DEFINITIONS)
    asks = f"""[What is|What's|What exactly is|Define|Explain|Describe|Tell me about|What do you know about] {thing}[?|.]
What is {thing}[ exactly|]?
Can you [explain|tell me] what {thing} is?
What does {thing} mean?
[I want to know|Tell me|Do you know] what {thing} is[.|?]
Explain {thing} [to me|in simple words|to a child][.|]
How would you [explain|describe] {thing}?"""
    name = thing.split(" ", 1)[-1] if thing.startswith(("a ", "an ", "the ")) else thing
    return fact(rng, asks, meaning.split(",")[0], f"{sentence(thing)} is {meaning}.", {"term": name, "meaning": meaning})


def general(rng: random.Random) -> Fact:
    ask, short, full = rng.choice(words.GENERAL)
    if rng.random() < 0.25:
        ask = rng.choice(["Do you know ", "Can you tell me ", "Tell me ", "I wonder ", "Please say "]) + ask[0].lower() + ask[1:]
    return Fact([ask], short, full, {"answer": short})


def yes_or_no(rng: random.Random) -> Fact:
    ask, answer, reason = rng.choice(words.YES_NO)
    return Fact([ask], answer, f"{sentence(answer)}. {reason}", {"answer": answer == "yes"})


def addition(rng: random.Random) -> Fact:
    top = rng.choice([10, 10, 10, 20, 20, 50])
    a, b = rng.randint(0, top), rng.randint(0, top if top < 50 else 20)
    asks = f"""[What is|What's|Calculate|Compute|How much is|Work out|Can you add] {a} + {b}[?|.]
[What is|What's|How much is|Calculate] {a} plus {b}[?|.]
{a} + {b}[| =| = ?]
{a}+{b}[|=|=?]
[Add|Can you add|Please add] {a} and {b}[.|?]
What is the sum of {a} and {b}?
What do {a} and {b} make?
If I have {a} [apples|eggs|coins|books] and get {b} more, how many do I have?"""
    return fact(rng, asks, a + b, f"{a} + {b} = {a + b}", {"a": a, "b": b, "sum": a + b})


def subtraction(rng: random.Random) -> Fact:
    top = rng.choice([10, 10, 20])
    a = rng.randint(0, top)
    b = rng.randint(0, a)
    asks = f"""[What is|What's|Calculate|How much is|Compute] {a} - {b}[?|.]
[What is|How much is] {a} minus {b}?
{a} - {b}[| =| = ?]
{a}-{b}[|=]
[Subtract|Take away|Take] {b} from {a}.
If I have {a} [apples|eggs|coins|books] and lose {b}, how many are left?
What is {a} take away {b}?"""
    return fact(rng, asks, a - b, f"{a} - {b} = {a - b}", {"a": a, "b": b, "difference": a - b})


def multiplication(rng: random.Random) -> Fact:
    a, b = rng.randint(0, 10), rng.randint(1, 10)
    if rng.random() < 0.2:
        total = a * b
        asks = f"[What is|How much is|Calculate] {total} / {b}[?|.]\n[What is|How much is] {total} divided by {b}?\n{total} / {b} =\nDivide {total} by {b}."
        return fact(rng, asks, a, f"{total} / {b} = {a}", {"a": total, "b": b, "quotient": a})
    if rng.random() < 0.15:
        if rng.random() < 0.5:
            return fact(rng, f"What is half of {2 * a}?\nHalf of {2 * a}?\nHow much is half of {2 * a}?", a, f"Half of {2 * a} is {a}.", {"number": 2 * a, "half": a})
        return fact(rng, f"What is [double|twice] {a}?\nDouble {a}.\nHow much is twice {a}?", 2 * a, f"Twice {a} is {2 * a}.", {"number": a, "double": 2 * a})
    sign = rng.choice(["*", "x", "times", "multiplied by"])
    asks = f"[What is|What's|Calculate|How much is|Compute] {a} {sign} {b}[?|.]\n{a} {sign} {b}[| =| = ?]\nMultiply {a} by {b}.\nWhat is the product of {a} and {b}?"
    return fact(rng, asks, a * b, f"{a} x {b} = {a * b}", {"a": a, "b": b, "product": a * b})


def comparison(rng: random.Random) -> Fact:
    a, b = rng.sample(range(0, 101), 2)
    low, high = min(a, b), max(a, b)
    kind = rng.randrange(4)
    if kind == 0:
        return fact(rng, f"[Which|What] [number|] is [bigger|larger|greater|more], {a} or {b}?\nWhat is [bigger|larger], {a} or {b}?", high, f"{high} is bigger than {low}.", {"bigger": high})
    if kind == 1:
        return fact(rng, f"[Which|What] [number|] is [smaller|less], {a} or {b}?\nWhat is smaller, {a} or {b}?", low, f"{low} is smaller than {high}.", {"smaller": low})
    if kind == 2:
        even = a % 2 == 0
        return fact(rng, f"Is {a} [even or odd|odd or even]?\nIs the number {a} even or odd?", "even" if even else "odd", f"{a} is {'even' if even else 'odd'}.", {"number": a, "even": even})
    after = rng.random() < 0.5
    value = a + 1 if after else max(a - 1, 0)
    word = "after" if after else "before"
    base = a if after else max(a, 1)
    value = base + 1 if after else base - 1
    return fact(rng, f"[What|Which] number comes {word} {base}?\nWhat comes {word} {base}?", value, f"{value} comes {word} {base}.", {"number": base, word: value})


def number_word(rng: random.Random) -> Fact:
    value = rng.randrange(21)
    word = words.NUMBER_WORDS[value]
    if rng.random() < 0.5:
        return fact(rng, f"How do you [write|spell|say] {value} [in words|as a word]?\nWrite {value} in words.", word, f"The number {value} is written {word}.", {"number": value, "word": word})
    return fact(rng, f"What number is {word}?\nWrite {word} [as a number|in digits].", value, f"{sentence(word)} is {value}.", {"number": value, "word": word})


EVERY_FACT = [
    (capital, 9), (colour, 6), (animal, 10), (day, 4), (month, 4), (vocabulary, 8), (definition, 8), (general, 8),
    (yes_or_no, 4), (addition, 9), (subtraction, 5), (multiplication, 6), (comparison, 3), (number_word, 1),
]


def any_fact(rng: random.Random) -> Fact:
    makers, weights = zip(*EVERY_FACT)
    return rng.choices(makers, weights)[0](rng)
