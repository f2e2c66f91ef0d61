"""WebShop in text: a model searches for, chooses and buys the product of an instruction.

Yao et al., "WebShop: Towards Scalable Real-World Web Interaction with Grounded Language Agents",
arXiv 2207.01206.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2n2lab.core.task import Sample
from m2n2lab.tasks.language.generation import Generator
from m2n2lab.tasks.language.task import LanguageTask, chat
from m2n2lab.tasks.registry import records_origin
from m2n2lab.tasks.shopping.agentgym import AgentGym
from m2n2lab.tasks.shopping.catalogue import goals, products
from m2n2lab.tasks.shopping.product_files import read_goals, read_products
from m2n2lab.tasks.shopping.simulator import PRODUCTS_PER_PAGE, Action, Shop, parse_action
from m2n2lab.utils.arrays import Indices
from m2n2lab.utils.errors import InputError, choose, whole_number

Style = Literal["react", "chat"]
Recall = Literal["pages", "actions"]

PREAMBLE = (
    "You are shopping on a web page and buy what the instruction asks for. In each turn you see "
    "the page; write a thought and then one action: search[keywords] where there is a search "
    "bar, or click[value] with a value that stands on the page. click[Buy Now] ends the trip."
)


class Wish(Protocol):
    """A wish and the right purchase, as text."""

    @property
    def instruction(self) -> str: ...  # noqa: D102

    @property
    def truth(self) -> str: ...  # noqa: D102


class Trip(Protocol):
    """A trip through a shop; see ``Visit`` and ``agentgym.Trip``."""

    @property
    def observation(self) -> str: ...  # noqa: D102

    @property
    def done(self) -> bool: ...  # noqa: D102

    @property
    def reward(self) -> float: ...  # noqa: D102

    @property
    def bought(self) -> str | None: ...  # noqa: D102

    def act(self, action: Action | None) -> bool: ...  # noqa: D102


class ShopLike(Protocol):
    """A ``Shop`` or a server, each with its own class of wishes."""

    def visits(  # noqa: D102
        self, wishes: Sequence[Any]
    ) -> AbstractContextManager[Sequence[Trip]]: ...


@dataclass(frozen=True)
class Turn:
    """One turn of a trip.

    Attributes:
        observation: the page.
        text: the member's whole answer.
        action: the action in it; ``None`` if there is none.
        possible: whether the page allowed the action; if not, nothing happened.
    """

    observation: str
    text: str
    action: Action | None
    possible: bool


@dataclass(frozen=True)
class Episode:
    """One trip to the shop.

    Attributes:
        goal: the wish.
        turns: the turns in order.
        bought: the title of the product bought; ``None`` if none was.
        reward: in [0, 1].
    """

    goal: Wish
    turns: tuple[Turn, ...]
    bought: str | None
    reward: float

    @property
    def transcript(self) -> str:
        """All turns as text, with a note after impossible actions."""
        parts = []
        for turn in self.turns:
            note = "" if turn.possible else "\n(not possible here: nothing happened)"
            parts.append(f"Observation: {turn.observation}\n{turn.text.strip()}{note}")
        end = f"Bought: {self.bought}" if self.bought else "Nothing was bought."
        return "\n\n".join([*parts, f"{end} Reward {self.reward:.2f}."])


class WebShop(LanguageTask):
    """Shopping trips, each with a reward in [0, 1]; all trips of an evaluation advance together.

    Args:
        shop: the shop or server.
        goals: the D wishes to search on.
        held_out: wishes that the search never sees.
        turns: turns after which a trip ends without a purchase.
        patience: consecutive impossible actions after which it ends too; no limit by default.
        style: ``"react"``, plain text of thoughts and actions, or ``"chat"``, in which pages and
            answers are messages in the tokenizer's chat template.
        preamble: the beginning of every prompt.
        opener: the beginning of an answer in plain text; ``"Action:"`` asks for no thought.
        history: number of last turns that a prompt shows; all by default.
        recall: what a prompt shows of them: ``"pages"`` and answers, or ``"actions"`` only, which
            keeps prompts short.
        max_new_tokens: longest answer in tokens.
        batch: prompts answered together.
        stop: texts at which an answer ends.
        tokenizer: as for ``LanguageTask``.
        name: name of the task in views.

    Raises:
        InputError: there are no wishes, the style is unknown, or a number is below 1.
    """

    def __init__(
        self,
        shop: ShopLike,
        goals: Sequence[Wish],
        held_out: Sequence[Wish] = (),
        *,
        turns: int = 10,
        patience: int | None = None,
        style: Style = "react",
        preamble: str = PREAMBLE,
        opener: str = "Thought:",
        history: int | None = None,
        recall: Recall = "pages",
        max_new_tokens: int = 100,
        batch: int = 32,
        stop: Sequence[str] = ("\nObservation:",),
        tokenizer: Any = None,
        name: str = "webshop",
    ) -> None:
        if not goals:
            raise InputError(
                "WebShop needs at least one wish to search on, got none; give files with wishes, "
                "or a larger limit."
            )
        super().__init__(
            len(goals),
            name=name,
            graded=True,
            generator=Generator(max_new_tokens, batch, stop),
            tokenizer=tokenizer,
            classes=(name,),
            names=[goal.instruction for goal in goals],
        )
        self.shop, self.goals, self._test = shop, tuple(goals), tuple(held_out)
        self.turns = whole_number("turns", turns, 1)
        self.patience = None if patience is None else whole_number("patience", patience, 1)
        self.style = choose("prompt style", style, ("react", "chat"))
        self.preamble, self.opener = preamble, opener
        self.history = None if history is None else whole_number("history", history, 0)
        self.recall = choose("recall", recall, ("pages", "actions"))
        if self.style == "chat" and self.recall == "actions":
            raise InputError(
                "recall must be 'pages' in the chat style, whose user messages are pages, got "
                "'actions'; choose style='react' for it."
            )

    # -- prompts and trips -------------------------------------------------------------------------

    def prompt(self, turns: Sequence[Turn], observation: str, tokenizer: Any = None) -> str:
        """Return the prompt on a page; only the chat style uses the tokenizer.

        Raises:
            InputError: the tokenizer has no chat template.
        """
        shown = turns if self.history is None else turns[max(len(turns) - self.history, 0) :]
        if self.style == "chat":
            messages = [text for turn in shown for text in (turn.observation, turn.text)]
            first, *rest = [*messages, observation]
            return chat(tokenizer, [f"{self.preamble}\n\n{first}", *rest])
        pages = self.recall == "pages"
        past = "".join(
            (f"Observation: {turn.observation}\n" if pages else "")
            + f"{self.opener}{turn.text.rstrip()}\n"
            for turn in shown
        )
        head = f"{self.preamble}\n\n" if self.preamble else ""
        return f"{head}{past}Observation: {observation}\n{self.opener}"

    def _visit(self, model: Any, wishes: Sequence[Wish]) -> list[Episode]:
        """Return a trip for each wish; unfinished ones advance together, turn by turn."""
        tokenizer = self.tokenizer(model)
        meter = self.meter(len(wishes))
        logs: list[list[Turn]] = [[] for _ in wishes]
        with self.shop.visits(wishes) as visits:
            for number in range(self.turns):
                active = [k for k, visit in enumerate(visits) if self._continues(visit, logs[k])]
                if not active:
                    break
                prompts = [self.prompt(logs[k], visits[k].observation, tokenizer) for k in active]
                for k, text in zip(active, self.ask(model, prompts, meter, count=0), strict=True):
                    action, seen = parse_action(text), visits[k].observation
                    logs[k].append(Turn(seen, text, action, visits[k].act(action)))
                last = number == self.turns - 1
                meter.add(sum(last or not self._continues(visits[k], logs[k]) for k in active), 0)
            return [
                Episode(wish, tuple(log), visit.bought, visit.reward)
                for wish, visit, log in zip(wishes, visits, logs, strict=True)
            ]

    def _continues(self, visit: Trip, turns: Sequence[Turn]) -> bool:
        """Return whether a trip has another turn."""
        recent = turns[-self.patience :] if self.patience else ()
        lost = len(recent) == self.patience and not any(turn.possible for turn in recent)
        return not (visit.done or lost)

    def episodes(self, model: Any, indices: ArrayLike | None = None) -> list[Episode]:
        """Return a model's trips for the wishes ``indices`` (n,), all of them if ``None``.

        Raises:
            Halted: the evaluation was stopped.
            InputError: an index is out of range, or the model is no causal language model.
        """
        where = range(self.points) if indices is None else self.checked_indices(indices).tolist()
        return self._visit(model, [self.goals[index] for index in where])

    # -- the task's interface ----------------------------------------------------------------------

    def score(self, model: Any, indices: Indices | None) -> NDArray[np.float64]:
        """Return the reward of each trip, (n,)."""
        return np.array([episode.reward for episode in self.episodes(model, indices)], float)

    def held_out(self, model: Any) -> float:
        """Return the mean reward on held-out wishes."""
        if not self._test:
            return super().held_out(model)
        return float(np.mean([episode.reward for episode in self._visit(model, self._test)]))

    def held_out_by_class(self, model: Any) -> dict[str, float]:
        """Return the held-out reward under the task's name."""
        return {self.classes[0]: self.held_out(model)} if self._test else {}

    def samples(self, model: Any, indices: ArrayLike) -> list[Sample]:
        """Return wishes with purchases and whole transcripts."""
        where = self.checked_indices(indices)
        return [
            Sample(
                index,
                truth=episode.goal.truth,
                prediction=episode.bought or "nothing",
                right=episode.reward >= 1.0,
                text=episode.goal.instruction,
                answer=episode.transcript,
            )
            for index, episode in zip(where.tolist(), self.episodes(model, where), strict=True)
        ]


