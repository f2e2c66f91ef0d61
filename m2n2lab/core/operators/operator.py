"""Operator: a part of a method that can be exchanged, known by its name or its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from m2n2lab.utils.class_paths import class_path, is_lasting, loaded_class, missing_class
from m2n2lab.utils.errors import InputError, choose, first_line
from m2n2lab.utils.plain_values import plain_value

if TYPE_CHECKING:
    from typing import Self

FIELD = "operator"
"""Key of an operator's name, or of the path of its class, in its description."""


class Operator:
    """A part of a method that can be exchanged: small, without a state that changes.

    A subclass with a name, ``class Mine(Crossover, name="mine")``, can be chosen by it; parameters
    are written behind it, as in ``"ties:density=0.3,scale=0.5"``. The fields of a dataclass, or
    else the attributes of the object, are its parameters: they are recorded with a run, and given
    to the class again when it is resumed.
    """

    what: ClassVar[str] = "operator"
    """The parameter of ``Evolver`` that takes it."""
    named: ClassVar[dict[str, Any]] = {}
    """The classes of this part of a method that have a name."""
    name: ClassVar[str] = ""

    def __init_subclass__(cls, name: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        if Operator in cls.__bases__:
            cls.named = {}
        cls.name = name
        if name:
            cls.named[name] = cls

    @classmethod
    def of(cls, value: Any) -> Self:
        """Return the operator that is meant by an object, a name, or a description.

        Raises:
            InputError: it is none of this part, its class is not known, or a parameter is wrong.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            name, _, text = value.partition(":")
            found: type[Self] = cls.named[choose(cls.what, name, cls.named)]
            return cls._made(found, dict(_parameter(part) for part in text.split(",") if part))
        if isinstance(value, Mapping) and FIELD in value:
            parameters = {k: v for k, v in value.items() if k != FIELD}
            return cls._made(cls._class(value[FIELD]), parameters)
        kind = "a class" if isinstance(value, type) else f"{type(value).__name__} {value!r}"
        raise InputError(
            f"{cls.what} must be a {cls.__name__} or the name of one ({', '.join(cls.named)}), got "
            f"{kind}; give an object of a subclass of m2n2lab.{cls.__name__}."
        )

    @classmethod
    def _class(cls, name: str) -> type[Self]:
        found = cls.named.get(name) or loaded_class(name)
        if found is None or not issubclass(found, cls):
            missing, advice = missing_class(name) if ":" in name else (f"{cls.what} {name!r}", "")
            raise InputError(
                f"{cls.what} must be one that is known, got {missing}; {advice}define it first, or "
                f"give the object as options={{{cls.what!r}: …}}."
            )
        return cast("type[Self]", found)

    @classmethod
    def _made(cls, found: type[Self], parameters: Mapping[str, Any]) -> Self:
        try:
            return found(**parameters)
        except TypeError as error:
            raise InputError(
                f"{cls.what} {found.name or found.__name__!r} must have other parameters than "
                f"{', '.join(parameters) or 'none'}: {first_line(error)}; correct their names."
            ) from error

    @property
    def parameters(self) -> dict[str, Any]:
        """The values from which an equal operator is made."""
        if is_dataclass(self):
            return {field.name: getattr(self, field.name) for field in fields(self)}
        return dict(vars(self))

    @property
    def description(self) -> Any:
        """Plain values of which ``of`` makes an equal operator; the operator itself if none do."""
        name = type(self).name
        if not name and not is_lasting(type(self)):
            return self
        try:
            parameters = plain_value(self.parameters)
        except (TypeError, ValueError):  # a function or another object
            return self
        return {FIELD: name or class_path(type(self)), **parameters}

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return f"{type(self).__name__}({given})"


def _parameter(text: str) -> tuple[str, Any]:
    """Return name and value of a parameter written as ``name=value``."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(
            f"Parameters must be written as name=value, got {text!r}; separate them by commas."
        )
    words: dict[str, Any] = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return name.strip(), words[value.lower()]
    for number in (int, float):
        try:
            return name.strip(), number(value)
        except ValueError:
            continue
    return name.strip(), value
