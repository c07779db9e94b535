"""Conversations with tools: choose one, fill in its arguments, answer from its result.

Tools that are not offered are never called, and questions that need no tool are
answered directly. Names of tools vary, so that the model reads them from the list.
"""

import json
import random
from dataclasses import dataclass

from . import knowledge, words
from .behaviours import any_word, person, random_phrase
from .everyday import exchange as small_talk
from .grammar import as_typed, expand

SKIES = "sunny cloudy rainy windy snowy foggy stormy clear".split()
UNITS = ["celsius", "fahrenheit"]
CURRENCIES = "EUR USD GBP JPY CHF CAD AUD INR".split()


@dataclass
class Use:
    """One way to use a tool: the question, the call, what comes back, what is said then."""

    asks: list
    arguments: dict
    results: list
    answer: str


def weather(rng: random.Random) -> Use:
    city, degrees, sky = place(rng), rng.randint(-10, 38), rng.choice(SKIES)
    asks = ["[What is|What's|How is|How's] the weather [like |]in {c}[ today| now| right now|]?", "[Is it|Will it be] [cold|warm|raining|sunny|hot|snowing] in {c}[ today|]?", "[Tell me|Check|Give me|Please check|Look up] the weather [in|for|of] {c}[.|]", "How [warm|cold|hot] is it in {c}[?|]", "weather {c}", "[What is|What's] the temperature in {c}?", "Do I need [a coat|an umbrella] in {c}?"]
    results = [
        json.dumps({"city": city, "temperature": degrees, "condition": sky}), json.dumps({"temperature": degrees, "conditions": sky}), json.dumps({"temp_c": degrees, "sky": sky}),
        f"{degrees} degrees and {sky}", f"{sky}, {degrees} C", f"{sky} {degrees}",
    ]
    return Use([expand(rng, rng.choice(asks), c=city)], {"city": city}, results, f"It is {degrees} degrees and {sky} in {city}.")


def place(rng: random.Random) -> str:
    return person(rng) if rng.random() < 0.12 else rng.choice(words.CITIES)


def clock(rng: random.Random) -> Use:
    city, time = place(rng), f"{rng.randrange(24):02}:{rng.randrange(60):02}"
    asks = ["[What time is it|What is the time|What's the time] [in|now in|right now in] {c}?", "[Tell me|Check|Give me] the [time|local time|current time] in {c}[.|]", "How late is it in {c}?", "time in {c}", "Do you know what time it is in {c}?"]
    results = [json.dumps({"city": city, "time": time}), json.dumps({"time": time}), time]
    return Use([expand(rng, rng.choice(asks), c=city)], {"city": city}, results, f"It is {time} in {city}.")


def sums(rng: random.Random, word: str) -> Use:
    top = rng.choice([20, 100, 1000, 10000])
    a, b = rng.randint(0, top), rng.randint(1, top)
    asks = {
        "add": ["[What is|What's|Calculate|How much is] {a} [+|plus] {b}?", "[Add|Please add|Can you add] {a} and {b}[.|]", "What is the sum of {a} and {b}?", "{a} + {b}"],
        "multiply": ["[What is|What's|Calculate|How much is] {a} [*|times|x] {b}?", "Multiply {a} [by|and|with] {b}[.|]", "What is the product of {a} and {b}?"],
        "subtract": ["[What is|What's|Calculate|How much is] {a} [-|minus] {b}?", "Subtract {b} from {a}[.|]"],
    }[word]
    value = {"add": a + b, "multiply": a * b, "subtract": a - b}[word]
    results = [str(value), json.dumps({"result": value}), json.dumps({"value": value})]
    return Use([expand(rng, rng.choice(asks), a=a, b=b)], {"a": a, "b": b}, results, f"The result is {value}.")


def money(rng: random.Random) -> Use:
    amount, (source, target) = rng.randint(1, 500), rng.sample(CURRENCIES, 2)
    value = round(amount * rng.uniform(0.5, 2), 2)
    asks = ["[Convert|Change|Exchange] {n} {a} [to|into] {b}[.|]", "How much is {n} {a} in {b}?", "What is {n} {a} in {b}?", "{n} {a} in {b}"]
    return Use([expand(rng, rng.choice(asks), n=amount, a=source, b=target)], {"amount": amount, "from": source, "to": target}, [str(value), json.dumps({"result": value})], f"{amount} {source} is {value} {target}.")


def message(rng: random.Random) -> Use:
    to, text = person(rng), random_phrase(rng)
    asks = ["[Send|Write] [a message|a text|a note] to {t}: {x}[.|]", "[Tell|Message|Write to|Text] {t}: {x}[.|]", "[Send|Please send] {t} [this|the message|a message]: {x}[.|]"]
    results = [json.dumps({"status": "sent"}), json.dumps({"ok": True}), "sent", "done"]
    return Use([expand(rng, rng.choice(asks), t=to, x=text)], {"to": to, "text": text}, results, f"I have sent your message to {to}.")


def search(rng: random.Random) -> Use:
    query = f"{any_word(rng)} {any_word(rng)}" if rng.random() < 0.5 else any_word(rng)
    found = random_phrase(rng)
    asks = ["[Search|Look|Search the web|Look up|Google] [for |]{q}[.|]", "[Find|Search for|Look for] [information about|something about|pages about|] {q}[.|]", "What does the web say about {q}?"]
    return Use([expand(rng, rng.choice(asks), q=query)], {"query": query}, [found, json.dumps({"results": [found]}), json.dumps({"answer": found})], f"I found this: {found}.")


