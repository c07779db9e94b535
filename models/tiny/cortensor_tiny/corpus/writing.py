"""Longer answers: stories, poems, lists, counting and short instructions."""

import random

from . import words
from .grammar import expand, join_words, rows, sentence, with_article

# hero | its home | what it is like
HEROES = rows("""
cat|a small house by the sea|curious
dog|a farm near the woods|loyal
fox|the edge of a dark forest|clever
rabbit|a burrow under an old oak|shy
bear|a cave in the mountains|strong but gentle
owl|a hollow tree|wise
mouse|the kitchen of an old baker|very small
robot|a quiet workshop|friendly
dragon|a castle on a hill|lonely
bird|a nest in an apple tree|cheerful
frog|a green pond|funny
turtle|a warm beach|slow but patient
lion|the wide grassland|proud
elephant|a valley with a clear river|kind
girl|a village at the foot of a mountain|brave
boy|a town beside a long river|dreamy
princess|a tall white castle|clever
king|a rich country|old and tired
wizard|a tower full of books|forgetful
sailor|a little red boat|restless
farmer|a farm with a red barn|hard-working
penguin|an island of ice|playful
horse|a meadow full of flowers|fast
bee|a golden hive|busy
ghost|an empty house|friendly
knight|a stone castle|brave
hedgehog|a garden behind a school|careful
wolf|a deep forest|lonely
miner|a small room full of warm computers|patient
duck|a pond in the park|cheerful
unicorn|a forest of silver trees|gentle
spider|a corner of the attic|patient
monkey|a tall fig tree|cheeky
""")

TROUBLES = rows("""
{It} wanted to find a lost star.|{It} climbed the highest hill and looked all night.|a small light under a stone~It was the star, and {it} carried it back to the sky.
{It} had lost {its} favourite red hat.|{It} asked everyone along the road, but nobody had seen it.|the hat on the head of a snowman~The snowman laughed and gave it back.
One day a great storm came.|{It} ran to warn the others, although the wind was very strong.|a dry cave where everybody could hide~They waited together until the sun came back.
One night {it} heard a strange sound.|{It} took a lamp and walked into the dark, one step after another.|a tiny kitten that was cold and afraid~{It} took it home and gave it warm milk.
{It} wanted to learn how to sing.|{It} practised every morning, and at first it sounded terrible.|a patient old teacher~After a year {it} sang so well that the whole valley listened.
{It} had never seen the sea.|{It} packed some bread and walked for seven days.|the wide blue water in the light of the morning~{It} sat on the sand and was happy for a long time.
One winter there was nothing left to eat.|{It} shared the last piece of bread with a stranger.|a basket full of apples at the door~The stranger had not forgotten the kind deed.
{It} found an old map in a box.|{It} followed the line over the bridge and through the woods.|a chest full of books~{It} read them all and told the stories to the children.
{It} wanted to build a bridge over the river.|{It} carried one stone every day, and the others laughed.|the last stone in the spring~Then everyone walked over the bridge and thanked {it2}.
One day {it} made a promise to a friend.|{It} worked hard all summer to keep it.|the friend waiting at the gate~They smiled, because a promise had been kept.
{It} was afraid of the dark.|One evening the lamp went out, and {it} had to walk home alone.|a thousand stars above the road~From then on {it} loved the night.
{It} wanted to grow the biggest pumpkin of all.|{It} gave it water every day and sang to it in the evening.|a pumpkin as large as a cart~It made enough soup for the whole village.
One morning the clock of the town stood still.|{It} climbed the tower to see what was wrong.|a little bird asleep between the wheels~{It} carried the bird outside, and the clock began to tick again.
{It} wanted a friend more than anything else.|{It} wrote a letter and let the wind carry it away.|someone at the door with the letter in hand~They talked until the moon came up.
""")

MORALS = rows("""
And so {name} learned that small steps lead far.
From that day on {name} was never alone again.
And everyone remembered what {name} had done.
That evening {name} slept better than ever before.
And if you go there today, you may still meet {name}.
{name} smiled, because kindness always comes back.
And they all lived happily ever after.
Then {name} went home, for the best place is where your friends are.
""")

HELPERS = "an old owl|a friendly fox|a talking tree|a little girl with a lamp|a wise turtle|a travelling musician|a quiet fisherman|a cheerful bee".split("|")

HIS_NAMES = "Milo Pip Oskar Bruno Finn Hugo Otto Rolf Basil Toby".split()
HER_NAMES = "Luna Nora Tilly Ella Ruby Daisy Mina Lily Juno Wanda".split()
WOMEN, MEN = ("girl", "princess"), ("boy", "king")

