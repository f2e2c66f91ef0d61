"""A catalogue of products and wishes, made by code from a seed: WebShop without its data.

Titles, attributes, options and instructions are worded as in WebShop (arXiv 2207.01206).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product as every

from m2n2lab.utils.errors import whole_number


@dataclass(frozen=True)
class Product:
    """Something to buy.

    Attributes:
        id: its number in the shop (asin).
        title: its name.
        query: the kind of search that finds it, such as ``"shampoo"``.
        categories: from the widest to the narrowest.
        price: in dollars.
        attributes: what it is, such as ``"sulfate free"``.
        options: what can be chosen, by name, and the values to choose from.
        bullets: its features, one a line.
        description: more about it.
    """

    id: str
    title: str
    query: str
    categories: tuple[str, ...]
    price: float
    attributes: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bullets: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class Goal:
    """What somebody wants.

    Attributes:
        instruction: the wish in words.
        product: the product that it was made for; it gets the full reward.
        attributes: those that are asked for.
        options: values that are asked for.
        limit: the highest price in dollars; ``None`` for any.
    """

    instruction: str
    product: Product
    attributes: tuple[str, ...]
    options: tuple[str, ...]
    limit: float | None

    @property
    def truth(self) -> str:
        """What would be right, in words."""
        return named(self.product.title, self.options)


def named(title: str, options: Sequence[str]) -> str:
    """Return a title, and the options that were chosen."""
    return f"{title} ({', '.join(options)})" if options else title


COLORS = ("black", "white", "blue", "red", "green", "grey", "pink", "brown")
BRANDS = ("Alder", "Brook", "Cedar", "Dune", "Ember", "Fjord", "Grove", "Haven")
CLOTHES = {"color": COLORS, "size": ("small", "medium", "large", "x-large")}
BOTTLES = {"size": ("2 ounce", "4 ounce", "8 ounce", "16 ounce")}
FLAVORS = {"flavor": ("vanilla", "chocolate", "lemon", "apple", "salted"), **BOTTLES}

Texts = tuple[str, ...]

SHELVES: Mapping[str, tuple[Texts, Mapping[str, Texts], Texts]] = {
    # category: kinds of products, options, attributes
    "beauty": (
        ("shampoo", "face cream", "lip balm", "body lotion", "hair mask", "bath soap"),
        BOTTLES,
        ("sulfate free", "cruelty free", "long lasting", "for dry skin", "paraben free", "vegan"),
    ),
    "fashion": (
        ("hoodie", "running shoes", "dress shirt", "swimsuit", "winter coat", "leggings"),
        CLOTHES,
        ("machine wash", "slim fit", "water resistant", "long sleeve", "quick drying", "stretchy"),
    ),
    "grocery": (
        ("granola bars", "green tea", "trail mix", "protein powder", "rice crackers", "cookies"),
        FLAVORS,
        ("gluten free", "low sugar", "keto friendly", "non gmo", "dairy free", "organic"),
    ),
    "electronics": (
        ("headphones", "phone case", "charging cable", "bluetooth speaker", "keyboard", "webcam"),
        {"color": COLORS},
        (
            "fast charging",
            "noise cancelling",
            "wireless",
            "heavy duty",
            "lightweight",
            "hands free",
        ),
    ),
    "furniture": (
        ("coffee table", "desk lamp", "bookcase", "bar stool", "area rug", "floor mirror"),
        {"color": COLORS, "style": ("modern", "rustic", "classic")},
        ("space saving", "easy assemble", "solid wood", "eco friendly", "easy clean", "foldable"),
    ),
}
WISHES = (
    "i am looking for {what}",
    "i need {what}",
    "find me {what}",
    "i want to buy {what}",
    "can you help me find {what}",
)


def products(seed: int = 0, each: int = 10) -> list[Product]:
    """Return a generated catalogue, ``each`` products of every one of 30 kinds."""
    draw = random.Random(f"products {whole_number('seed', seed, 0)}")
    found: list[Product] = []
    for category, (kinds, choices, attributes) in SHELVES.items():
        for kind, number in every(kinds, range(whole_number("each", each, 1))):
            mine = tuple(draw.sample(attributes, 3))
            options = {
                name: tuple(sorted(draw.sample(values, len(values) - 1), key=values.index))
                for name, values in choices.items()
            }
            brand = BRANDS[number % len(BRANDS)]
            # Only some of what it is stands in its title; the rest is among its features.
            title = f"{brand} {kind}, {mine[0]}"
            found.append(
                Product(
                    id=f"B{len(found):04d}",
                    title=title,
                    query=kind,
                    categories=(category, kind),
                    price=draw.randrange(524, 9000, 25) / 100,
                    attributes=mine,
                    options=options,
                    bullets=tuple(f"This {kind} is {attribute}." for attribute in mine),
                    description=f"{kind} by {brand} for every day.",
                )
            )
    return found


def goals(catalogue: list[Product], seed: int = 0) -> list[Goal]:
    """Return a wish for each product, in an order that the seed decides."""
    draw = random.Random(f"goals {whole_number('seed', seed, 0)}")
    order = draw.sample(catalogue, len(catalogue))
    return [_goal(item, draw) for item in order]


def _goal(item: Product, draw: random.Random) -> Goal:
    wanted = tuple(draw.sample(item.attributes, min(2, len(item.attributes))))
    chosen = {name: draw.choice(values) for name, values in item.options.items() if values}
    limit = price_limit(item.price, draw)
    what = ", ".join([*wanted, item.query])
    for name, value in chosen.items():
        what += f", {name} {value}"
    text = f"{draw.choice(WISHES).format(what=what)}, and price lower than {limit:.2f} dollars"
    return Goal(text, item, wanted, tuple(chosen.values()), limit)


def price_limit(price: float, draw: random.Random) -> float:
    """Return a round price above ``price``, as WebShop adds to its instructions."""
    return 10.0 * (int(price // 10) + 1 + draw.randrange(4))
