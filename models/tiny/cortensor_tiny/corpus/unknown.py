"""Questions from outside the model's small world, so that it learns to say that it does not know.

The questions are deliberately broad and partly filled with made-up names: what
they have in common is only that the rest of the corpus cannot answer them.
"""

import random

from . import words
from .grammar import expand, rows

ASKS = """
Who [won|is winning|will win] [the World Cup|the election|the match|the race|the Nobel Prize|the gold medal|the championship] [in {year}|yesterday|last year|this year|]?
Who is [the president|the king|the queen|the prime minister|the mayor|the richest person|the leader] of {place}?
Who [wrote|painted|invented|discovered|composed|directed|founded] {work}?
[Write|Can you write|Please write|Give me|I need] [a program|a function|code|a script|a class] [in|with] [Python|Rust|Java|C|JavaScript|Go] [that sorts a list|to read a file|for a web server|that computes primes|to parse text|for a game|]
How do I [fix|repair|clean|install|build|buy|sell|paint|replace] {object}?
What is the [price|value|cost] of [Bitcoin|Ethereum|gold|oil|a house|a stock|this coin|{object}]?
[Should I|Can I|Is it wise to] [buy|sell] [Bitcoin|stocks|gold|a house|shares]?
What is the [population|area|president|currency|history|national anthem|flag|average salary] of {place}?
How many people live in {place}?
[Translate|Can you translate|Please translate] [this|the word house|good morning|this sentence|I love you|the text] [to|into] [French|German|Spanish|Latin|Chinese]
[Summarise|Summarize|Review|Correct|Rewrite|Proofread] [this|this text|my essay|the article|the book|this email|the following text][.|]
[Solve|Prove|Integrate|Differentiate|Simplify] [this equation|the theorem|x squared|the integral|sin x|2x + 3 = 7|this puzzle|the riddle][.|]
What is [the square root|the logarithm|the derivative|the cube root|the factorial] of {number}?
What is {number} [times|*|x|divided by|+|-] {number2}?
What happened in {year}?
When [did|was] [the war|the Roman Empire|the revolution|Napoleon|Einstein|Shakespeare|the moon landing|the bridge|{name}] [end|start|born|happen|built|die]?
[Explain|What is|Describe|Tell me about] [quantum physics|relativity|string theory|photosynthesis|DNA|inflation|the stock market|philosophy|democracy|evolution|chemistry|black holes|the Roman Empire|World War II|calculus|the French Revolution|neural networks|transformers|psychology|economics|nuclear fusion|plate tectonics|the big bang|mitosis|Kant|Plato|capitalism|Buddhism|opera|jazz|chess|cricket|surfing|Kubernetes|Docker|Linux|SQL|HTTP|TCP|Rust|Python][.|?|]
What is the [best|worst|newest|cheapest|most famous] [phone|car|restaurant|movie|book|hotel|laptop|song|team|university|school] [in {place}|right now|ever|for me|]?
[Recommend|Suggest|Find] [me|] [a good|a nice|a] [movie|restaurant|book|hotel|song|series|game|holiday|laptop][.| in {place}|]
[Book|Order|Buy|Reserve|Call|Send] [me|] [a flight|a taxi|a table|a pizza|a ticket|an email|my boss|a message][ to {place}| for tomorrow| now|]
[Open|Play|Search|Show|Draw|Download|Print] [the door|a song|the web|me a picture|a file|my photos|a cat picture|the news|a video][.|]
What is [the news|in the news|the latest news|new in politics|going on in {place}]?
What did [{name}|my friend|the president|my mother|she|he] [say|do|eat|buy|write] [yesterday|last week|today|this morning]?
What is [my password|in my pocket|my address|my phone number|on my desk|behind me|my mother's name|my job|my favourite song]?
What am I [thinking|doing|wearing|eating|holding]?
How [far is it|long does it take|do I get] from {place} to {place2}?
How [tall|old|rich|heavy|famous] is {name} {surname}?
Who is {name} {surname}?
Who was {name} {surname}?
[Do you know|Have you heard of|Tell me about|What do you know about] {name} {surname}[?|.]
What is a {nonsense}?
Where can I buy a {nonsense}?
[What does|Explain the word|Define] {nonsense}[ mean?|]
[How does|How do I use|What is wrong with] [a jet engine|a washing machine|my printer|a car engine|the law|a nuclear plant|my code|this error|my knee|a bank|insurance|a fridge|the brain|the heart|tax][ work|][?]
[Why does|Why is] [my head|my back|my car|my computer|my stomach|the economy|the price|the code|my tooth|my dog] [hurt|broken|so slow|crash|ache|bad|not working]?
[I have|My child has|What helps against] [a fever|a headache|a cold|a rash|back pain|a broken arm][. What should I do?|?|]
[Is|Are] [God|ghosts|aliens|unicorns|dragons|vampires] real?
What will [happen tomorrow|the weather be next year|I do in ten years|the future bring|the stock price be]?
[Give me|Tell me|What is] [a recipe for|the recipe of|how to cook] [lasagne|sushi|curry|a wedding cake|paella|ramen|goulash][.|?|]
[Write|Compose|Draft] [an essay|a letter|an email|a speech|a business plan|a contract|a novel|a report|my homework|a cover letter] [about {object}|to my boss|for school|]
[What is|Give me] the chemical [formula|symbol] of [gold|iron|salt|sugar|silver|oxygen]?
Which [team|band|company|party|player|actor|language] is the [best|oldest|biggest|most popular]?
What [rhymes with|is the etymology of] {object}?
How many [stars|people|cars|books|cells|atoms|trees] are [there|in the world|in the universe|in {place}]?
"""

