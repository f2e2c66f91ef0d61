"""Evolver: the search, which joins a task, a space and an archive, as a whole or part by part.

It has no threads and no user interface: views observe it (``subscribe``).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2n2lab.core.archive import Archive, Capacity
from m2n2lab.core.arguments import (
    checked_executor,
    checked_proposal,
    checked_space,
    checked_task,
    drawn_seed,
    known_scores,
)
from m2n2lab.core.early_rejection import Rejection
from m2n2lab.core.extensions import (
    RecordSearch,
    ResumeSearch,
    SearchPlots,
    ShowProgress,
    extension,
)
from m2n2lab.core.history import History
from m2n2lab.core.observers import Observer, Observers
from m2n2lab.core.operators.competition import Competition
from m2n2lab.core.operators.crossover import Crossover, MergeSpace, Slerp
from m2n2lab.core.operators.mate_choice import MateChoice
from m2n2lab.core.operators.mutation import Mutation
from m2n2lab.core.operators.operator import Operator
from m2n2lab.core.operators.parts import (
    Parts,
    Patterns,
    crossover_rng,
    is_nothing,
    plain_patterns,
)
from m2n2lab.core.operators.replacement import Replacement
from m2n2lab.core.population import Member
from m2n2lab.core.records import Generation, Partial, Proposal, Stored, Verdict
from m2n2lab.core.scores import as_scores
from m2n2lab.core.spaces.space import Space
from m2n2lab.core.task import Task
from m2n2lab.utils.concurrency.fair_locks import FairLock, in_turn
from m2n2lab.utils.errors import (
    InputError,
    checked_flag,
    checked_function,
    described,
    exception_classes,
    file_path,
    real_number,
    whole_number,
)
from m2n2lab.utils.progress import Halted

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("m2n2lab")

MAX_UNTOLD = 256
"""Asked proposals that were not told yet whose parents are kept, in case they leave the archive."""


class Executor(Protocol):
    """An object that takes the steps, such as in other processes (see ``m2n2lab.executors``)."""

    def run(self, evolver: Evolver, steps: int, until: Callable[[Generation], bool] | None) -> None:
        """Take up to ``steps`` steps, stopping after one for which ``until`` is true.

        With ``catch`` or ``retries`` in ``Evolver.run``, it is called with these too.
        """


def log_failure(proposal: Proposal, reason: str, tries_left: int) -> None:
    """Log that a child could not be scored, and what becomes of it."""
    if tries_left:
        log.warning("Scoring %s raised %s; trying again.", proposal.child_text, reason)
    else:
        log.warning("Skipped %s: %s.", proposal.child_text, reason)


class PutBack(NamedTuple):
    """A proposal that the next ``ask`` returns, because its step was not completed.

    Attributes:
        proposal: the proposal.
        before: state of the generator before it was drawn, if nothing was drawn since.
        after: its state after that.
    """

    proposal: Proposal
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] = MappingProxyType({})


class Evolver:
    """M2N2: evolve merged models by competition, attraction and split-point SLERP.

    ::

        task = m2n2lab.tasks.digits()
        evolver = m2n2lab.Evolver(task, task.random_seeds(2, rng=0), mutation=0.01, rng=0)
        for generation in evolver:           # endless; stop at any time and go on later
            if generation.step == 1_000:
                break
        evolver.run(1_000)

    One step is ``ask`` (choose parents, split and mix), ``evaluate`` (make the child and score
    it), ``tell`` (let it compete). Any part of a proposal can be given by hand or edited before it
    is evaluated, and ``tell`` also takes an external model that was never proposed.

    All randomness comes from ``rng``: the same seed gives the same archive, bit for bit, in any
    process on machines of one type. The number of torch threads changes nothing either, as long as
    the task's own arithmetic does not depend on it. That of classifiers does not where torch has
    oneDNN; elsewhere a tie between two classes, within 1e-5 of their logits, could be broken
    differently. Other processors may round differently.

    Args:
        task: scores models on data points.
        seeds: at least two models to start from (vectors, torch modules), or a space that has
            them.
        archive_size: P, maximum number of members.
        alpha: α of the competition; 0 is a plain genetic algorithm.
        capacity: ``"one"``, ``"max"`` or ``"range"`` (see ``Archive``); by default ``"max"`` for
            graded tasks, and for tasks whose scores turn out to be graded.
        crossover: merge two parents, by split-point SLERP or by another ``Crossover``, given by
            name (``"ties"``, ``"ties:density=0.3"``) or as an object; if ``False``, the child is
            parent A (and needs mutation).
        split_point: exchange the shares of A and B at a random index; otherwise one SLERP for all.
        attraction: choose B for what it can do that A lacks; otherwise by fitness, as A.
        mutation: standard deviation of the normal noise added to a child, 0 for none; or another
            ``Mutation``.
        mate: a ``MateChoice`` in place of attraction, by name or as an object.
        competition: a ``Competition`` in place of the archive's, by name or as an object.
        replacement: a ``Replacement`` of another kind than the lowest fitness, likewise.
        warmup: number of steps at the beginning in which seeds merge at random among themselves
            (arXiv 2508.16204 takes at most 50 for language and image models).
        groups: patterns of tensors by name of a group; each group is merged as a vector of its own,
            with an angle, a split and a mix of its own (see ``operators.parts.Parts``).
        include: patterns of the tensors that are merged; all by default.
        exclude: patterns of tensors that stay as they are in parent A.
        freeze: patterns of tensors that stay as they are in the first seed.
        rng: seed of all random numbers; ``None`` for another one each time, or a NumPy
            ``Generator``, from which one is drawn. The seed is ``options["rng"]``, and recorded.
        chunk: number of data points scored at a time, until it is certain that the child is
            rejected; the results are the same. All at once by default.
        known: (K, D) scores of the seeds, if known; evaluated otherwise.
        method: name of the method, if not that of the class.
        device: where modules or vectors are scored, ``"cpu"`` or ``"cuda"``, if the seeds are no
            space; that of the task by default.

    Attributes:
        records: the history, a row of numbers per step.
        options: the arguments from which an equal evolver can be made; a subclass adds its own, so
            that a recorded run can be resumed.
        stored: the run that records the search or from which it was resumed, or ``None``.

    Raises:
        InputError: the seeds or options cannot be used.
    """

    method: str = "m2n2"
    lowest_leaves = True
    """Whether a child is rejected only for the lowest fitness, and its scores have no other use."""
    saves = True
    """Whether ``state_dict`` has all that decides the next steps; else a run is resumed by taking
    its steps again with the recorded scores, as for a subclass with an ``ask`` or ``tell`` of its
    own."""
    own_operators: tuple[str, ...] = ()
    """Operators, and options of them, that the method has of its own and does not take."""
    trained_mutation = 0.0
    """Default mutation where the seeds are trained networks (none, arXiv 2508.16204)."""

    def __init__(
        self,
        task: Task,
        seeds: Sequence[Any] | NDArray[Any] | Space,
        *,
        archive_size: int = 20,
        alpha: float = 1.0,
        capacity: Capacity | None = None,
        crossover: bool | str | Mapping[str, Any] | Crossover = True,
        split_point: bool = True,
        attraction: bool = True,
        mutation: float | str | Mapping[str, Any] | Mutation = 0.0,
        rng: int | np.random.Generator | None = 0,
        chunk: int | None = None,
        known: ArrayLike | None = None,
        method: str | None = None,
        mate: str | Mapping[str, Any] | MateChoice | None = None,
        competition: str | Mapping[str, Any] | Competition | None = None,
        replacement: str | Mapping[str, Any] | Replacement | None = None,
        warmup: int = 0,
        groups: Mapping[str, Patterns] | None = None,
        include: Patterns = (),
        exclude: Patterns = (),
        freeze: Patterns = (),
        device: str | None = None,
    ) -> None:
        task = checked_task(task, seeds)
        if method is not None:
            self.method = method
        self.turn = FairLock()
        self.records = History()
        self._observers = Observers()
        self.task = task
        self.space: Space = checked_space(task, seeds, device)
        task.check_space(self.space)
        self.warmup = whole_number("warmup", warmup, 0)
        given = {
            "crossover": not isinstance(crossover, (bool, np.bool_)),
            "mate": mate is not None,
            "competition": competition is not None,
            "replacement": replacement is not None,
            "mutation": not isinstance(mutation, (int, float, np.number)),
            "warmup": self.warmup > 0,
            "groups": not all(map(is_nothing, (groups, include, exclude, freeze))),
        }
        self._check_operators([name for name, is_given in given.items() if is_given])
        if given["crossover"]:
            self.crossover: Crossover | None = Crossover.of(crossover)
        else:
            self.crossover = Slerp() if crossover else None
        self.split_point = split_point
        self.attraction = attraction
        self.mate = None if mate is None else MateChoice.of(mate)
        if self.mate is not None and not attraction:
            raise InputError(
                f"mate and attraction=False exclude each other, got both; leave attraction out, "
                f"{self.mate!r} chooses parent B."
            )
        self.mutation: float | Mutation = (
            Mutation.of(mutation)
            if isinstance(mutation, (str, Mapping, Mutation))
            else real_number("mutation", mutation, 0.0)
        )
        if not getattr(self.space, "can_mutate", True):
            self._check_without_mutation(mutation)
        if not self.crossover and self.mutation == 0.0:
            raise InputError(
                "Without crossover and mutation every child would be a copy of its parent, got "
                "crossover=False and mutation=0; set mutation, for example to 0.01."
            )
        self.competition = None if competition is None else Competition.of(competition)
        self.replacement = None if replacement is None else Replacement.of(replacement)
        if self.warmup and not self.crossover:
            raise InputError(
                f"A warm-up merges seeds, got warmup={warmup} without crossover; leave it out."
            )
        self.parts = None
        if given["groups"]:
            self.parts = Parts(self.space.layout, groups, include, exclude, freeze)
        needs_blend = self.parts is not None or not isinstance(self.crossover, (Slerp, type(None)))
        if needs_blend and not hasattr(self.space, "blend"):
            raise InputError(
                f"Crossovers and parts of models need a space that blends genomes, got a "
                f"{type(self.space).__name__}; add the methods of operators.MergeSpace to it."
            )
        if capacity is None and task.graded:
            capacity = "max"
        self.archive = self._new_archive(archive_size, alpha, capacity)
        self.archive.space = self.space
        if chunk is not None:
            self._check_can_reject_early(chunk)
        self.rejection = (
            None if chunk is None else Rejection(self.archive, task, chunk, self.space.size)
        )
        seed = drawn_seed(rng)
        self.rng = np.random.default_rng(seed)
        self.options: dict[str, Any] = {
            "archive_size": archive_size,
            "alpha": alpha,
            "capacity": capacity,
            "crossover": self.crossover if given["crossover"] else bool(crossover),
            "split_point": split_point,
            "attraction": attraction,
            "mutation": self.mutation,
            "rng": seed,
            "chunk": chunk,
        }
        self._add_options(groups, include, exclude, freeze)
        self.stored: Stored | None = None
        self._step = 0
        self._next_id = 0
        self._bred: tuple[Proposal, Any] | None = None  # the last child, not to make it twice
        self._untold: dict[int, tuple[Member, ...]] = {}  # parents of asked proposals, by seed
        self._put_back: deque[PutBack] = deque()
        self._told: dict[int, int] = {}  # step of each proposal that was told, by its key
        self._tested: tuple[int, float] | None = None  # the best member and its held-out score
        self._recorded_best: int | None = None  # the last best member in ``records``
        self._graded_is_known = task.graded or capacity is not None
        known = known_scores(known, len(self.space.seeds), task.points)
        self._founders = tuple(
            Member(id, 0, (), genome, float("nan")) for id, genome in enumerate(self.space.seeds)
        )
        for k, genome in enumerate(self.space.seeds):
            scores = as_scores(self._score(genome) if known is None else known[k])
            verdict = self.archive.judge(scores)
            self._check_declared(scores)
            self.archive.admit(self._new_id(), genome, verdict, born=0, parents=())
        self._record_best()

    def _check_without_mutation(self, mutation: object) -> None:
        """Check that nothing needs mutation, which the space does not have.

        Raises:
            InputError: something does.
        """
        kind = type(self.space).__name__
        if not self.crossover:
            raise InputError(
                f"Method {self.method!r} makes children by mutation alone, which a {kind} does not "
                f"have; choose a method with crossover, or a DenseSpace for models small enough "
                f"to be kept whole."
            )
        if self.mutation:
            raise InputError(
                f"mutation must be 0 for checkpoints, got {mutation}; use mutation=0, or a "
                f"DenseSpace for models small enough to be kept whole."
            )

    def _check_operators(self, given: Sequence[str]) -> None:
        """Check that the method takes the operators that are given.

        Raises:
            InputError: it has one of its own.
        """
        for name in given:
            if name in self.own_operators:
                raise InputError(
                    f"Method {self.method!r} takes no {name}, because it has one of its own or "
                    f"none; leave it out, or choose another method."
                )
        if {"crossover", "groups"} & {*given} and type(self).merge is not Evolver.merge:
            raise InputError(
                f"{type(self).__name__} has a merge of its own, got {' and '.join(given)}; make it "
                f"a Crossover and leave the method merge out."
            )

    def _add_options(
        self,
        groups: Mapping[str, Patterns] | None,
        include: Patterns,
        exclude: Patterns,
        freeze: Patterns,
    ) -> None:
        """Add operators and parts to ``options``, all as they are recorded."""
        limits = {"include": include, "exclude": exclude, "freeze": freeze}
        self.options |= {
            "mate": self.mate,
            "competition": self.competition,
            "replacement": self.replacement,
            "warmup": self.warmup,
            "groups": groups and {name: plain_patterns(p) for name, p in groups.items()},
            **{name: plain_patterns(patterns) for name, patterns in limits.items()},
        }
        self.options = {
            name: value.description if isinstance(value, Operator) else value
            for name, value in self.options.items()
        }

    def _check_can_reject_early(self, chunk: int) -> None:
        """Check that the outcome for a child can be bounded before it is scored in full.

        Raises:
            InputError: the method, the competition or the replacement needs all scores.
        """
        needing: Any = None
        if not self.lowest_leaves:
            needing = f"Method {self.method}"
        elif self.archive.competition is not None and not self.archive.competition.can_bound:
            needing = f"Competition {self.archive.competition!r}"
        elif self.replacement is not None and not self.replacement.lowest_leaves:
            needing = f"Replacement {self.replacement!r}"
        if needing is not None:
            raise InputError(
                f"{needing} needs all scores of every child, got chunk={chunk}; leave chunk out."
            )

    def _new_archive(self, size: int, alpha: float, capacity: Capacity | None) -> Archive:
        task, operators = self.task, (self.competition, self.replacement)
        return Archive(task.points, size, alpha, capacity, task.shares, task.top, *operators)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _check_declared(self, scores: NDArray[Any] | Partial) -> None:
        """Check scores that the archive has judged against what the task declares.

        Graded scores of a task that is declared right or wrong are reported once.

        Raises:
            InputError: early rejection relies on what they contradict.
        """
        if isinstance(scores, Partial) or scores.dtype == np.bool_:
            return
        if self.rejection is not None:
            self.rejection.check(scores)
        if not self._graded_is_known and (odd := (scores != 0.0) & (scores != 1.0)).any():
            self._graded_is_known = True
            point = int(np.argmax(odd))
            log.warning(
                "Task %r must give scores of 0 or 1 unless it is declared graded, got %g on data "
                "point %d; its capacity is 'max', as for graded scores: declare graded=True, or "
                "choose a capacity.",
                self.task.name,
                scores[point],
                point,
            )

    def _score(self, genome: Any) -> NDArray[Any]:
        return self.task.evaluate(self.space.materialise(genome))

    # -- one step, in three parts --------------------------------------------------------------

    @overload
    @in_turn
    def ask(
        self,
        n: None = None,
        *,
        parents: tuple[int, int | None] | None = None,
        split: int | None = None,
        mix: float | None = None,
    ) -> Proposal: ...

    @overload
    @in_turn
    def ask(
        self,
        n: int,
        *,
        parents: tuple[int, int | None] | None = None,
        split: int | None = None,
        mix: float | None = None,
    ) -> list[Proposal]: ...

    @in_turn
    def ask(
        self,
        n: int | None = None,
        *,
        parents: tuple[int, int | None] | None = None,
        split: int | None = None,
        mix: float | None = None,
    ) -> Proposal | list[Proposal]:
        """Return a proposal, or a list of n: given values are kept, the others are drawn.

        Any number of proposals can be asked for before they are told, in any order. The same random
        numbers are consumed whatever is given, so that a choice by hand does not change later draws
        (but for CMA-ES, whose solutions are drawn from the same stream).

        Args:
            n: number of proposals, as a list; a single one, and no list, by default.
            parents: ids of A and B; ``(4190, None)`` draws a mate for 4190.
            split: index in [0, N] of the flat vector at which the shares of A and B are exchanged.
            mix: w in [0, 1], the share of B before the split.

        Raises:
            InputError: n is no number, a parent is not in the archive, or the split or mix is out
                of bounds.
        """
        if isinstance(n, (tuple, list)):
            raise InputError(
                f"n must be a number of proposals, got {n!r}; give parents as "
                f"ask(parents=({', '.join(map(str, n))}))."
            )
        if n is not None:
            count = whole_number("n in ask(n)", n, 1)
            return [self.ask(parents=parents, split=split, mix=mix) for _ in range(count)]
        drawn_by_method = parents is None and split is None and mix is None
        again = self._put_back.popleft() if drawn_by_method and self._put_back else None
        if again is not None and again.before == self.rng.bit_generator.state:
            self.rng.bit_generator.state = again.after
            return again.proposal
        u_a, u_b, u_split, u_mix = self.rng.random(4).tolist()
        seed = int(self.rng.bit_generator.random_raw()) >> 11
        if again is not None:
            return again.proposal
        if drawn_by_method:
            return self._keep_parents(self._draw(u_a, u_b, u_split, u_mix, seed))
        a, b = self.archive.pair(parents)
        if a is None:
            a = self.archive.draw_parent(u_a)
        drawn = self._cross(a, b, u_b, u_split, u_mix, seed)
        given = {"parents": parents and drawn.parents, "split": split, "mix": mix}
        proposal = drawn.edit(**{k: v for k, v in given.items() if v is not None})
        self.check(proposal)
        return self._keep_parents(proposal)

    @in_turn
    def put_back(self, proposal: Proposal) -> None:
        """Let a later ``ask`` without choices by hand return this proposal, which was not told."""
        proposal = checked_proposal(proposal)
        self._untold[proposal.seed] = self._untold.pop(proposal.seed, ())
        self._put_back.append(PutBack(proposal))

    def _keep_parents(self, proposal: Proposal) -> Proposal:
        """Keep a proposal's parents until it is told: they may leave the archive before."""
        self._untold[proposal.seed] = self._parents(proposal)
        if len(self._untold) > MAX_UNTOLD:
            del self._untold[next(iter(self._untold))]
        return proposal

    def _draw(self, u_a: float, u_b: float, u_split: float, u_mix: float, seed: int) -> Proposal:
        """Return the method's proposal from four uniform numbers in [0, 1) and a seed."""
        if self._step < self.warmup:
            return self._warm_up(u_a, u_b, u_split, u_mix, seed)
        a = self.archive.draw_parent(u_a)
        if not self.crossover:
            return Proposal((a,), None, None, seed)
        return self._cross(a, None, u_b, u_split, u_mix, seed)

    def _cross(
        self, a: int, b: int | None, u_b: float, u_split: float, u_mix: float, seed: int
    ) -> Proposal:
        if b is None:
            b = self._choose_mate(a, u_b)
        return Proposal((a, b), self._split_at(u_split), u_mix, seed)

    def _choose_mate(self, a: int, u: float) -> int:
        if self.mate is not None:
            return self.archive[self.mate(self.archive, a, u)].id
        return self.archive.draw_mate(a, u) if self.attraction else self.archive.draw_parent(u)

    def _split_at(self, u: float) -> int:
        """Return the split for a uniform number in [0, 1), an index of the whole vector."""
        if not self.split_point:
            return self.space.size
        if self.parts is None:
            return int(u * self.space.size)
        first = self.parts.groups[0]
        return first.whole(int(u * first.size))

    def _warm_up(self, u_a: float, u_b: float, u_split: float, u_mix: float, seed: int) -> Proposal:
        """Return a proposal of two different seeds, each pair with the same chance."""
        count = len(self.space.seeds)
        a, b = int(u_a * count), int(u_b * (count - 1))
        return Proposal((a, b + (b >= a)), self._split_at(u_split), u_mix, seed)

    def check(self, proposal: Proposal) -> tuple[Member, ...]:
        """Check that a proposal, edited by hand or old, can be made, and return its parents.

        Raises:
            InputError: a parent is not in the archive, the split lies outside [0, N] or the mix
                outside [0, 1].
        """
        proposal = checked_proposal(proposal)
        return self._checked(proposal, self._parents(proposal))

    def _checked(self, proposal: Proposal, parents: tuple[Member, ...]) -> tuple[Member, ...]:
        if not 1 <= len(parents) <= 2:
            raise InputError(
                f"A child must have one or two parents, got parents={proposal.parents!r}; choose "
                f"among the members: {', '.join(map(str, self.archive.ids))}."
            )
        proposal.check(self.space.size)
        return parents

    def _parents(self, proposal: Proposal) -> tuple[Member, ...]:
        return tuple([self._parent(id) for id in proposal.parents])

    def _parent(self, id: int) -> Member:
        """Return a member, or a seed that has left during the warm-up."""
        if self._step < self.warmup and id not in self.archive and id in range(len(self._founders)):
            return self._founders[id]
        return self.archive[id]

    def _kept_parents(self, proposal: Proposal) -> tuple[Member, ...]:
        """Return the parents of a proposal, also those that have left since it was asked for."""
        try:
            return self._parents(proposal)
        except InputError:
            kept = {member.id: member for member in self._untold.get(proposal.seed, ())}
            if not kept.keys() >= set(proposal.parents):
                raise
            return tuple(kept[parent] for parent in proposal.parents)

    @in_turn
    def breed(self, proposal: Proposal) -> Any:
        """Return the genome of the proposed child, the same each time.

        Its parents are members, or were when it was asked for; else it raises as ``check``.
        """
        proposal = checked_proposal(proposal)
        if self._bred is not None and self._bred[0] == proposal:
            return self._bred[1]
        genome = self._make(proposal)
        self._bred = (proposal, genome)
        return genome

    def _make(self, proposal: Proposal) -> Any:
        parents = self._checked(proposal, self._kept_parents(proposal))
        return self.offspring(proposal, [parent.genome for parent in parents])

    def offspring(self, proposal: Proposal, parents: Sequence[Any]) -> Any:
        """Return the genome of a child of these genomes, which need not be members' any more."""
        genome = parents[0]
        if len(parents) == 2:
            a, b = parents
            genome = self.crossed(a, b, proposal)
        if not self.mutation:
            return genome
        mutated = self.mutate(genome, proposal.seed)
        return mutated if self.parts is None else self.parts.keep(mutated, genome, self.space)

    def crossed(self, a: Any, b: Any, proposal: Proposal) -> Any:
        """Return the genome of a child of two genomes by a proposal, before any mutation."""
        crossover = self.crossover or Slerp()  # parents that are chosen by hand are merged
        if self.parts is not None:
            return self.parts.cross(crossover, a, b, proposal, self.space)
        if isinstance(crossover, Slerp):
            mix = crossover.stretched(float(proposal.mix or 0.0))
            return self.merge(a, b, int(proposal.split or 0), mix)
        space = cast("MergeSpace", self.space)  # as checked
        return crossover(a, b, proposal, space, crossover_rng(proposal))

    def inheritance(self, proposal: Proposal) -> list[tuple[int, int, float, bool]]:
        """Return what the proposed child has from whom, mutation left aside, for views.

        Returns:
            First index and end of stretches of the flat vector, the share of B on each, and whether
            it is frozen, that is the first seed's; what is left is parent A's.
        """
        if len(proposal.parents) != 2:
            return []
        crossover = self.crossover or Slerp()
        if self.parts is not None:
            return self.parts.inheritance(crossover, proposal)
        edges, shares = crossover.shares(proposal, self.space.layout, crossover_rng(proposal))
        return [(i, j, share, False) for i, j, share in zip(edges, edges[1:], shares, strict=False)]

    def mutate(self, genome: Any, seed: int) -> Any:
        """Return the genome with the method's mutation, a function of ``seed`` alone."""
        if isinstance(self.mutation, Mutation):
            return self.mutation(genome, self.space, seed)
        return self.space.mutate(genome, self.mutation, seed)

    def merge(self, a: Any, b: Any, split: int, mix: float) -> Any:
        """Return the split-point SLERP of two genomes, before any mutation."""
        return self.space.merge(a, b, split, mix)

    @in_turn
    def evaluate(self, proposal: Proposal) -> NDArray[Any]:
        """Make the proposed child and return its scores (D,); raises as ``breed``."""
        return self._score(self.breed(proposal))

    @in_turn
    def verdict(self, scores: ArrayLike | Partial) -> Verdict:
        """Return the verdict on a child with these scores (D,); nothing changes.

        Raises:
            InputError: the scores have another shape, are negative or not finite.
        """
        return self.archive.judge(scores)

    @in_turn
    def pin(self, id: int, on: bool = True) -> None:
        """Keep a member: no child displaces it until it is unpinned. Recorded, as steps are.

        Args:
            id: of the member.
            on: ``False`` unpins it.

        Raises:
            InputError: no member has that id, or no place would be left for children.
        """
        self.archive.pin(id, on)

    @in_turn
    def tell(
        self,
        child: Proposal | Any,
        scores: ArrayLike | Partial | None = None,
        *,
        genome: Any = None,
    ) -> Generation:
        """Let a child compete, with the outcome that ``verdict`` gives for its scores.

        Args:
            child: a proposal, or an external model that was never proposed (a vector, a torch
                module or its state dict, a member of this or another search).
            scores: (D,) its scores; evaluated by default.
            genome: the result of ``breed``; made by default.

        Raises:
            InputError: the proposal cannot be made or was told before, the model has another size
                or NaN weights, or the scores have another shape. Nothing changes then.
        """
        proposal = child if isinstance(child, Proposal) else None
        key = None if proposal is None else proposal.key
        if key is not None and key in self._told:
            raise InputError(
                f"A proposal must be told once, got one that was told at step {self._told[key]} "
                f"({proposal}); ask for another, or edit it."
            )
        if genome is None:
            model = child.genome if isinstance(child, Member) else child
            genome = self.space.genome(model) if proposal is None else self.breed(proposal)
        if not isinstance(scores, Partial):
            scores = as_scores(self._score(genome) if scores is None else scores)
        before = self.archive.standing
        step, id = self._step + 1, self._next_id
        parents = proposal.parents if proposal else ()
        verdict = self.archive.judge(scores)
        self._check_declared(scores)
        if verdict.accepted:
            # Test the next best member first: if its held-out score fails, nothing has changed.
            self._test(*self.archive.best_with(id, genome, verdict))
        self.archive.admit(id, genome, verdict, born=step, parents=parents)
        self._step, self._next_id = step, self._next_id + 1
        if proposal is not None and key is not None:
            self._told[key] = step
            self._untold.pop(proposal.seed, None)
        after = self.archive.standing if verdict.accepted else before
        generation = Generation(step, proposal, id, verdict, before, after, self.test, scores)
        self._learn(generation)
        self.records.append(generation)
        self._record_best()
        self._observers.notify(generation)
        return generation

    def _learn(self, generation: Generation) -> None:
        """Use the outcome of a step, in methods that adapt to it."""

    def expect(self, proposals: Sequence[Proposal]) -> None:
        """Prepare for these proposals to be told, when a recorded run is repeated."""

    @in_turn
    def allow_again(self, proposal: Proposal) -> None:
        """Allow a proposal to be told once more, as it was in runs of earlier versions."""
        self._told.pop(proposal.key, None)

    def _test(self, id: int, genome: Any) -> float:
        """Return a member's held-out score, evaluated unless it was the last one tested."""
        if self._tested is None or self._tested[0] != id:
            self._tested = (id, self.task.held_out(self.space.materialise(genome)))
        return self._tested[1]

    def _record_best(self) -> None:
        """Record the best member's mean score in each class, if another member became the best."""
        best = self.archive.best.id
        if best != self._recorded_best:
            self.records.class_means[self._step] = self.task.means(self.archive.scores_of(best))
            self._recorded_best = best

    # -- many steps ----------------------------------------------------------------------------

    @in_turn
    def step(self) -> Generation:
        """Ask, evaluate as far as the decision needs, and tell once.

        A step that is interrupted, or in which the task raises, changes nothing; the next step
        proposes the same child.

        Raises:
            Halted: the evaluation was stopped.
        """
        at, before = self._step, self.rng.bit_generator.state
        proposal = None
        try:
            proposal = self.ask()
            if self.rejection is None:
                return self.tell(proposal, self.evaluate(proposal))
            model = self.space.materialise(self.breed(proposal))
            return self.tell(proposal, self.rejection.score(model, proposal))
        except BaseException:
            if self._step == at:
                if proposal is not None:
                    after = self.rng.bit_generator.state
                    self._put_back.appendleft(PutBack(proposal, before, after))
                self.rng.bit_generator.state = before
            raise

    def _try_step(self, catch: tuple[type[Exception], ...], retries: int) -> Generation | Exception:
        """Take a step, trying its child again; return what was raised if the child is skipped."""
        for left in range(retries, -1, -1):
            at = self._step
            try:
                return self.step()
            except Halted:
                raise
            except Exception as error:
                # After a complete step an observer raised; without a proposal, the method did.
                if self._step > at or not self._put_back or self._put_back[0].before is None:
                    raise
                if not left and not isinstance(error, catch):
                    raise
                proposal = self._put_back[0].proposal if left else self.ask()
                log_failure(proposal, f"{type(error).__name__}: {error}", left)
                failure = error
        return failure

    def run(
        self,
        steps: int,
        until: Callable[[Generation], bool] | None = None,
        executor: Executor | None = None,
        *,
        store: str | Path | None = None,
        catch: type[Exception] | tuple[type[Exception], ...] = (),
        retries: int = 0,
        progress: bool = False,
    ) -> Evolver:
        """Take up to ``steps`` steps, stopping after one for which ``until`` is true.

        If the task raises, so does this; the next run asks for the same child again, as a resumed
        one does.

        Args:
            steps: maximum number of steps.
            until: called with each generation.
            executor: decides where children are scored (see ``m2n2lab.executors``), by default in
                this thread.
            store: the file that records the steps (see ``m2n2lab.store``).
            catch: exceptions at which the child is skipped instead, which is logged and counts as
                one of the steps.
            retries: number of times that a child is tried again first, whatever was raised.
            progress: show a progress bar, in a terminal or a notebook.

        Raises:
            InputError: ``steps`` is negative, or the store cannot be written; as the executor.
        """
        count = whole_number("steps", steps, 0)
        caught, retries = exception_classes("catch", catch), whole_number("retries", retries, 0)
        executor = checked_executor(executor)
        if until is not None:
            checked_function("until", until, "a generation")
        with ExitStack() as during:
            if store is not None:
                recorder: RecordSearch = extension("recorder")
                during.enter_context(recorder(self, file_path("store", store)))
            if checked_flag("progress", progress):
                show: ShowProgress = extension("progress")
                during.enter_context(show(self, count))
            if executor is not None:
                # Only where they are asked for: executors of one's own need not know them.
                more: dict[str, Any] = {"catch": caught, "retries": retries}
                executor.run(self, count, until, **(more if caught or retries else {}))
                return self
            for _ in range(count):
                generation = self._try_step(caught, retries)
                if isinstance(generation, Exception):
                    continue
                if until is not None and until(generation):
                    break
        return self

    def __iter__(self) -> Iterator[Generation]:
        """Step for as long as the iteration goes on."""
        while True:
            yield self.step()

    # -- observing -----------------------------------------------------------------------------

    def subscribe(
        self,
        observer: Observer,
        undo: Callable[[], object] | None = None,
        strict: bool = False,
    ) -> Callable[[], None]:
        """Call ``observer`` with every generation from now on; return a function that ends this.

        Args:
            observer: called with each generation. If it raises, the error is logged once, and the
                search and the other observers go on.
            undo: called for each step that is taken back, once all are.
            strict: let ``tell`` raise the observer's error; the step is complete all the same.

        Raises:
            InputError: a function cannot be called.
        """
        checked_function("observer", observer, "a generation")
        if undo is not None:
            checked_function("undo", undo, "no arguments")
        return self._observers.subscribe(observer, undo, strict)

    @property
    def history(self) -> pd.DataFrame:
        """The history as a DataFrame, one row per step, indexed by step."""
        return self.records.frame()

    @property
    def plot(self) -> SearchPlots:
        """Plots of this search as HoloViews objects."""
        plots: SearchPlots = extension("plots")(self)
        return plots

    @property
    def generation(self) -> int:
        """Number of steps: models submitted after the seeds."""
        return self._step

    @property
    def born(self) -> int:
        """Number of ids in use so far, which is the next child's id."""
        return self._next_id

    @property
    def best(self) -> Member:
        """The member with the highest mean score."""
        return self.archive.best

    @property
    @in_turn
    def test(self) -> float:
        """The best member's score on held-out data, evaluated when the best member changes."""
        best = self.archive.best
        return self._test(best.id, best.genome)

    def __repr__(self) -> str:
        return f"<{self.method} on {self.task.name!r}, step {self.generation}: {self.archive!r}>"

    def _repr_html_(self) -> str:
        html: str = extension("html")(self)
        return html

    # -- saving --------------------------------------------------------------------------------

    @classmethod
    def resume(cls, path: str | Path, run: int | None = None, **given: Any) -> Evolver:
        """Return a recorded run as it was after its last step (see ``m2n2lab.store.resume``).

        The evolver is of the class that was recorded, which is this one or a subclass that is
        imported already.

        Raises:
            InputError: there is no such store or run, or the task, the seeds or the class are
                others.
        """
        resume: ResumeSearch = extension("resume")
        evolver: Evolver = resume(path, run, kind=cls, **given)
        return evolver

    @in_turn
    def state_dict(self) -> dict[str, Any]:
        """Return the state that determines all further steps: plain values, arrays and genomes.

        The history is not part of it, nor are proposals that were asked for and not told.
        """
        archive = self.archive.state_dict()
        packed = [None if g is None else self.space.pack(g) for g in archive["genomes"]]
        return {
            "method": self.method,
            "step": self._step,
            "born": self._next_id,
            "tested": self._tested,
            "rng": self.rng.bit_generator.state,
            "archive": {**archive, "genomes": packed},
        }

    @in_turn
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly, bit for bit, from a state of the same method, task and options.

        Raises:
            InputError: the state is from another method or has another shape, or is none.
        """
        if not isinstance(state, Mapping) or not {"method", "step", "archive"} <= state.keys():
            raise InputError(
                f"A state must come from state_dict() of an evolver, got {described(state)}; "
                f"weights of a model are submitted with tell(model)."
            )
        if state["method"] != self.method:
            raise InputError(
                f"The state must be of method {self.method!r}, got {state['method']!r}; load it "
                f"into an evolver of that method."
            )
        saved = state["archive"]["genomes"]
        genomes = [None if g is None else self.space.genome(g) for g in saved]
        if self.rejection is not None:
            for scores in state["archive"]["scores"]:
                self.rejection.check(scores)
        self.archive.load_state_dict({**state["archive"], "genomes": genomes})
        self.rng.bit_generator.state = state["rng"]
        self._step, self._next_id = state["step"], state["born"]
        self._bred, self._tested, self._recorded_best = None, state.get("tested"), None
        self._told, self._untold = {}, {}
        self._put_back.clear()
        self._record_best()

    @in_turn
    def take_back(self, state: dict[str, Any]) -> None:
        """Undo the last steps by loading the ``state_dict`` from before them."""
        steps = self._step - state["step"]
        told = {key: step for key, step in self._told.items() if step <= state["step"]}
        untold = {
            seed: parents
            for seed, parents in self._untold.items()
            if all(parent.id < state["born"] for parent in parents)
        }
        self.load_state_dict(state)
        self._told, self._untold = told, untold
        for _ in range(steps):
            self.records.forget_last()
            self._observers.notify_undone()


def checked_evolver(evolver: Any) -> Evolver:
    """Return ``evolver``, checked to be one.

    Raises:
        InputError: it is anything else.
    """
    if not isinstance(evolver, Evolver):
        raise InputError(
            f"evolver must be an Evolver, got {described(evolver)}; make one, such as "
            f"m2n2lab.Evolver(task, seeds)."
        )
    return evolver
