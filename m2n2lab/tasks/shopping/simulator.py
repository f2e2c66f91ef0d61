"""Text shop: pages, actions and the reward, as in WebShop (arXiv 2207.01206)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

from m2n2lab.tasks.shopping.catalogue import Goal, Product, named
from m2n2lab.utils.errors import whole_number
from m2n2lab.utils.extras import missing

PRODUCTS_PER_PAGE = 10
"""Products on a page of results by default."""

MAX_RESULTS = 50
"""Most products that a search returns."""

MIN_SIMILARITY = 85.0
"""Token-set ratio above which two texts count as equal."""

BACK, NEXT, PREVIOUS, BUY = "Back to Search", "Next >", "< Prev", "Buy Now"
PARTS = ("Description", "Features", "Reviews")

Page = Literal["search", "results", "item", "part", "done"]

_WORD = re.compile(r"[a-z]+")
_COMMON = frozenset(
    [
        *("a", "an", "and", "are", "at", "by", "for", "from", "in", "is", "it", "its", "of"),
        *("on", "or", "pack", "set", "the", "this", "to", "with", "your"),
    ]
)


class Action(NamedTuple):
    """``search[keywords]`` or ``click[value]``."""

    name: str
    value: str


_ACTION = re.compile(r"\b(search|click)\s*\[([^\[\]\n]*)\]", re.IGNORECASE)


def parse_action(text: str) -> Action | None:
    """Return the first action in a model's answer, after ``Action:`` if it contains that."""
    _, mark, rest = text.partition("Action:")
    match = _ACTION.search(rest if mark else text)
    return match and Action(match[1].lower(), match[2].strip())


