"""Where tasks of lm-evaluation-harness come from: its own by name, or a YAML file of one's own.

A YAML file may name Python functions, fetch metrics that are code, or run what models write. Such
files are refused unless they are trusted; templates run in a sandbox in any case.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from m2n2lab.utils.errors import InputError, first_line
from m2n2lab.utils.extras import missing

FILE_FORMATS = ("arrow", "csv", "json", "parquet", "text", "xml")
"""Kinds of files that ``datasets`` reads by itself."""

FILE_KEYS = {"data_files", "data_dir"}
"""Where a task says which."""

PLAIN_TAG = "tag:yaml.org,2002:"
YAML_SUFFIXES = (".yaml", ".yml")


def load(source: str | Path, functions: bool = False) -> dict[str, Any]:
    """Return the harness's tasks by name: one, or those of a group.

    Args:
        source: a name that the harness knows, or a YAML file.
        functions: whether a YAML file may bring Python code.

    Raises:
        InputError: the harness is not installed, does not know the task or cannot load its data; a
            file that is missing, damaged or brings code.
    """
    try:
        import jinja2.sandbox
        import lm_eval.utils
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        feature = "A task of lm-evaluation-harness"
        raise missing(feature, error.name or "lm_eval", "harness") from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of each model that is live
    templates = lm_eval.utils.env
    if not isinstance(templates, jinja2.sandbox.SandboxedEnvironment):
        # Theirs let a template reach any Python object, and so run anything.
        safe = jinja2.sandbox.SandboxedEnvironment(
            loader=templates.loader, undefined=templates.undefined, keep_trailing_newline=True
        )
        safe.filters.update(templates.filters)
        lm_eval.utils.env = safe
    path = Path(source)
    wanted: Any = str(source)
    if path.suffix in YAML_SUFFIXES:
        wanted = _read_yaml(path, functions)
        # A group is its members: tasks that stand there in full, or names that the harness knows.
        wanted = wanted["task"] if "group" in wanted else [wanted]
        whole = all(isinstance(each, dict) for each in wanted)
        manager = TaskManager(include_defaults=False) if whole else _manager()
    else:
        manager = _manager()
        if wanted not in manager.task_index:
            close = difflib.get_close_matches(wanted, manager.all_tasks, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InputError(
                f"lm-evaluation-harness has no task named {wanted!r}; {hint}give one of the names "
                f"that `lm_eval ls tasks` lists, or a file that ends in .yaml."
            )
    try:
        found: dict[str, Any] = manager.load(wanted)["tasks"]
        empty = not found or any(len(task.eval_docs) == 0 for task in found.values())
    except IndexError:  # it looks at the first document
        empty = True
    except Exception as error:  # whatever is wrong with the file, its data or the way to the hub
        raise InputError(
            f"The harness task {source} could not be loaded ({_reason(error)}); see that its data "
            f"are there, or that the hub can be reached."
        ) from error
    if empty:
        raise InputError(
            f"The harness task {source} must have documents in its test or validation split, but "
            f"it has none; see which file its data come from."
        )
    for name, task in found.items():
        needs = "runs code that models write" if getattr(task, "UNSAFE_CODE", False) else ""
        needs = "asks about pictures or sound" if getattr(task, "MULTIMODAL", False) else needs
        if needs:
            raise InputError(
                f"A harness task must ask in text and only read the answers, but {name} {needs}; "
                f"choose another one."
            )
    return found


@lru_cache(maxsize=1)
def _manager() -> Any:
    """Return the harness's catalogue, which takes seconds to read."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:  # datasets wraps what it was about
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(error):.200}"


# -- a file of one's own ---------------------------------------------------------------------------


def _read_yaml(path: Path, functions: bool) -> dict[str, Any]:
    """Return what a YAML file and those that it includes say, with paths that hold anywhere."""
    import yaml
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        if not functions:
            _refuse_code(path.expanduser().resolve(), set())
        config: dict[str, Any] = load_yaml(path)
    except InputError:
        raise
    except (OSError, ValueError, ImportError, AttributeError, yaml.YAMLError) as error:
        raise InputError(
            f"{path} must be a YAML file of lm-evaluation-harness, but it could not be read "
            f"({_reason(error)}); check the path and the file."
        ) from error
    if not isinstance(config.get("task"), list if "group" in config else str):
        raise InputError(
            f"{path} must be a YAML file of lm-evaluation-harness with the name of its task (for "
            f"'group:' a list of tasks) after 'task:', but it has none; give it one."
        )
    for each in _mappings(config):
        kind = each.get("dataset_path")
        if kind in FILE_FORMATS and not any(FILE_KEYS & part.keys() for part in _mappings(each)):
            raise InputError(
                f"{path} must name the files that its data come from, as dataset_kwargs: "
                f"{{data_files: …}}, since it has dataset_path: {kind}, but it names none; name "
                f"them, or every {kind} file of the folder at hand would be read."
            )
        files = each.get("data_files")
        if files is not None:
            each["data_files"] = _anchored(files, path.expanduser().resolve().parent)
    return config


def _anchored(files: Any, folder: Path) -> Any:
    """Return names of data files: those that lie beside the YAML by their full path."""
    if isinstance(files, dict):
        return {split: _anchored(names, folder) for split, names in files.items()}
    if isinstance(files, list):
        return [_anchored(name, folder) for name in files]
    beside = folder / str(files)
    return str(beside) if beside.is_file() else files


def _refuse_code(path: Path, seen: set[Path]) -> None:
    """See that a file, and each that it includes, holds data only.

    Raises:
        InputError: it would run Python code.
    """
    import yaml
    from lm_eval.api import metrics, registry

    if path in seen:
        return
    seen.add(path)
    text = path.read_text("utf-8")
    for node in _nodes(yaml.compose(text, Loader=yaml.SafeLoader)):
        if not node.tag.startswith(PLAIN_TAG) or "python/" in node.tag:
            raise _code_error(
                path, f"{node.tag} {node.value if isinstance(node.value, str) else '…'}"
            )
    config = yaml.safe_load(text)
    assert metrics  # which registers them
    for each in _mappings(config):
        for key in ("hf_evaluate", "trust_remote_code", "unsafe_code"):
            if each.get(key):
                raise _code_error(path, f"{key}: {each[key]}")
        metric = each.get("metric")
        if metric is not None and metric not in registry.metric_registry:
            raise _code_error(path, f"the metric {metric}, which the harness does not have itself")
        if each.get("dataset_path") == "pandas":
            raise _code_error(path, "dataset_path: pandas, which reads pickled files")
    included = config.get("include", []) if isinstance(config, dict) else []
    for name in [included] if isinstance(included, str) else included:
        _refuse_code((path.parent / str(name)).resolve(), seen)


def _code_error(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} must hold data only, but it has {what}, which runs Python code; read it, and give "
        f"functions=True if you trust it."
    )


def _nodes(root: Any) -> Iterator[Any]:
    """Yield a YAML document's nodes, each once: an anchor may stand in many places."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node.value, list):
            for child in node.value:
                waiting += child if isinstance(child, tuple) else [child]


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all mappings in what a YAML file says."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if not isinstance(each, dict | list) or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict):
            yield each
        waiting += each.values() if isinstance(each, dict) else each