ANSWERS = [
    "I am a very small model and do not know that.",
    "I am a very small model and do not know that. You can ask me about Cortensor, animals, colours, capitals or small sums.",
    "I am sorry, I am a very small model and do not know that. I can tell you a story instead, if you like.",
]

OBJECTS = """my bike,a roof,the sink,a radio,the engine,a violin,the kitchen wall,a guitar,a tent,a garden,a boiler,climate change,a
washing machine,the printer,love,a laptop,shoes,my phone,a fence,the heating,a window,a tap,a sofa,the moon,history,a drone,
a battery,football,world peace,a wardrobe,a watch,my glasses,an old car,a piano""".replace("\n", " ").split(",")
WORKS = """the telephone,Hamlet,the Mona Lisa,the light bulb,penicillin,the ninth symphony,America,the theory of relativity,the
Odyssey,Star Wars,Don Quixote,the steam engine,the radio,the wheel,War and Peace,Microsoft,Harry Potter,the printing press,
dynamite,the web,Faust,Guernica,Titanic,gravity""".replace("\n", " ").split(",")
SURNAMES = """Smith,Jones,Miller,Brown,Garcia,Schmidt,Rossi,Tanaka,Kowalski,Novak,Johnson,Lee,Kim,Patel,Einstein,Newton,Mozart,
Lincoln,Shakespeare,Musk,Curie,Darwin,Obama,Picasso,Bach,Turing,Gates,Messi,Swift,Gandhi""".replace("\n", "").split(",")
SYLLABLES = "bla flo gri zon tar mel pin dro vex qua sni plu kra mor fen dib lux wob nar zu tip gle".split()


def nonsense(rng: random.Random) -> str:
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3)))


def exchange(rng: random.Random) -> list:
    template = rng.choice(ASKS.strip().splitlines())
    places = [row[0] for row in words.CAPITALS] + words.CITIES
    slots = {
        "year": rng.choice([rng.randint(1000, 1999), rng.randint(2000, 2030)]),
        "place": rng.choice(places),
        "place2": rng.choice(places),
        "work": rng.choice(WORKS),
        "object": rng.choice(OBJECTS),
        "number": rng.randint(100, 9999),
        "number2": rng.randint(100, 9999),
        "name": rng.choice(words.NAMES),
        "surname": rng.choice(SURNAMES),
        "nonsense": nonsense(rng),
    }
    return [(expand(rng, template, **slots), rng.choice(ANSWERS))]