class Shop:
    """Products and a search over them; one shop serves any number of visits.

    Args:
        products: the products for sale.
        page: products on a page of results.

    Raises:
        InputError: ``page`` is below 1, or bm25s or rapidfuzz is not installed.
    """

    def __init__(self, products: Sequence[Product], page: int = PRODUCTS_PER_PAGE) -> None:
        self.page = whole_number("page", page, 1)
        for library in ("bm25s", "rapidfuzz"):
            if find_spec(library) is None:
                raise missing("The shop", library, "llm")
        self.products = {product.id: product for product in products}
        self._ids = list(self.products)

    @cached_property
    def _index(self) -> Any:
        import bm25s

        index = bm25s.BM25()
        index.index(_tokens([_text(p) for p in self.products.values()]), show_progress=False)
        return index

    def search(self, keywords: str) -> tuple[str, ...]:
        """Return the ids of the products that match best (BM25), best first."""
        asked = _tokens([keywords])
        if not asked[0]:
            return ()
        ranked, scores = self._index.retrieve(
            asked, k=min(MAX_RESULTS, len(self._ids)), show_progress=False
        )
        pairs = zip(ranked[0].tolist(), scores[0].tolist(), strict=True)
        # The library's order of equal scores is not reliable.
        best = sorted((-score, at) for at, score in pairs if score > 0)
        return tuple(self._ids[at] for _, at in best)

    def visits(self, wishes: Sequence[Goal]) -> AbstractContextManager[Sequence[Visit]]:
        """Open a visit for each wish."""
        return nullcontext([Visit(self, goal) for goal in wishes])

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the search index, which is built on demand."""
        return {k: v for k, v in self.__dict__.items() if k != "_index"}


def _text(product: Product) -> str:
    values = (value for values in product.options.values() for value in values)
    parts = (product.title, product.query, product.description, *product.bullets, *values)
    return " ".join(parts)


def _tokens(texts: list[str]) -> list[list[str]]:
    import bm25s

    return [
        [str(token) for token in tokens]
        for tokens in bm25s.tokenize(texts, return_ids=False, show_progress=False)
    ]


class Visit:
    """One visit to the shop.

    Args:
        shop: the shop.
        goal: the wish.
    """

    def __init__(self, shop: Shop, goal: Goal) -> None:
        self.shop, self.goal = shop, goal
        self.page: Page = "search"
        self.results: tuple[str, ...] = ()
        self.number = 1  # of the page of results
        self.item: Product | None = None
        self.part = ""
        self.chosen: dict[str, str] = {}
        self.reward = 0.0

    @property
    def done(self) -> bool:
        """Whether a product was bought."""
        return self.page == "done"

    @property
    def bought(self) -> str | None:
        """The title and chosen options of the product bought; ``None`` if none was."""
        if not self.done or self.item is None:
            return None
        return named(self.item.title, tuple(self.chosen.values()))

    # -- pages -------------------------------------------------------------------------------------

    @property
    def observation(self) -> str:
        """The visible texts of the page."""
        if self.done:
            return "Thank you for shopping with us!"
        head = ["Instruction:", self.goal.instruction]
        if self.page == "search":
            return _joined(["WebShop", *head, "Search"])
        return _joined([*head, BACK, *self._body()])

    def _body(self) -> list[str]:
        if self.page == "results":
            texts = [
                f"Page {self.number} (Total results: {len(self.results)})",
                *self._page_links(),
            ]
            for id in self._listed():
                found = self.shop.products[id]
                texts += [id, found.title, f"${found.price:.2f}"]
            return texts
        item = self.item
        assert item is not None  # on every page of an item
        if self.part:
            bodies = (item.description, "\n".join(item.bullets), "")
            return [PREVIOUS, dict(zip(PARTS, bodies, strict=True))[self.part] or "None"]
        texts = [PREVIOUS]
        for name, values in item.options.items():
            texts += [name, *values]
        return [*texts, item.title, f"Price: ${item.price:.2f}", "Rating: N.A.", *PARTS, BUY]

    def _listed(self) -> tuple[str, ...]:
        page = self.shop.page
        return self.results[(self.number - 1) * page : self.number * page]

    def _page_links(self) -> list[str]:
        more = self.number * self.shop.page < len(self.results)
        return [NEXT] * more + [PREVIOUS] * (self.number > 1)

    @property
    def clickables(self) -> tuple[str, ...]:
        """The values that can be clicked on this page."""
        if self.page in ("search", "done"):
            return ()
        if self.page == "results":
            return (BACK, *self._page_links(), *self._listed())
        if self.page == "part" or self.item is None:
            return (BACK, PREVIOUS)
        values = (value for values in self.item.options.values() for value in values)
        return (BACK, PREVIOUS, *values, *PARTS, BUY)

    # -- actions -----------------------------------------------------------------------------------

    def act(self, action: Action | None) -> bool:
        """Take an action; one that is malformed or impossible on this page changes nothing.

        Returns:
            Whether it was possible.
        """
        if action is None or self.done:
            return False
        if action.name == "search":
            if self.page != "search" or not action.value:
                return False
            self.results, self.number = self.shop.search(action.value), 1
            self.page = "results"
            return True
        known = {value.casefold(): value for value in self.clickables}
        value = known.get(action.value.casefold())
        if value is None:
            return False
        self._click(value)
        return True

    def _click(self, value: str) -> None:
        if value == BACK:
            self.page, self.item, self.chosen, self.part = "search", None, {}, ""
        elif self.page == "results" and value in (NEXT, PREVIOUS):
            self.number += 1 if value == NEXT else -1
        elif self.page == "results":
            self.page, self.item, self.chosen = "item", self.shop.products[value], {}
        elif self.page == "part":
            self.page, self.part = "item", ""
        elif value == PREVIOUS:
            self.page, self.item, self.chosen = "results", None, {}
        elif value in PARTS:
            self.page, self.part = "part", value
        elif value == BUY:
            assert self.item is not None  # otherwise there is no such button
            self.reward = reward(self.item, tuple(self.chosen.values()), self.goal)
            self.page = "done"
        else:
            assert self.item is not None
            name = next(n for n, values in self.item.options.items() if value in values)
            self.chosen[name] = value


def _joined(texts: Sequence[str]) -> str:
    return " [SEP] ".join(texts)


# -- the reward ------------------------------------------------------------------------------------


def reward(bought: Product, chosen: Sequence[str], goal: Goal) -> float:
    """Return the reward of a purchase, in [0, 1].

    r_type · (attributes matched + options matched + [price ≤ limit]) / (|A| + |O| + 1), see
    arXiv 2207.01206, §3.
    """
    texts = (bought.title, bought.description, *bought.bullets)
    prose = "\n".join(texts).casefold()
    attributes = sum(
        _any_similar(wanted, bought.attributes) or wanted.casefold() in prose
        for wanted in goal.attributes
    )
    options = sum(_any_similar(wanted, chosen) for wanted in goal.options)
    price = goal.limit is None or bought.price <= goal.limit
    total = len(goal.attributes) + len(goal.options) + 1
    return type_reward(bought, goal.product) * (attributes + options + price) / total


def _any_similar(wanted: str, found: Sequence[str]) -> bool:
    from rapidfuzz.fuzz import token_set_ratio

    return any(
        token_set_ratio(wanted.casefold(), text.casefold()) > MIN_SIMILARITY for text in found
    )


def type_reward(bought: Product, wanted: Product) -> float:
    """Return r_type: how well the type of product matches, in [0, 1].

    WebShop finds the nouns of both titles with spaCy; this simulator takes the words of a title
    that are neither common ones nor part of the product's attributes and options.
    """
    nouns, mine = _nouns(wanted), _nouns(bought)
    share = len(nouns & mine) / len(nouns) if nouns else 0.2
    if share == 0.0:
        return 0.0
    if share < 0.1:
        return 0.1
    same = bought.query == wanted.query
    levels = len(set(bought.categories) & set(wanted.categories))
    return 1.0 if same or levels >= 2 or share > 0.2 else 0.5


def _nouns(product: Product) -> frozenset[str]:
    values = (value for values in product.options.values() for value in values)
    known = _WORD.findall(" ".join((*product.attributes, *values)).casefold())
    return frozenset(_WORD.findall(product.title.casefold())) - _COMMON - frozenset(known)
