"""What tasks share whose evaluations take long: answers that are kept, progress, a way to stop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from numpy.typing import NDArray

from m2n2lab.core.task import Task
from m2n2lab.utils.progress import Meter, Watch, Watches

if TYPE_CHECKING:
    from m2n2lab.core.spaces.space import Space

Answers = dict[Any, Any]
"""What one member answered, by whatever a task asks with."""

REMEMBERED = 64
"""Members whose answers are kept: an archive, and the last children that did not live."""


class RememberingTask(Task):
    """A task that keeps what members answered.

    So a view which shows answers, or an evaluation that goes on after it was stopped, asks nothing
    twice. A member is known by the recipe that its space wrote into the live model; a model from
    elsewhere is asked anew each time.

    Args:
        points: D, number of data points.
        known: ``name``, ``graded``, ``classes``, ``groups``, ``names``, as for ``Task``.

    Attributes:
        unit: what one answer is called.

    Raises:
        InputError: lengths that do not fit together.
    """

    unit: ClassVar[str] = "question"

    def __init__(self, points: int, **known: Any) -> None:
        super().__init__(points, **known)
        self._watch = Watches()
        self._forget()

    def _forget(self) -> None:
        self._remembered: WeakKeyDictionary[Any, OrderedDict[Any, Answers]] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs; answers and those who watch stay here."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_remembered", "_watch")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start without answers and unwatched."""
        self.__dict__.update(state)
        self._watch = Watches()
        self._forget()

    def space(self, seeds: Sequence[Any] | NDArray[Any]) -> Space:
        """Return the space of checkpoints (folders or hub ids), or of modules."""
        from m2n2lab.checkpoint import CheckpointSpace

        if all(isinstance(seed, str | Path) for seed in seeds):
            return CheckpointSpace(*seeds)
        return super().space(seeds)

    def watch(self, watch: Watch) -> Callable[[], None]:
        """Let ``watch`` follow all evaluations from now on; returns a function that ends it."""
        return self._watch.add(watch)

    def meter(self, total: int) -> Meter:
        """Return a counter of answers for an evaluation of ``total`` questions."""
        return Meter(self._watch, total, self.unit)

    def _known(self, model: Any) -> Answers:
        """Return what is known of a model's answers, to be added to."""
        recipe = getattr(model, "recipe", None)
        if recipe is None:
            return {}
        members = self._remembered.setdefault(model, OrderedDict())
        known = members.setdefault(recipe, {})
        members.move_to_end(recipe)
        while len(members) > REMEMBERED:
            members.popitem(last=False)
        return known
