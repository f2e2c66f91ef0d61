"""Product files of WebShop: ``items_shuffle*.json``, ``items_ins_v2*.json``, human wishes."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m2n2lab.tasks.shopping.catalogue import Goal, Product, price_limit
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.json_text import read_json_file

DEFAULT_PRICE_DOLLARS = 100.0
"""Price of a product without one, as in WebShop."""

_PRICE = re.compile(r"\d[\d,]*(?:\.\d+)?")


def read_json(path: str | Path, expected: type, what: str) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing, damaged, empty or not of the expected type.
    """
    path = Path(path)
    try:
        found = read_json_file(path)
    except FileNotFoundError:
        raise InputError(
            f"{path} must be {what}, but there is no such file; check the path."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} could not be read ({error}); get it again.") from error
    if not isinstance(found, expected) or not found:
        got = "an empty one" if isinstance(found, expected) else f"a {type(found).__name__}"
        raise InputError(f"{path} must be {what}, got {got}; get WebShop's own file.")
    return found


def read_products(path: str | Path, attributes: str | Path | None = None) -> list[Product]:
    """Read the products of WebShop's files.

    Args:
        path: ``items_shuffle*.json``, a list of products.
        attributes: ``items_ins_v2*.json``, the attributes of each asin.

    Raises:
        InputError: a file is missing, damaged, empty or in another format.
    """
    rows = read_json(path, list, "a list of products")
    known = {} if attributes is None else read_json(attributes, dict, "attributes by asin")
    found: dict[str, Product] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or not row.get("asin") or not row.get("name"):
            raise InputError(
                f"{path} must hold products with an asin and a name, got {str(row)[:60]!r} as "
                f"number {number}; get WebShop's own file."
            )
        try:
            item = _product(row, known.get(str(row["asin"])))
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{path} must hold products with fields of WebShop's types, but number {number}, "
                f"{str(row['asin'])[:60]!r}, has another ({error}); get WebShop's own file."
            ) from error
        found.setdefault(item.id, item)  # like WebShop, keep the first with an id
    return list(found.values())


def _product(row: Mapping[str, Any], known: Any) -> Product:
    bullets = row.get("small_description") or ()
    prices = _PRICE.findall(str(row.get("pricing") or ""))
    path = str(row.get("product_category") or "")
    return Product(
        id=str(row["asin"]),
        title=str(row["name"]),
        query=str(row.get("query") or "").casefold().strip(),
        categories=tuple(part.strip() for part in path.split("›") if part.strip()),
        price=_price(prices[0]) if prices else DEFAULT_PRICE_DOLLARS,
        attributes=_texts(known, "attributes"),
        options=dict(_options(row.get("customization_options"))),
        bullets=(bullets,) if isinstance(bullets, str) else tuple(map(str, bullets)),
        description=str(row.get("full_description") or ""),
    )


def _price(text: str) -> float:
    """Return a price in dollars.

    Raises:
        OverflowError: it is too large for a number.
    """
    dollars = float(text.replace(",", ""))
    if math.isinf(dollars):
        raise OverflowError("a price without end")
    return dollars


def _texts(row: Any, key: str) -> tuple[str, ...]:
    found = row.get(key) if isinstance(row, Mapping) else None
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _options(found: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Return names and values of options, in lower case as WebShop shows them."""
    options = []
    for name, choices in found.items() if isinstance(found, Mapping) else ():
        values = [c.get("value") for c in choices or () if isinstance(c, Mapping)]
        shown = [str(v).strip().replace("/", " | ").casefold() for v in values if v]
        if shown:
            options.append((str(name).casefold(), tuple(dict.fromkeys(shown))))
    return options


def read_goals(
    products: list[Product],
    attributes: str | Path | None = None,
    human: str | Path | None = None,
    seed: int = 0,
) -> list[Goal]:
    """Read wishes for these products, in an order that depends on the seed.

    Args:
        products: the products for sale.
        attributes: ``items_ins_v2*.json``, with a generated instruction for some products.
        human: ``items_human_ins*.json``, with instructions that people wrote; preferred if given.
        seed: seed of the order, price limits and, for generated instructions, options.

    Raises:
        InputError: no file is given, or it has no wish for any of these products.
    """
    if human is None and attributes is None:
        raise InputError(
            "WebShop's products need a file with instructions, items_ins_v2*.json or "
            "items_human_ins*.json, got none; give attributes=… or human=…."
        )
    source = human if human is not None else attributes
    assert source is not None
    rows = read_json(source, dict, "instructions by asin")
    draw = random.Random(f"wishes {seed}")
    found = []
    for item in products:
        row = rows.get(item.id)
        for wish in row if isinstance(row, list) else [row]:
            if isinstance(wish, Mapping) and wish.get("instruction"):
                found.append(_goal(item, wish, human is not None, draw))
    if not found:
        raise InputError(
            f"{source} must hold an instruction for one of the {len(products)} products, but it "
            f"has none; use files that belong together."
        )
    draw.shuffle(found)
    return found


def _goal(item: Product, wish: Mapping[str, Any], human: bool, draw: random.Random) -> Goal:
    text = str(wish["instruction"]).strip().rstrip(".")
    options = _texts(wish, "instruction_options")
    if not human:
        chosen = {name: draw.choice(values) for name, values in item.options.items()}
        text += "".join(f", and {name}: {value}" for name, value in chosen.items())
        options = tuple(chosen.values())
    limit = price_limit(item.price, draw)
    text += f", and price lower than {limit:.2f} dollars"
    return Goal(text, item, _texts(wish, "instruction_attributes"), options, limit)
