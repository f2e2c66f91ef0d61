"""Class paths: classes by module and qualified name, found again without an import."""

from __future__ import annotations

import sys

PACKAGE = __name__.partition(".")[0]


def class_path(cls: type) -> str:
    """Return a class as ``module:qualname``; ``m2n2lab:qualname`` for one of this package.

    A module of this package may move between versions, so it is not part of the path.
    """
    inside = cls.__module__.partition(".")[0] == PACKAGE
    return f"{PACKAGE if inside else cls.__module__}:{cls.__qualname__}"


def is_custom(path: str) -> bool:
    """Return whether a class is from outside this package, by its path."""
    return path.partition(":")[0] != PACKAGE


def is_lasting(cls: type) -> bool:
    """Return whether another process finds a class by its path, once its module is imported."""
    return cls.__module__ != "__main__" and "<locals>" not in cls.__qualname__


def class_name(path: str) -> str:
    """Return the name of a class by its path."""
    return path.rpartition(":")[2].rpartition(".")[2]


def loaded_class(path: str) -> type | None:
    """Return the class with a path if its module is already imported, else ``None``.

    A path may come from somebody else's file and must not run code: nothing is imported, and no
    ``__getattr__`` of a module is called. Classes of ``__main__`` are not found, because every
    script and notebook has that name.
    """
    module, _, name = path.partition(":")
    found: object = None if module == "__main__" else sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, type) and class_path(found) == path else None


def constructor(cls: type) -> object:
    """Return the ``__init__`` of a class, its own or that of a base."""
    return next(vars(each)["__init__"] for each in cls.__mro__ if "__init__" in vars(each))


def missing_class(path: str) -> tuple[str, str]:
    """Return a class that ``loaded_class`` did not find as text, and the advice to import it.

    The advice is empty for a class that cannot be imported.
    """
    module, _, name = path.partition(":")
    if module == "__main__" or "<locals>" in name:
        return f"the class {class_name(path)} of a script, notebook or function", ""
    return f"the class {class_name(path)} of {module}", f"import {module} first, or "
