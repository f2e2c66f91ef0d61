"""Sources of harness tasks: lm-evaluation-harness's own by name, or your own YAML files.

A YAML file may name Python functions, fetch metrics that are code, or run the output of models.
Such files are refused unless they are trusted; templates always run in a sandbox.
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
from m2n2lab.utils.files import read_text

FILE_FORMATS = ("arrow", "csv", "json", "parquet", "text", "xml")
"""File formats that ``datasets`` reads without further code."""

FILE_KEYS = {"data_files", "data_dir"}
"""Keys with which a task names its files."""

PLAIN_TAG = "tag:yaml.org,2002:"
YAML_SUFFIXES = (".yaml", ".yml")


def load(source: str | Path, functions: bool = False) -> dict[str, Any]:
    """Load the harness's tasks by name: one, or those of a group.

    Args:
        source: a name that the harness knows, or a YAML file.
        functions: whether a YAML file may contain Python code.

    Raises:
        InputError: the harness is not installed, does not know the task or cannot load its data; or
            a file is missing, damaged or contains code.
    """
    try:
        import jinja2.sandbox
        import lm_eval.utils
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        feature = "A task of lm-evaluation-harness"
        raise missing(feature, error.name or "lm_eval", "harness") from error
    logging.getLogger("lm_eval").setLevel(
        logging.ERROR
    )  # it warns for each model that is already loaded
    templates = lm_eval.utils.env
    if not isinstance(templates, jinja2.sandbox.SandboxedEnvironment):
        # Without a sandbox a template can reach any Python object, and so run any code.
        safe = jinja2.sandbox.SandboxedEnvironment(
            loader=templates.loader, undefined=templates.undefined, keep_trailing_newline=True
        )
        safe.filters.update(templates.filters)
        lm_eval.utils.env = safe
    path = Path(source)
    wanted: Any = str(source)
    if path.suffix in YAML_SUFFIXES:
        wanted = _read_yaml(path, functions)
        # The members of a group are whole tasks, or names that the harness knows.
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
    except IndexError:  # the harness accesses the first document
        empty = True
    except Exception as error:  # files, data and the hub raise many classes
        raise InputError(
            f"The harness task {source} could not be loaded ({_reason(error)}); check that its "
            f"data exist, or that the hub can be reached."
        ) from error
    if empty:
        raise InputError(
            f"The harness task {source} must have documents in its test or validation split, but "
            f"it has none; check the file of its data."
        )
    for name, task in found.items():
        needs = "runs code that models write" if getattr(task, "UNSAFE_CODE", False) else ""
        needs = "uses pictures or sound" if getattr(task, "MULTIMODAL", False) else needs
        if needs:
            raise InputError(
                f"A harness task must have prompts in text and must not run answers, but {name} "
                f"{needs}; choose another one."
            )
    return found


@lru_cache(maxsize=1)
def _manager() -> Any:
    """Return the harness's index of tasks, which takes seconds to read."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:  # datasets wraps the original error
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(error):.200}"


# -- YAML files ------------------------------------------------------------------------------------


def _read_yaml(path: Path, functions: bool) -> dict[str, Any]:
    """Read a YAML file and those that it includes, with absolute paths of data files."""
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
            f"'group:' a list of tasks) after 'task:', but it has none; add it."
        )
    for each in _mappings(config):
        file_format = each.get("dataset_path")
        if file_format in FILE_FORMATS and not any(
            FILE_KEYS & part.keys() for part in _mappings(each)
        ):
            raise InputError(
                f"{path} must name its data files, as dataset_kwargs: {{data_files: …}}, since it "
                f"has dataset_path: {file_format}, but it names none; name them, or every "
                f"{file_format} file of the working directory would be read."
            )
        files = each.get("data_files")
        if files is not None:
            each["data_files"] = _anchored(files, path.expanduser().resolve().parent)
    return config


def _anchored(files: Any, folder: Path) -> Any:
    """Return names of data files; those beside the YAML file as absolute paths."""
    if isinstance(files, dict):
        return {split: _anchored(names, folder) for split, names in files.items()}
    if isinstance(files, list):
        return [_anchored(name, folder) for name in files]
    beside = folder / str(files)
    return str(beside) if beside.is_file() else files


def _refuse_code(path: Path, seen: set[Path]) -> None:
    """Check that a file, and each that it includes, holds data only.

    Raises:
        InputError: a file would run Python code.
    """
    import yaml
    from lm_eval.api import metrics, registry

    if path in seen:
        return
    seen.add(path)
    text = read_text(path)
    for node in _nodes(yaml.compose(text, Loader=yaml.SafeLoader)):
        if not node.tag.startswith(PLAIN_TAG) or "python/" in node.tag:
            raise _code_error(
                path, f"{node.tag} {node.value if isinstance(node.value, str) else '…'}"
            )
    config = yaml.safe_load(text)
    assert metrics  # importing it registers the metrics
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
    """Yield a YAML document's nodes, each once: several places may share an anchor."""
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
    """Yield all mappings in the contents of a YAML file."""
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
