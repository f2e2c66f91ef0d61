"""Derived tensors: the weights of derived vectors, such as TIES children, made from the seeds."""

from __future__ import annotations

import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from m2n2lab.checkpoint.io.parallel import CHUNK_ELEMENTS, Progress, no_progress, run_in_threads
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.core.operators import Crossover, Operator, TensorRule
from m2n2lab.core.operators.operator import FIELD
from m2n2lab.core.spaces.derived import Derived, lineage
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.utils.arrays import Array, Floats
from m2n2lab.utils.errors import InputError

CACHED_BYTES = 1 << 28
"""Memory for tensors of derived vectors that may be needed again: those of parents, in a search."""

_UNUSED: Array = np.empty(0)

Job = TypeVar("Job")


class DerivedTensors:
    """Tensors of derived vectors in float64, not rounded, one tensor of the model at a time.

    A tensor is computed from whole tensors of the rule's inputs, of which those that are derived
    themselves are computed first.

    Memory, in float64: one tensor of each input of the rule, at most the largest times their
    number; what the rule makes of them (about twice as much for TIES); one tensor of each derived
    vector of the ancestry that is still to be used, in later generations; and a cache of
    ``CACHED_BYTES``. Time: one computation for each vector of the ancestry that is not in the
    cache. Where models are too large for it, save members and open them as seeds from time to time.

    Args:
        plan: the seeds.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._numbers = {name: number for number, name in enumerate(plan.sizes)}
        self._rules: dict[str, TensorRule] = {}
        self._kept: OrderedDict[tuple[Derived, str], Floats] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()  # previews and the search ask from different threads

    def of(self, recipe: Recipe, name: str) -> tuple[Array, ...]:
        """Return a tensor (n,) of each derived vector of a recipe; empty where it is not used.

        Raises:
            Problems: a seed holds NaN or infinity.
            InputError: the class of a rule is not known, or it gives no finite tensor.
        """
        wanted = self._used(recipe, name)
        if not wanted:
            return (_UNUSED,) * len(recipe.derived)
        with self._lock:
            found = self._computed(wanted, name)
        return tuple(found.get(vector, _UNUSED) for vector in recipe.derived)

    def merged(self, recipe: Recipe, name: str) -> Floats:
        """Return a tensor (n,) of a recipe in float64, not rounded; raises as ``of``."""
        return self._merged(recipe, name, self.of(recipe, name))

    def run(
        self,
        recipe: Recipe,
        jobs: Iterable[Job],
        tensor: Callable[[Job], str],
        work: Callable[[Job, Sequence[Array]], int],
        progress: Progress = no_progress,
    ) -> None:
        """Run ``work`` on jobs in threads, with what ``of`` returns for the tensor of each.

        Args:
            recipe: the recipe.
            jobs: pieces of tensors, those of one tensor in a row.
            tensor: gives the name of a job's tensor.
            work: returns the number of bytes it processed.
            progress: called with that number.
        """
        if not recipe.derived:
            run_in_threads(jobs, lambda job: work(job, ()), progress)
            return
        batch: list[tuple[Job, Sequence[Array]]] = []
        held = 0
        for name, pieces in groupby(jobs, tensor):
            values = self.of(recipe, name)
            batch += [(piece, values) for piece in pieces]
            held += sum(value.size for value in values)
            if held >= CHUNK_ELEMENTS:
                run_in_threads(batch, lambda job: work(*job), progress)
                batch, held = [], 0
        run_in_threads(batch, lambda job: work(*job), progress)

    def check(self, recipe: Recipe) -> None:
        """Check that the rules of all derived vectors of a recipe are known.

        Raises:
            InputError: one is not.
        """
        for vector in lineage(recipe.derived):
            self._rule(vector)

    def _used(self, recipe: Recipe, name: str) -> tuple[Derived, ...]:
        if name not in self.plan.sizes:  # carried
            return ()
        start = self.plan.offsets[name]
        return recipe.derived_between(start, start + self.plan.sizes[name])

    def _computed(self, wanted: Sequence[Derived], name: str) -> dict[Derived, Floats]:
        """Return the tensors of some vectors, by way of all that they are computed from."""
        found: dict[Derived, Floats] = {}
        needs: dict[Derived, set[Derived]] = {}

        def inputs(vector: Derived) -> set[Derived]:
            needs[vector] = set()
            if (vector, name) in self._kept:
                self._kept.move_to_end((vector, name))
                found[vector] = self._kept[vector, name]
            else:
                needs[vector].update(*(self._used(recipe, name) for recipe in vector.inputs))
            return needs[vector]

        order = lineage(wanted, inputs)
        uses = Counter(wanted)
        for vector in order:
            uses.update(needs[vector])
        for vector in order:
            if vector not in found:
                found[vector] = self._tensor(vector, name, found)
                self._keep(vector, name, found[vector])
            for other in needs[vector]:
                uses[other] -= 1
                if not uses[other]:
                    del found[other]
        return found

    def _keep(self, vector: Derived, name: str, values: Floats) -> None:
        """Put a tensor in the cache, from which those that were not used for longest leave."""
        if values.nbytes > CACHED_BYTES:
            return
        self._kept[vector, name] = values
        self._kept_bytes += values.nbytes
        while self._kept_bytes > CACHED_BYTES:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes

    def _tensor(self, vector: Derived, name: str, found: Mapping[Derived, Floats]) -> Floats:
        """Compute a tensor of a vector from those that it is derived from."""
        start, size = self.plan.offsets[name], self.plan.sizes[name]
        inputs = [
            self._merged(recipe, name, [found.get(other, _UNUSED) for other in recipe.derived])
            for recipe in vector.inputs
        ]
        edges = np.clip(vector.edges, start, start + size)
        share = np.repeat(np.array(vector.mixes), np.diff(edges))
        rng = np.random.default_rng((vector.seed, self._numbers[name]))  # as in DenseSpace
        with np.errstate(over="ignore", invalid="ignore"):
            made = np.asarray(self._rule(vector).tensor(inputs, share, rng), np.float64)
        if made.shape != (size,) or not np.isfinite(made).all():
            got = f"shape {made.shape}" if made.shape != (size,) else "NaN or infinity"
            raise InputError(
                f"{vector.rule[FIELD]!r} must make a finite tensor of shape ({size},) of {name}, "
                f"got {got}; scale the seeds down, or correct its method tensor."
            )
        made.flags.writeable = False
        return made

    def _merged(self, recipe: Recipe, name: str, derived: Sequence[Array]) -> Floats:
        values = np.empty(self.plan.sizes[name])
        self.plan.merge_into(recipe, name, 0, values.size, values, derived)
        return values

    def _rule(self, vector: Derived) -> TensorRule:
        """Return the rule that a vector names.

        Raises:
            InputError: its class is not known, or makes no tensors.
        """
        text = json.dumps(vector.rule, sort_keys=True)
        if text not in self._rules:
            rule = Crossover.of(vector.rule)
            if not isinstance(rule, TensorRule):
                raise InputError(
                    f"The rule of a derived vector must compute tensors, got {rule!r}; use an "
                    f"unedited recipe."
                )
            self._rules[text] = rule
        return self._rules[text]


def described(rule: Any) -> dict[str, Any]:
    """Return the description of a rule, of which it is made again.

    Raises:
        InputError: it cannot be.
    """
    description = rule.description if isinstance(rule, Operator) else rule
    if not isinstance(rule, Crossover) or not isinstance(description, Mapping):
        raise InputError(
            f"A rule for checkpoints must be a Crossover with a name and plain values as "
            f"parameters, so that its children can be made again, got {rule!r}; define it as "
            f"class {type(rule).__name__}(Crossover, TensorRule, name=…)."
        )
    return dict(description)