@records_origin
def webshop(
    items: str | Path | None = None,
    attributes: str | Path | None = None,
    human: str | Path | None = None,
    limit: int = 100,
    held_out: int | None = None,
    seed: int = 0,
    page: int = PRODUCTS_PER_PAGE,
    server: str | None = None,
    first: int = 0,
    timeout: float = 60.0,
    **options: Any,
) -> WebShop:
    """Return the text shop, with WebShop's own products, a generated catalogue, or a server.

    Args:
        items: ``items_shuffle*.json``; ``None`` generates 300 products.
        attributes: ``items_ins_v2*.json``.
        human: ``items_human_ins*.json``, wishes that people wrote.
        limit: number of wishes to search on.
        held_out: number of held-out wishes; by default a quarter of ``limit``.
        seed: seed of the wishes and of generated products.
        page: products on a page of results.
        server: address of a WebShop server of AgentGym, such as ``"http://127.0.0.1:36001"``, which
            then provides products, wishes, pages and rewards.
        first: the server's session with the first wish; held-out ones follow the others.
        timeout: longest wait for an answer of the server in seconds.
        options: as for ``WebShop``.

    Raises:
        InputError: a file is missing, damaged or empty, there are no wishes, or the server does not
            answer.
    """
    count = whole_number("limit", limit, 1)
    tested = -(-count // 4) if held_out is None else whole_number("held_out", held_out, 0)
    if server is not None:
        if not (items is attributes is human is None):
            raise InputError(
                "server cannot be combined with files, since it has its own products; give "
                "server=… or items=…, not both."
            )
        gym = AgentGym(server, timeout)
        sessions = gym.wishes(whole_number("first", first, 0), count + tested)
        return WebShop(gym, sessions[:count], sessions[count:], **options)
    if items is None:
        if attributes is not None or human is not None:
            raise InputError(
                "WebShop's instructions need its products, items_shuffle*.json, got only the "
                "instructions; give items=…, or neither."
            )
        sold = products(seed)
        wishes = goals(sold, seed)
    else:
        sold = read_products(items, attributes)
        wishes = read_goals(sold, attributes, human, seed)
    # If there are too few wishes for both, a fifth of them is held out.
    cut = min(count, len(wishes) - min(tested, len(wishes) // 5))
    return WebShop(Shop(sold, page), wishes[:cut], wishes[cut : cut + tested], **options)
