"""Generated catalogue: products and wishes from a seed, for WebShop without its data.

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
    """A product of the shop.

    Attributes:
        id: its identifier in the shop (asin).
        title: its name.
        query: the search to which it belongs, such as ``"shampoo"``.
        categories: from the widest to the narrowest.
        price: in dollars.
        attributes: its attributes, such as ``"sulfate free"``.
        options: values to choose from, by the name of the option.
        bullets: its features, one a line.
        description: its description.
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
    """A wish for a product.

    Attributes:
        instruction: the text of the wish.
        product: the product that the wish was made for; it gets the full reward.
        attributes: the attributes asked for.
        options: the values of options asked for.
        limit: the highest price in dollars; ``None`` for any.
    """

    instruction: str
    product: Product
    attributes: tuple[str, ...]
    options: tuple[str, ...]
    limit: float | None

    @property
    def truth(self) -> str:
        """The right purchase as text."""
        return named(self.product.title, self.options)


def named(title: str, options: Sequence[str]) -> str:
    """Return a title with the options chosen."""
    return f"{title} ({', '.join(options)})" if options else title


COLORS = ("black", "white", "blue", "red", "green", "grey", "pink", "brown")
BRANDS = ("Alder", "Brook", "Cedar", "Dune", "Ember", "Fjord", "Grove", "Haven")
CLOTHES = {"color": COLORS, "size": ("small", "medium", "large", "x-large")}
BOTTLES = {"size": ("2 ounce", "4 ounce", "8 ounce", "16 ounce")}
FLAVORS = {"flavor": ("vanilla", "chocolate", "lemon", "apple", "salted"), **BOTTLES}

Texts = tuple[str, ...]

SHELVES: Mapping[str, tuple[Texts, Mapping[str, Texts], Texts]] = {
    # category: types of products, options, attributes
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
    """Return a generated catalogue with ``each`` products of each of 30 types."""
    draw = random.Random(f"products {whole_number('seed', seed, 0)}")
    found: list[Product] = []
    for category, (types, choices, attributes) in SHELVES.items():
        for name, number in every(types, range(whole_number("each", each, 1))):
            mine = tuple(draw.sample(attributes, 3))
            options = {
                option: tuple(sorted(draw.sample(values, len(values) - 1), key=values.index))
                for option, values in choices.items()
            }
            brand = BRANDS[number % len(BRANDS)]
            # The title has only one of its attributes; the others are among its features.
            title = f"{brand} {name}, {mine[0]}"
            found.append(
                Product(
                    id=f"B{len(found):04d}",
                    title=title,
                    query=name,
                    categories=(category, name),
                    price=draw.randrange(524, 9000, 25) / 100,
                    attributes=mine,
                    options=options,
                    bullets=tuple(f"This {name} is {attribute}." for attribute in mine),
                    description=f"{name} by {brand} for every day.",
                )
            )
    return found


def goals(catalogue: list[Product], seed: int = 0) -> list[Goal]:
    """Return a wish for each product, in an order that depends on the seed."""
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
    """Return a round price limit above ``price``, as in WebShop's instructions."""
    return 10.0 * (int(price // 10) + 1 + draw.randrange(4))
