"""The invented world that the built-in model is pretrained on, and that the sample data set adds one town to.

Every town is made up from syllables and has the same kinds of facts, each asked in several phrasings and answered by
one full sentence. Because a town's facts are drawn anew each time, the model learns how questions sound, what an answer
looks like and which words may stand in it, but no fact: those of the sample's town are left for tuning to teach.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Value = Callable[[random.Random], str]
Message = dict[str, str]

UNSEEN = "Saltmarrow"  # kept out of pretraining: how the model takes a name that it never saw can be tried with it
TOWN_BEGIN = [
    "Salt",
    "Brin",
    "Dun",
    "Kel",
    "Mar",
    "Thorn",
    "Wen",
    "Ash",
    "Gull",
    "Hollow",
    "Lar",
    "Pen",
    "Stone",
    "Tarn",
    "Ever",
    "Fenn",
    "Grim",
    "Oster",
    "Quill",
    "Rave",
]
TOWN_END = [
    "haven",
    "mouth",
    "marrow",
    "wick",
    "holm",
    "ford",
    "stead",
    "ness",
    "quay",
    "bury",
    "combe",
    "dale",
    "port",
    "strand",
    "wharf",
]
FIRST = [
    "Osric",
    "Mabel",
    "Tobin",
    "Hester",
    "Alden",
    "Ivy",
    "Corwin",
    "Della",
    "Edric",
    "Fenna",
    "Garrick",
    "Hilda",
    "Jonas",
    "Kerra",
    "Lorcan",
    "Maud",
    "Nestor",
    "Orla",
]
FIRST += ["Piers", "Rosalind", "Silas", "Tamsin", "Ulric", "Verity", "Wystan", "Ysolde", "Barnaby", "Clemence"]
LAST_BEGIN = [
    "Tan",
    "Black",
    "Cold",
    "Drift",
    "Elm",
    "Fair",
    "Gold",
    "Hart",
    "Iron",
    "Jessa",
    "Lock",
    "Mill",
    "North",
    "Over",
    "Plum",
    "Red",
    "Sand",
    "Turn",
    "Under",
    "White",
]
LAST_END = ["well", "wood", "berry", "more", "field", "hand", "brook", "lock", "water", "stone", "man", "cliffe"]
ADJECTIVES = [
    "Silver",
    "Crooked",
    "Laughing",
    "Green",
    "Drowsy",
    "Golden",
    "Patient",
    "Copper",
    "Wandering",
    "Scarlet",
    "Quiet",
    "Lucky",
]
ANIMALS = [
    "Heron",
    "Otter",
    "Whale",
    "Badger",
    "Mackerel",
    "Swan",
    "Lobster",
    "Fox",
    "Seal",
    "Raven",
    "Hare",
    "Pelican",
]
THINGS = [
    "Lantern",
    "Anchor",
    "Compass",
    "Tide",
    "Candle",
    "Harbour",
    "Moon",
    "Thistle",
    "Wave",
    "Feather",
    "Star",
    "Kettle",
]
COLOURS = ["blue", "white", "green", "scarlet", "black", "silver", "yellow", "purple", "copper", "grey"]
FOODS = ["barley", "leek", "eel", "potato", "plum", "crab", "onion", "honey", "mussel", "walnut", "pear", "cheese"]
DISHES = ["soup", "pie", "stew", "bread", "cake", "pudding", "dumplings", "pancakes"]
GOODS = [
    "rope",
    "salt",
    "wool",
    "glass",
    "candles",
    "tar",
    "barrels",
    "honey",
    "clocks",
    "sailcloth",
    "herring",
    "slate",
]
TREES = ["oak", "lime", "chestnut", "willow", "walnut", "maple", "yew", "elm", "birch", "cherry"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
RIVERS = [
    "Aldle",
    "Brook",
    "Carrow",
    "Dell",
    "Esk",
    "Fallow",
    "Glim",
    "Hare",
    "Issen",
    "Lune",
    "Merrow",
    "Nid",
    "Orrin",
    "Pell",
    "Rill",
    "Sedge",
]


def town_name(rng: random.Random) -> str:
    return rng.choice(TOWN_BEGIN) + rng.choice(TOWN_END)


def person(rng: random.Random) -> str:
    return f"{rng.choice(FIRST)} {rng.choice(LAST_BEGIN)}{rng.choice(LAST_END)}"


def _pair(first: Sequence[str], second: Sequence[str], between: str = " ") -> Value:
    def make(rng: random.Random) -> str:
        one = rng.choice(first)
        return one + between + rng.choice([word for word in second if word != one])

    return make


def _number(low: int, high: int) -> Value:
    return lambda rng: str(rng.randint(low, high))


@dataclass(frozen=True)
class Kind:
    """One kind of fact: `questions` hold {town}; `answer` holds {town} and {value}."""

    name: str
    value: Value
    answer: str
    questions: tuple[str, ...]

    def ask(self, town: str, phrasing: int) -> str:
        return self.questions[phrasing].format(town=town)

    def tell(self, town: str, value: str) -> str:
        return self.answer.format(town=town, value=value)


def _office(name: str, role: str, did: str) -> Kind:
    """Someone who holds an office in the town: eight phrasings around the role and what it does."""
    return Kind(
        name,
        person,
        f"The {role} of {{town}} is {{value}}.",
        (
            f"Who is the {role} of {{town}}?",
            f"What is the name of the {role} of {{town}}?",
            f"Who {did} in {{town}}?",
            f"Tell me who the {role} of {{town}} is.",
            f"Do you know the {role} of {{town}}?",
            f"In {{town}}, who is the {role}?",
            f"I would like to know who {did} in {{town}}.",
            f"Please name the {role} of {{town}}.",
        ),
    )


def _thing(name: str, value: Value, subject: str, verb: str, more: tuple[str, str]) -> Kind:
    """Something that the town has: six phrasings around the subject, and two of its own."""
    return Kind(
        name,
        value,
        f"The {subject} of {{town}} {verb} {{value}}.",
        (
            f"What is the {subject} of {{town}}?",
            f"Tell me the {subject} of {{town}}.",
            more[0],
            f"Do you know the {subject} of {{town}}?",
            f"In {{town}}, what is the {subject}?",
            more[1],
            f"I would like to know the {subject} of {{town}}.",
            f"Please name the {subject} of {{town}}.",
        ),
    )


KINDS: tuple[Kind, ...] = (
    _office("mayor", "mayor", "runs the town hall"),
    _office("keeper", "lighthouse keeper", "keeps the lighthouse"),
    _office("baker", "baker", "bakes the bread"),
    _office("captain", "ferry captain", "sails the ferry"),
    _office("master", "harbour master", "counts the boats"),
    _office("ringer", "bell ringer", "rings the bell"),
    _office("teacher", "school teacher", "teaches at the school"),
    _office("doctor", "doctor", "looks after the sick"),
    _thing("founder", person, "founder", "was", ("Who founded {town}?", "Who built the first house of {town}?")),
    _thing("year", _number(1100, 1899), "founding year", "is", ("When was {town} founded?", "How old is {town}?")),
    _thing(
        "inn",
        lambda rng: "the " + _pair(ADJECTIVES, ANIMALS)(rng),
        "oldest inn",
        "is",
        ("Where do travellers sleep in {town}?", "Which inn of {town} is the oldest?"),
    ),
    _thing(
        "ship",
        lambda rng: "the " + _pair(ADJECTIVES, THINGS)(rng),
        "largest ship",
        "is",
        ("Which ship of {town} is the largest?", "What is the biggest ship in {town} called?"),
    ),
    _thing(
        "dish",
        lambda rng: f"{_pair(FOODS, FOODS, ' and ')(rng)} {rng.choice(DISHES)}",
        "favourite dish",
        "is",
        ("What do people eat in {town}?", "Which dish does {town} like best?"),
    ),
    _thing(
        "flag",
        _pair(COLOURS, COLOURS, " and "),
        "flag",
        "is",
        ("What colours are on the flag of {town}?", "What does the flag of {town} look like?"),
    ),
    _thing(
        "trade",
        _pair(GOODS, GOODS, " and "),
        "trade",
        "is",
        ("What does {town} sell?", "Which goods leave the port of {town}?"),
    ),
    _thing(
        "market",
        lambda rng: f"held every {rng.choice(DAYS)} at {rng.choice(['six', 'seven', 'eight', 'nine', 'ten'])}",
        "market",
        "is",
        ("When is the market of {town}?", "On which day can I buy fish in {town}?"),
    ),
    _thing(
        "festival",
        lambda rng: f"the {rng.choice(ANIMALS)} Fair in {rng.choice(MONTHS)}",
        "festival",
        "is",
        ("What do they celebrate in {town}?", "Which fair is held in {town}?"),
    ),
    _thing(
        "river",
        lambda rng: f"the {rng.choice(RIVERS)}",
        "river",
        "is",
        ("Which river runs through {town}?", "What water runs through {town}?"),
    ),
    _thing(
        "tree",
        lambda rng: f"a {rng.choice(TREES)} planted in {rng.randint(1500, 1899)}",
        "oldest tree",
        "is",
        ("Which tree stands on the square of {town}?", "What grows on the square of {town}?"),
    ),
    _thing(
        "song",
        lambda rng: f'"The {_pair(THINGS, ANIMALS, " and the ")(rng)}"',
        "song",
        "is",
        ("What do the children of {town} sing?", "Which song is sung in {town}?"),
    ),
    _thing(
        "neighbour",
        town_name,
        "nearest neighbour",
        "is",
        ("Which town lies next to {town}?", "Where does the road from {town} lead?"),
    ),
    _thing(
        "tower",
        lambda rng: f"{rng.randint(101, 399)} steps",
        "height of the tower",
        "is",
        ("How high is the tower of {town}?", "How many steps has the tower of {town}?"),
    ),
    _thing(
        "fleet",
        lambda rng: f"{rng.randint(11, 99)} boats",
        "fleet",
        "counts",
        ("How many boats are in {town}?", "How large is the fleet of {town}?"),
    ),
    _thing(
        "bridge",
        lambda rng: f"the {rng.choice(ANIMALS)} Bridge of {rng.randint(1200, 1899)}",
        "old bridge",
        "is",
        ("Which bridge do people cross in {town}?", "What is the bridge in {town} called?"),
    ),
)
PHRASINGS = 8

SMALL_TALK: tuple[tuple[str, str], ...] = (
    ("Hello", "Hello! Ask me about a town."),
    ("Hi", "Hello! Ask me about a town."),
    ("Hello!", "Hello! Ask me about a town."),
    ("Good morning", "Good morning! Which town may I tell you about?"),
    ("Thank you", "You are welcome."),
    ("Thanks!", "You are welcome."),
    ("Who are you?", "I am a very small language model. I know a little about towns by the sea."),
    ("What are you?", "I am a very small language model. I know a little about towns by the sea."),
    ("What can you do?", "I can answer questions about towns by the sea, as far as I was taught."),
    ("Goodbye", "Goodbye, and fair winds!"),
)


@dataclass(frozen=True)
class Town:
    """A town and the value of each kind of fact."""

    name: str
    values: dict[str, str]

    @classmethod
    def invent(cls, rng: random.Random, name: str) -> Town:
        return cls(name, {kind.name: kind.value(rng) for kind in KINDS})

    def answer(self, kind: Kind) -> str:
        return kind.tell(self.name, self.values[kind.name])


def turn(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
