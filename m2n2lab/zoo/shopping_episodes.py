"""Shopping episodes: trips of a good customer, on which a tiny agent is trained."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

from m2n2lab.tasks.shopping.catalogue import Goal, goals, products
from m2n2lab.tasks.shopping.simulator import BUY, Action, Shop, Visit
from m2n2lab.tasks.shopping.webshop import Turn

PRODUCTS_PER_PAGE = 4
"""Products on a page of results: few, since prompts for tiny models must be short."""

FIRST_TRAINING_SEED = 1_000
"""First seed of training catalogues; those below are for searches and tests."""


def plan(shop: Shop, goal: Goal) -> list[Action]:
    """Return a good customer's actions: search, pick, choose options, buy.

    The first product within the price limit is picked: the page shows no more about them.
    """
    search = Action("search", " ".join([*goal.attributes, goal.product.query]))
    found = shop.search(search.value)[: shop.page]
    limit = float("inf") if goal.limit is None else goal.limit
    cheap = [id for id in found if shop.products[id].price <= limit] or list(found)
    picks = (cheap[0], *goal.options, BUY)
    return [search, *(Action("click", value) for value in picks)]


def trip(shop: Shop, goal: Goal) -> tuple[list[Turn], float]:
    """Return the turns of a good customer's trip, and its reward."""
    visit, turns = Visit(shop, goal), []
    for action in plan(shop, goal):
        observation = visit.observation
        text = f" {action.name}[{action.value}]"
        turns.append(Turn(observation, text, action, visit.act(action)))
    return turns, visit.reward


def wishes(seed: int = 0) -> Iterator[tuple[Shop, Goal]]:
    """Yield wishes from new catalogues without end, except those of searches and tests."""
    asked = {_wish(goal) for goal in goals(products(0), 0)}
    for number in count():
        own = FIRST_TRAINING_SEED + random.Random(f"catalogue {seed} {number}").randrange(10**9)
        sold = products(own)
        shop = Shop(sold, PRODUCTS_PER_PAGE)
        for goal in goals(sold, own):
            if _wish(goal) not in asked:
                yield shop, goal


def _wish(goal: Goal) -> tuple[object, ...]:
    """Return the contents of a wish, without the product's title."""
    return (goal.product.query, frozenset(goal.attributes), goal.options)