STORY_ASKS = """[Tell me|Write|Write me|Please tell me|Please write|Can you tell me|Can you write|I want to hear|I would like|Give me|Make up|Invent] a {kind}story about {hero}[.|?|, please.|]
[Tell|Write] a {kind}story [about|with] {hero}[.|]
[A|One] {kind}story about {hero}[, please|]
story about {hero}
Do you know a story about {hero}?
Once there was {hero}. [Go on|Continue][.|]""".splitlines()

FREE_STORY_ASKS = """[Tell me|Write|Write me|Please tell me|Can you tell me|Can you write|I want to hear|Give me|Make up] a {kind}story[.|?|, please.|]
[Tell me|I want] [another|one more] story[.|]
Do you know [any stories|a story]?
Once upon a time
[Can I hear|May I have] a story?""".splitlines()


LENGTHS = ["one-sentence ", "very short ", "one sentence "], ["short ", "little ", "nice ", "bedtime ", "", "", "funny ", "good "], ["long ", "longer ", "very long "]


def story(rng: random.Random) -> list:
    """A question for a story of some length, about a hero or not, and a story that fits."""
    hero, home, nature = rng.choice(HEROES)
    length = rng.choices([0, 1, 2], [8, 80, 12])[0]
    about = rng.random() < 0.75
    asks = STORY_ASKS if about else FREE_STORY_ASKS
    ask = expand(rng, rng.choice(asks), hero=with_article(hero), kind=rng.choice(LENGTHS[length]))
    if length != 1 and not any(word.strip() in ask for word in LENGTHS[length]):
        length = 1
    return [(ask, sentence_story(rng, hero, home) if length == 0 else story_text(rng, hero, home, nature, length))]


def named(rng: random.Random, hero: str) -> tuple:
    """A name with the pronouns that go with it."""
    female = hero in WOMEN or (hero not in MEN and rng.random() < 0.5)
    pronouns = ("she", "her", "her") if female else ("he", "his", "him")
    return rng.choice(HER_NAMES if female else HIS_NAMES), *pronouns


def sentence_story(rng: random.Random, hero: str, home: str) -> str:
    name, it, its, _ = named(rng, hero)
    ends = ["found a true friend under the stars", f"followed a small light and found {its} way home", "shared the last apple and was never alone again"]
    return f"Once upon a time {with_article(hero)} named {name} left {home}, {rng.choice(ends)}, and everyone was happy."


def adventure(rng: random.Random, pronouns: tuple, troubles: list) -> list:
    """A trouble, what the hero did, who helped and how it ended, with the slots still open."""
    trouble, effort, found = troubles.pop()
    find, result = found.split("~")
    it, _, it2 = pronouns
    helper = rng.choice(HELPERS)
    return [
        trouble,
        effort,
        expand(rng, f"On the way {it} met {helper}, [who showed {it2} where to go|who gave {it2} good advice|and they went on together]."),
        f"At last {it} found {find}.",
        result,
    ]


def story_text(rng: random.Random, hero: str, home: str, nature: str, length: int) -> str:
    """A hero, one trouble or two, a helper, a good end: about 100 or 190 tokens."""
    name, *pronouns = named(rng, hero)
    troubles = rng.sample(TROUBLES, length)
    lines = [
        f"Once upon a time there was {with_article(hero)} named {name}, whose home was {home}.",
        f"{name} was {nature}.",
        *adventure(rng, pronouns, troubles),
    ]
    if troubles:
        lines += ["But that was not the end of the story.", *adventure(rng, pronouns, troubles)]
    lines.append(rng.choice(MORALS)[0])
    it, its, it2 = pronouns
    slots = {"It": sentence(it), "it": it, "its": its, "it2": it2, "name": name}
    return expand(rng, " ".join(lines), **slots)