def balance(rng: random.Random) -> Use:
    who, amount = person(rng), rng.randint(0, 9999)
    asks = ["[What is|Check|Tell me|Show me] the balance of {w}[?|.]", "How [much money|many tokens] does {w} have?", "balance of {w}"]
    results = [str(amount), json.dumps({"balance": amount}), json.dumps({"account": who, "balance": amount})]
    return Use([expand(rng, rng.choice(asks), w=who)], {"account": who}, results, f"The balance of {who} is {amount}.")


def dice(rng: random.Random) -> Use:
    sides = rng.choice([4, 6, 8, 10, 12, 20, 100])
    value = rng.randint(1, sides)
    asks = ["[Roll|Throw] a [die|dice] with {s} sides[.|]", "Roll a {s}-sided die[.|]", "[Give me|Pick] a random number [up to|from 1 to] {s}[.|]"]
    return Use([expand(rng, rng.choice(asks), s=sides)], {"sides": sides}, [str(value), json.dumps({"value": value})], f"The number is {value}.")


# maker | names it may have | how it may be described
TOOLS = [
    (weather, ["get_weather", "get_current_weather", "weather", "current_weather", "fetch_weather"], ["Get the weather in a city", "Current weather of a city", "Get the current weather in a given location", "Returns the weather", ""]),
    (clock, ["get_time", "get_current_time", "current_time", "clock", "local_time"], ["Get the time in a city", "Current local time of a city", "Returns the time", ""]),
    (lambda rng: sums(rng, "add"), ["add", "add_numbers", "sum"], ["Add two numbers", "Adds a and b", "Returns the sum of two numbers", ""]),
    (lambda rng: sums(rng, "multiply"), ["multiply", "multiply_numbers", "product"], ["Multiply two numbers", "Multiplies a and b", ""]),
    (lambda rng: sums(rng, "subtract"), ["subtract", "minus", "difference"], ["Subtract b from a", "Subtracts two numbers", ""]),
    (money, ["convert_currency", "convert", "exchange"], ["Convert money", "Convert an amount between currencies", ""]),
    (message, ["send_message", "send_text", "message"], ["Send a message to a person", "Sends a text", ""]),
    (search, ["search", "web_search", "search_web"], ["Search the web", "Find pages on the web", ""]),
    (balance, ["get_balance", "balance", "account_balance"], ["Get the balance of an account", "Returns a balance", ""]),
    (dice, ["roll_dice", "roll", "random_number"], ["Roll a die", "A random number", ""]),
]
ALIASES = {"city": ["city", "city", "city", "location", "place"], "a": ["a", "a", "x"], "b": ["b", "b", "y"], "query": ["query", "q"], "account": ["account", "name"]}


def renamed(rng: random.Random, arguments: dict) -> dict:
    """The same arguments under the names that this offer of the tool uses."""
    if "a" in arguments:
        first, second = rng.choice([("a", "b"), ("a", "b"), ("x", "y"), ("first", "second")])
        return {first: arguments["a"], second: arguments["b"]}
    return {rng.choice(ALIASES.get(key, [key])): value for key, value in arguments.items()}


def definition(name: str, description: str, arguments: dict) -> dict:
    kinds = {int: "integer", str: "string", float: "number"}
    properties = {key: {"type": kinds[type(value)]} for key, value in arguments.items()}
    function = {"name": name, "parameters": {"type": "object", "properties": properties, "required": list(properties)}}
    if description:
        function["description"] = description
    return {"type": "function", "function": function}


def conversation(rng: random.Random) -> tuple:
    """Messages and the tools on offer."""
    offered = rng.sample(TOOLS, rng.choice([1, 1, 2, 2, 3, 4]))
    offers = []
    for maker, names, descriptions in offered:
        name, description = rng.choice(list(zip(names, descriptions + [""] * len(names)))) if rng.random() < 0.3 else (rng.choice(names), rng.choice(descriptions))
        sample_use = maker(rng)
        keys = renamed(rng, sample_use.arguments)
        offers.append((maker, name, list(keys), definition(name, description, keys)))
    messages = []
    if rng.random() < 0.35:
        messages.append({"role": "system", "content": rng.choice(["You are a helpful assistant.", "Use the tools when you need them.", "You are a helpful assistant with tools."])})
    for _ in range(rng.choice([1, 1, 1, 2])):
        messages += direct(rng) if rng.random() < 0.22 else called(rng, rng.choice(offers))
    return messages, [tool for *_, tool in offers]


def direct(rng: random.Random) -> list:
    """A question that needs no tool."""
    if rng.random() < 0.5:
        ask, answer = small_talk(rng)[0]
        if any(word in ask.lower() for word in ("weather", "time", "date", "rain")):
            ask, answer = "Hello!", "Hello! How can I help you today?"
    else:
        maker = rng.choice([knowledge.capital, knowledge.colour, knowledge.animal, knowledge.vocabulary])
        fact = maker(rng)
        ask, answer = fact.asks[0], fact.full
    return [{"role": "user", "content": as_typed(rng, ask)}, {"role": "assistant", "content": answer}]


def called(rng: random.Random, offer) -> list:
    maker, name, keys, _ = offer
    use = maker(rng)
    arguments = dict(zip(keys, use.arguments.values()))
    ask = use.asks[0]
    if rng.random() < 0.25:
        ask = ask.rstrip("?.")
    call = {"type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return [
        {"role": "user", "content": ask},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": rng.choice(use.results)},
        {"role": "assistant", "content": use.answer},
    ]
