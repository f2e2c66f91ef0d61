"""Registry of methods by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from m2n2lab.core.evolver import Evolver
from m2n2lab.core.methods.brute_force import BruteForce
from m2n2lab.core.methods.cma_es import CmaEs
from m2n2lab.core.methods.cycle_qd import CycleQd
from m2n2lab.core.methods.m2n2_plus import Plus
from m2n2lab.core.methods.map_elites import MapElites
from m2n2lab.core.operators import KINDS, Operator
from m2n2lab.core.spaces.space import Space
from m2n2lab.core.task import Task
from m2n2lab.utils.errors import InputError, choose


class Method(NamedTuple):
    """The class of a method's evolver, its fixed options and a description."""

    kind: type[Evolver]
    options: dict[str, Any]
    words: str


# Fitness is the plain sum of scores, also of graded ones.
_GA = {"alpha": 0.0, "capacity": "one", "attraction": False}

METHODS = {
    "m2n2": Method(Evolver, {}, "competition, attraction and split points"),
    "m2n2-no-crossover": Method(Evolver, {"crossover": False}, "M2N2 by mutation alone"),
    "m2n2-no-split": Method(Evolver, {"split_point": False}, "M2N2 with one mix for all weights"),
    "m2n2-no-attraction": Method(Evolver, {"attraction": False}, "M2N2, both parents by fitness"),
    "ga": Method(Evolver, _GA, "genetic algorithm: no competition, no attraction"),
    "ga-no-crossover": Method(Evolver, {**_GA, "crossover": False}, "GA by mutation alone"),
    "map-elites": Method(MapElites, {}, "the best of each cell of a grid of behaviours"),
    "cycle-qd": Method(CycleQd, {}, "a grid for each task, whose scores take turns as quality"),
    "cma-es": Method(CmaEs, {}, "a normal distribution that adapts (cma library)"),
    "brute-force": Method(BruteForce, {}, "10,000 SLERP ratios of the two seeds"),
    "m2n2+": Method(Plus, {}, "the lab's variant: M2N2 with weight decay and reach"),
}
"""All methods by name, in the order of views."""

_SHIPPED = tuple(METHODS)


def make_evolver(
    method: str, task: Task, seeds: Sequence[Any] | NDArray[Any] | Space, **options: Any
) -> Evolver:
    """Return the evolver of a method by name (see ``METHODS``).

    Args:
        method: its name.
        task, seeds, options: as for ``Evolver``, and the method's own options.

    Raises:
        InputError: the method is unknown, does not have the option, or fixes it at another value.
    """
    evolver_type, preset, _ = METHODS[choose("method", method, METHODS)]
    for name in preset.keys() & options.keys():
        if _plain(name, options[name]) != _plain(name, preset[name]):
            raise InputError(
                f"Method {method!r} means {name}={preset[name]!r}, got {name}={options[name]!r}; "
                f"leave it out or choose another method."
            )
    for name in options:
        choose(f"option of method {method!r}", name, options_of(evolver_type))
    return evolver_type(task, seeds, **{**options, **preset}, method=method)


def register_method(
    name: str, kind: type[Evolver] = Evolver, *, description: str = "", **options: Any
) -> None:
    """Register a method, so that it can be chosen by name: in Python, the command line, the page.

    ::

        m2n2lab.register_method("mine", crossover="ties", mate="random", alpha=0.5)
        m2n2lab.make_evolver("mine", task, seeds)

    Registered again, it is replaced. A run records what the method is made of, so it can be resumed
    where the name is not registered, if classes of its own are imported.

    Args:
        name: its name; the lab's own cannot be taken.
        kind: class of its evolver.
        description: what it does, in a few words.
        options: the options that make the method, such as operators.

    Raises:
        InputError: the name is taken or no text, the class is no Evolver, or it has no such option.
    """
    if not isinstance(name, str) or not name or name in _SHIPPED:
        raise InputError(
            f"The name of a method must be a text other than {', '.join(_SHIPPED)}, got {name!r}; "
            f"choose another."
        )
    if not (isinstance(kind, type) and issubclass(kind, Evolver)):
        raise InputError(
            f"kind must be Evolver or a subclass of it, got {kind!r}; give operators as options."
        )
    for option in options:
        choose(f"option of {kind.__name__}", option, options_of(kind))
    METHODS[name] = Method(kind, options, description or f"{kind.__name__} with {options}")


def default_options(method: str) -> dict[str, Any]:
    """Return the values that a method gives to options which are left out, where it names them."""
    evolver_type, preset, _ = METHODS[choose("method", method, METHODS)]
    defaults: dict[str, Any] = {}
    for base in reversed(evolver_type.__mro__):
        if base is not object and "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            defaults |= {p.name: p.default for p in parameters if p.default is not p.empty}
    return {name: defaults[name] for name in options_of(evolver_type) if name in defaults} | preset


def _plain(name: str, value: Any) -> Any:
    """Return the value of an option as it is recorded."""
    if name in KINDS and isinstance(value, (str, Mapping, Operator)):
        return KINDS[name].of(value).description
    return value


def options_of(evolver_type: type[Evolver]) -> list[str]:
    """Return the names of the options of a class of evolvers, those of its bases included.

    Options are all named parameters after ``task`` and ``seeds``, except ``method``.
    """
    names: dict[str, None] = {}
    for base in evolver_type.__mro__:
        if base is object or "__init__" not in vars(base):
            continue
        parameters = [*inspect.signature(vars(base)["__init__"]).parameters.values()]
        positional = [
            p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        names |= dict.fromkeys(p.name for p in (*positional[3:], *named))  # after self, task, seeds
    return [name for name in names if name != "method"]