POEMS = rows("""
the sea|Blue waves roll and sing;~white foam runs along the sand;~the moon calls them home.
the moon|Silver lamp at night,~you walk softly on the roofs~while the town is still.
the sun|Gold behind the hill,~the first light touches my hand~and the day begins.
rain|Small drops on the glass~write a long and quiet song~that the garden knows.
snow|White and soft it falls;~the road forgets its own name;~one bird leaves a line.
spring|Green tips in the earth,~a warm wind opens the door;~the old tree is young.
summer|Long light on the lake,~bees hum over the clover;~nobody must go.
autumn|Red leaves let go now;~the wind counts them one by one~and keeps none of them.
winter|Ice upon the pond;~smoke climbs straight out of the roof;~the fire tells tales.
a cat|Soft paws on the stairs,~two green lamps in the dark hall;~the mouse holds its breath.
a dog|A wet nose says hi,~a tail beats upon the floor:~you are home at last.
a bird|A note in the dawn,~a small heart on a thin branch~wakes the sleeping street.
a tree|Roots deep in the dark,~a hundred hands in the light:~it stands and it grows.
a flower|One bud in the grass~opens when no one looks on~and colours the day.
love|A hand finds a hand;~no word is needed for it;~the night is less dark.
a friend|You knock and come in;~the tea is warm, the talk long;~the clock does not count.
the night|Stars over the field;~every sound goes to its bed;~only owls still ask.
the stars|Far fires, small lights,~old letters from long ago:~tonight we read them.
the wind|No face and no hands,~yet it opens every door~and turns every page.
a river|It never turns back;~stones grow round in its cold arms;~the sea knows its name.
the forest|Tall and green and still,~the path bends and hides its end;~a deer lifts its head.
a mountain|Cloud around your head,~snow upon your old shoulders,~you wait and you stay.
computers|Small lights blink all night;~numbers run on copper roads~and come back as words.
Cortensor|Many far machines~share one question and one light:~an answer flows home.
tokens|One word, then one more,~a thin bridge grows in the dark~and you walk on it.
a miner|Fans hum in the room;~a question comes from far off;~work is signed and paid.
time|It makes no more noise~than a leaf upon water,~and carries us all.
music|Air begins to dance;~strings remember all the hills;~my feet understand.
coffee|Steam above the cup,~the morning has a dark taste~and then it has eyes.
the city|Windows full of light,~a thousand lives side by side,~one moon for them all.
""")

POEM_ASKS = """[Write|Write me|Please write|Can you write|Give me|Make|Tell me|Compose] a [short |little |nice ||small ][poem|haiku|verse|poem] [about|on] {x}[.|?|, please.|]
[A|One] [poem|haiku] about {x}[, please|]
poem about {x}
haiku about {x}
Do you know a poem about {x}?""".splitlines()

FREE_POEM_ASKS = """[Write|Write me|Please write|Can you write|Give me] a [short |little |nice |][poem|haiku][.|?|, please.|]
[Another|One more] [poem|haiku][, please|]
Do you know a poem?
I want a poem""".splitlines()


def poem(rng: random.Random) -> list:
    subject, lines = rng.choice(POEMS)
    asks = POEM_ASKS if rng.random() < 0.8 else FREE_POEM_ASKS
    topic = subject
    if rng.random() < 0.25 and subject.startswith(("a ", "the ")):
        topic = subject.split(" ", 1)[1] + ("s" if subject.startswith("a ") else "")
    return [(expand(rng, rng.choice(asks), x=topic), "\n".join(sentence(line) for line in lines.split("~")))]


LIST_ASKS = """[Name|List|Give me|Tell me|Write down|Can you name|Please list|I need|Write a list of|Make a list of] {n} {x}[.|?|]
What are {n} {x}?
[Which|What] {n} {x} do you know?""".splitlines()


def list_of(rng: random.Random) -> list:
    category, members = rng.choice(list(words.CATEGORIES.items()))
    count = rng.randint(2, min(len(members), 7))
    counted = rng.random() < 0.75
    if not counted:
        count = min(len(members), 5)
    number = rng.choice([str(count), words.NUMBER_WORDS[count]]) if counted else rng.choice(["some", "a few", "", ""])
    ask = expand(rng, rng.choice(LIST_ASKS), n=number, x=category)
    chosen = members[:count]
    if rng.random() < 0.2:
        return [(ask.rstrip(".?") + " " + rng.choice(["in one line", "with commas", "in a sentence"]) + ".", f"{sentence(join_words(chosen))}.")]
    return [(ask, "\n".join(f"{i}. {sentence(word)}" for i, word in enumerate(chosen, start=1)))]


def counting(rng: random.Random) -> list:
    kind = rng.random()
    if kind < 0.55:
        start, stop = 1, rng.choice([3, 4, 5, 5, 6, 7, 8, 10, 10, 10, 12, 15, 20, 20, 30, 50])
        ask = expand(rng, "[Count|Please count|Can you count|Count up] [to|up to|from 1 to|from one to] {stop}[.|?|]", stop=rng.choice([stop, words.NUMBER_WORDS[stop]]) if stop <= 20 else stop)
        numbers = range(start, stop + 1)
    elif kind < 0.7:
        start = rng.randint(2, 95)
        stop = start + rng.randint(2, 10)
        ask = expand(rng, "[Count|Please count|Can you count] from {a} to {b}[.|?|]", a=start, b=stop)
        numbers = range(start, stop + 1)
    elif kind < 0.85:
        start = rng.choice([3, 5, 5, 10, 10, 10, 8, 12])
        ask = expand(rng, "[Count|Please count|Can you count] [backwards|down|back] from {a}[.|?|| to 1| to one]", a=rng.choice([start, words.NUMBER_WORDS[start]]))
        numbers = range(start, 0, -1)
    else:
        step = rng.choice([2, 5, 10])
        stop = step * rng.choice([5, 10])
        ask = expand(rng, "[Count|Please count] [by|in] {word} [to|up to] {stop}[.|]", word=f"{words.NUMBER_WORDS[step]}s" if step != 5 else "fives", stop=stop)
        numbers = range(step, stop + 1, step)
    return [(ask, ", ".join(str(number) for number in numbers) + ".")]


