"""Language models of the zoo, and the tasks they were trained for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2n2lab.tasks.language.gsm8k import GSM8K
from m2n2lab.tasks.registry import records_origin
from m2n2lab.tasks.shopping.webshop import WebShop, webshop
from m2n2lab.utils.errors import InputError
from m2n2lab.zoo.arithmetic import sample_problems
from m2n2lab.zoo.shopping_episodes import PRODUCTS_PER_PAGE

if TYPE_CHECKING:
    from m2n2lab.checkpoint import CheckpointSpace

HOME = Path(__file__).with_name("language_models")

BASE, MATHS, AGENT = (HOME / name for name in ("base", "maths", "agent"))
"""Folders: the common base, the specialist for word problems and the one for shopping."""

MAX_TURNS = 6
"""Turns of a trip: a search, a product, two options, the purchase, and one to spare."""

MAX_IMPOSSIBLE_ACTIONS = 2
"""Consecutive impossible actions after which these models never recover."""

MAX_ANSWER_TOKENS = 72
"""Slightly more than the longest worked answer."""

OPENER = "Action:"


def trained() -> bool:
    """Return whether the specialists have been trained."""
    return all((folder / "config.json").is_file() for folder in (MATHS, AGENT))


@records_origin
def word_problems(limit: int = 36, held_out: int = 64, **options: Any) -> GSM8K:
    """Return problems in GSM8K's form that none of the zoo's models was trained on.

    Args:
        limit: number of problems to search on.
        held_out: number of held-out problems.
        options: as for ``GSM8K``.
    """
    known = {"max_new_tokens": MAX_ANSWER_TOKENS, "batch": 64, **options}
    return GSM8K(sample_problems("search", limit), sample_problems("test", held_out), **known)


@records_origin
def shop(limit: int = 24, held_out: int = 48, **options: Any) -> WebShop:
    """Return the text shop with wishes that none of the zoo's models was trained on.

    Args:
        limit: number of wishes to search on.
        held_out: number of held-out wishes.
        options: as for ``webshop``.
    """
    known = {
        "turns": MAX_TURNS,
        "patience": MAX_IMPOSSIBLE_ACTIONS,
        "preamble": "",
        "opener": OPENER,
        "recall": "actions",
        "page": PRODUCTS_PER_PAGE,
        "max_new_tokens": 24,
        "batch": 64,
        **options,
    }
    return webshop(limit=limit, held_out=held_out, **known)


def language_pair(device: str = "cpu") -> CheckpointSpace:
    """Return the space of the two specialists, the default seeds of a search over language models.

    They are stored in half precision and scored in single precision, in which a CPU is faster and a
    GPU gives the same answers.

    Args:
        device: device on which they are scored, ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: they have not been trained yet, or the device is not available.
    """
    from m2n2lab.checkpoint import CheckpointSpace

    if not trained():
        raise InputError(
            f"The zoo's language models must be in {HOME}, but they have not been trained yet; "
            f"run python -m m2n2lab.zoo.train_language, or name models of your own with --seeds."
        )

    return CheckpointSpace(MATHS, AGENT, dtype="float32", device=device)
