"""Answer cache: a base class for tasks with long evaluations, with progress and interruption."""

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
"""Answers of one member; the keys are the task's own."""

MAX_CACHED_MEMBERS = 64
"""Members whose answers are kept: an archive and the latest rejected children."""


class CachingTask(Task):
    """A task that caches the answers of members.

    Views that show answers, and evaluations resumed after a stop, then ask nothing twice. A member
    is identified by the recipe that its space wrote into the live model; other models are asked
    anew each time.

    Args:
        points: D, number of data points.
        known: ``name``, ``graded``, ``classes``, ``groups``, ``names``, as for ``Task``.

    Attributes:
        unit: the name of one answer in progress reports.

    Raises:
        InputError: lengths do not match.
    """

    unit: ClassVar[str] = "question"

    def __init__(self, points: int, **known: Any) -> None:
        super().__init__(points, **known)
        self._watch = Watches()
        self._clear_cache()

    def _clear_cache(self) -> None:
        self._cache: WeakKeyDictionary[Any, OrderedDict[Any, Answers]] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for another process, without answers and watches."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_cache", "_watch")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, without answers and watches."""
        self.__dict__.update(state)
        self._watch = Watches()
        self._clear_cache()

    def space(self, seeds: Sequence[Any] | NDArray[Any], device: str | None = None) -> Space:
        """Return a space of checkpoints (folders or hub ids) or of modules."""
        from m2n2lab.checkpoint import CheckpointSpace

        if isinstance(seeds, (list, tuple)) and all(isinstance(s, str | Path) for s in seeds):
            return CheckpointSpace(*seeds, device="cpu" if device is None else device)
        return super().space(seeds, device)

    def watch(self, watch: Watch) -> Callable[[], None]:
        """Let ``watch`` follow all evaluations; return a function that ends this."""
        return self._watch.add(watch)

    def meter(self, total: int) -> Meter:
        """Return the meter of an evaluation of ``total`` questions."""
        return Meter(self._watch, total, self.unit)

    def _known(self, model: Any) -> Answers:
        """Return the cached answers of a model, which the caller may extend."""
        recipe = getattr(model, "recipe", None)
        if recipe is None:
            return {}
        members = self._cache.setdefault(model, OrderedDict())
        if recipe not in members:
            members[recipe] = self._answers_of_a_twin(model, recipe)
        known = members[recipe]
        members.move_to_end(recipe)
        while len(members) > MAX_CACHED_MEMBERS:
            members.popitem(last=False)
        return known

    def _answers_of_a_twin(self, model: Any, recipe: Any) -> Answers:
        """Return the answers that another live model of the same seeds gave with this recipe."""
        plan = getattr(model, "plan", None)
        if plan is None:
            return {}
        for reference in self._cache.keyrefs():  # not by items(): other threads add some
            other = reference()
            if other is not None and getattr(other, "plan", None) is plan:
                found: Answers | None = self._cache[other].get(recipe)
                if found is not None:
                    return dict(found)
        return {}