HOW_TOS = rows("""
make tea~brew tea~make a cup of tea|Boil some water.~Put a tea bag into a cup.~Pour the hot water over it.~Wait for three minutes.~Take the bag out and enjoy your tea.
make coffee~brew coffee|Boil some water.~Put ground coffee into a filter.~Pour the water over it slowly.~Wait until it has run through.~Add milk if you like.
make a sandwich~prepare a sandwich|Take two slices of bread.~Put butter on them.~Add cheese and some tomato.~Put the slices together.~Cut it in half and eat.
boil an egg~cook an egg|Put water into a pot and boil it.~Lay the egg in carefully.~Wait for seven minutes.~Cool it with cold water.~Peel it and add a little salt.
plant a seed~grow a plant~plant a flower|Fill a pot with soil.~Make a small hole with your finger.~Lay the seed in and cover it.~Give it some water.~Put the pot in the light and wait.
brush my teeth~brush teeth~clean my teeth|Put some toothpaste on the brush.~Brush the outside, the inside and the top.~Keep going for two minutes.~Rinse your mouth with water.~Clean the brush.
wash my hands~wash hands|Make your hands wet.~Take some soap.~Rub for twenty seconds.~Rinse with clean water.~Dry them with a towel.
cook pasta~make pasta~cook spaghetti|Boil a large pot of water.~Add salt.~Put the pasta in.~Wait for about ten minutes.~Drain the water and add a sauce.
cook rice~make rice|Wash the rice.~Put one cup of rice and two cups of water into a pot.~Bring it to the boil.~Let it stand on low heat for fifteen minutes.~Stir it and serve.
fall asleep~sleep better~sleep well|Put your phone away.~Make the room dark and cool.~Lie down and breathe slowly.~Think of a quiet place.~Let the day go.
make a friend~make friends~find a friend|Smile and say hello.~Ask a question and listen well.~Tell something about yourself.~Do something together.~Be patient and kind.
learn a language~learn English~learn something new|Practise a little every day.~Learn a few words at a time.~Read short and easy texts.~Speak with others, even with mistakes.~Do not give up.
send a letter~write a letter|Take a sheet of paper.~Write the date and a greeting.~Tell what you want to say.~Put it into an envelope with a stamp.~Bring it to the post office.
make a salad~prepare a salad|Wash some lettuce.~Cut a tomato and a cucumber.~Put everything into a bowl.~Add oil, salt and lemon juice.~Mix it well.
open a session~use Cortensor~pay with Cortensor|Choose how many tokens to deposit.~Open a session on the chain.~Send your questions to a router.~Sign a voucher for each answer.~Close the session to get the rest back.
become a miner~run a miner~start mining|Install the cortensor program.~Add a model with cortensor model add.~Lock some stake and register your node.~Start the miner.~Answer prompts and redeem your vouchers.
tie my shoes~tie shoes|Pull both laces tight.~Cross them and pull one through.~Make a loop with one lace.~Wrap the other one around it.~Pull it through and make it tight.
make a fire~light a campfire|Find a safe place with stones around it.~Put dry grass in the middle.~Add small sticks.~Light the grass.~Add larger wood and keep water near.
paint a picture~draw a picture|Choose what you want to paint.~Draw the large shapes first.~Mix your colours.~Fill the shapes with colour.~Add the small details at the end.
bake bread~make bread|Mix flour, water, salt and yeast.~Knead the dough for ten minutes.~Let it rest for an hour.~Form a loaf.~Bake it until it is brown.
""")


def how_to(rng: random.Random) -> list:
    names, steps = rng.choice(HOW_TOS)
    asks = "[How do I|How can I|How do you|How to|Tell me how to|Explain how to|Show me how to|What is the best way to|Please explain how to|Can you explain how to|I want to] {x}[?|.|]"
    ask = expand(rng, asks, x=rng.choice(names.split("~")))
    return [(ask, "\n".join(f"{i}. {step}" for i, step in enumerate(steps.split("~"), start=1)))]
