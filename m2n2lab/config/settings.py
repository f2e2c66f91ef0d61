"""Settings: a search by name, as the command line, the dashboard and links specify it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from m2n2lab.config.names import (
    CHECKPOINT_TASKS,
    DTYPE_NAMES,
    IMAGE_LIBRARIES,
    IMAGE_TASKS,
    LANGUAGE_LIBRARIES,
    LANGUAGE_TASKS,
    LINK_OPTIONS,
    LINK_PARAMETERS,
    NETWORK_TASKS,
    PROMPT_STYLES,
    TASKS,
    VOCABULARIES,
)
from m2n2lab.utils.concurrency.processors import default_threads
from m2n2lab.utils.errors import InputError, choose, real_number, whole_number

SCRATCH_MUTATION = 0.01
"""Standard deviation of the mutation from scratch (arXiv 2508.16204)."""

_OF_THE_MACHINE = ("device", "threads")
"""Settings that a recorded run does not bring along."""

MAX_LINK_ARCHIVE_SIZE = 200
"""Largest archive size that a link may set."""


def _number(name: str, text: str) -> int | float:
    """Return the number that a text holds.

    Raises:
        InputError: the text is not a number.
    """
    try:
        return float(text) if not text.strip().lstrip("-").isdecimal() else int(text)
    except ValueError:
        raise InputError(
            f"{name} must be a number, got {text[:40]!r}; write it in digits."
        ) from None


@dataclass(frozen=True)
class Settings:
    """A search that can be repeated: task, method, seed and deviations from the defaults.

    Attributes:
        task: one of ``TASKS``.
        method: one of ``METHODS``.
        seed: seed of all random numbers.
        pretrained: start from two specialists, each trained on half of the classes; otherwise
            from two random networks.
        data: folder of MNIST's IDX files, or of GSM8K's problems; or a file of prompts.
        hidden: widths of the hidden layers.
        device: ``"cpu"`` or ``"cuda"``.
        threads: torch threads.
        options: further options of the method, such as ``archive_size``.
        models: checkpoints to start from, folders or hub ids; without any, the zoo's specialists
            and the problems or captions that they were made for.
        limit: number of data points of each task whose models are checkpoints.
        held_out: number of held-out data points of each such task; by default the task's own.
        shots: solved problems at the beginning of a prompt of GSM8K.
        max_new_tokens: longest answer in tokens; by default the task's own.
        style: prompt style of language models (see ``names.PROMPT_STYLES``).
        vocab: what to do with language models whose vocabularies differ, one of ``VOCABULARIES``;
            by default ``"union"``.
        map: names of the first model's tensors and of those of others that are merged into them,
            such as ``"language_model.model.*=model.*"``.
        tokenizer: number of the language model whose tokenizer is used; by default the one whose
            tokens the result has.
        components: components of image pipelines that are merged; by default the denoiser and the
            text encoders. All others are copied from the first model.
        scorer: folder or hub id of a CLIP that scores images; by default the embedded scorer.
        label: a title that replaces the one made from the settings.
        dtype: dtype of merged weights and of the model that is scored, such as ``"bf16"``; that of
            the first model by default.
        variant: variant of the files to read where a model has it, such as ``"fp16"``.
        text_encoder_from: number of the model that provides tokenizers, and text encoders that are
            not merged.
        trust_remote_code: whether code that comes with a model may be run.
        pictures: further options of a space of picture models: ``parts_from``, ``channels`` and
            ``config`` (see ``CheckpointSpace``).
        batch: prompts answered, or pictures drawn, together; by default the task's own number.
        size: pixels along a side of a picture; the pipeline's own size by default, as with the
            next two.
        steps_per_picture: denoising steps.
        guidance: scale of classifier-free guidance.
        negative: a text that pictures are guided away from.
    """

    task: str = "digits"
    method: str = "m2n2"
    seed: int = 0
    pretrained: bool = False
    data: Path | None = None
    hidden: tuple[int, ...] = (256,)
    device: str = "cpu"
    threads: int = field(default_factory=default_threads)
    options: dict[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    limit: int | None = None
    held_out: int | None = None
    shots: int | None = None
    max_new_tokens: int | None = None
    style: str | None = None
    vocab: str | None = None
    map: tuple[str, ...] = ()
    tokenizer: int | None = None
    components: tuple[str, ...] = ()
    scorer: str | None = None
    label: str = ""
    dtype: str | None = None
    variant: str | None = None
    text_encoder_from: int | None = None
    trust_remote_code: bool = False
    pictures: dict[str, Any] = field(default_factory=dict)
    batch: int | None = None
    size: int | None = None
    steps_per_picture: int | None = None
    guidance: float | None = None
    negative: str | None = None

    @property
    def checkpoints(self) -> bool:
        """Whether the models are checkpoints of language models or of image pipelines."""
        return self.task in CHECKPOINT_TASKS

    @property
    def draws(self) -> bool:
        """Whether the models draw images."""
        return self.task in IMAGE_TASKS

    @property
    def steps(self) -> int:
        """Default number of steps, which takes a few minutes."""
        return 100 if self.task in LANGUAGE_TASKS else 120 if self.draws else 10_000

    @property
    def start(self) -> str:
        """The models that the search starts from, as text."""
        if self.checkpoints:
            default = "the zoo's pair" if self.task in LANGUAGE_TASKS else "the zoo's specialists"
            return f"{len(self.models)} models" if self.models else default
        return "pre-trained" if self.pretrained else "from scratch"

    @property
    def drawing(self) -> dict[str, Any]:
        """Options of drawing that are given, by their names in ``Text2Image``."""
        options = {
            "size": self.size,
            "steps": self.steps_per_picture,
            "guidance": self.guidance,
            "negative": self.negative,
        }
        return {name: value for name, value in options.items() if value is not None}

    @property
    def asking(self) -> dict[str, Any]:
        """Options of asking language models that are given, by their names in tasks."""
        options = {"shots": self.shots, "max_new_tokens": self.max_new_tokens}
        return {name: value for name, value in options.items() if value is not None}

    @property
    def amounts(self) -> dict[str, Any]:
        """Amounts that are given of what any task on checkpoints has, by their names there."""
        options = {"limit": self.limit, "held_out": self.held_out, "batch": self.batch}
        return {name: value for name, value in options.items() if value is not None}

    @property
    def title(self) -> str:
        """The label, or else the most important settings, as text."""
        start = f" · {self.start}" if self.pretrained or self.models else ""
        return self.label or f"{self.task} · {self.method} · seed {self.seed}{start}"

    def to_json(self) -> str:
        """Return what ``from_json`` makes these settings from again."""
        names = [each.name for each in fields(self) if each.name not in _OF_THE_MACHINE]
        given = {name: getattr(self, name) for name in names}
        return json.dumps(given, default=str)

    def from_json(self, text: str) -> Settings:
        """Return recorded settings, on the device and with the threads of these.

        Raises:
            InputError: they are not those of this version.
        """
        try:
            given = json.loads(text)
            given = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}
            if given.get("data") is not None:
                given["data"] = Path(given["data"])
            kept = {name: getattr(self, name) for name in _OF_THE_MACHINE}
            return Settings(**given, **kept)
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"The settings of a run must be JSON that this version knows, got {text[:80]!r}; "
                f"open it with the version that recorded it."
            ) from error

    def with_query(self, query: Mapping[str, str]) -> Settings:
        """Return these settings with the parameters of a link.

        A link may only set what is safe to accept from strangers: no paths, devices or threads.

        Args:
            query: any of ``task``, ``method``, ``seed``, ``pretrained``, ``archive_size``,
                ``alpha`` and ``mutation``, as text; empty texts and other names are ignored.

        Raises:
            InputError: a value cannot be used.
        """
        from m2n2lab.core.methods.registry import METHODS

        given = {
            name: text for name, text in query.items() if name in LINK_PARAMETERS and text != ""
        }
        options = dict(self.options)
        for name in LINK_OPTIONS:
            if name in given:
                options[name] = _number(name, given[name])
        if "archive_size" in options:
            # All pages share this computer.
            size = whole_number("archive_size", options["archive_size"], 2)
            options["archive_size"] = int(
                real_number("archive_size", size, 2, MAX_LINK_ARCHIVE_SIZE)
            )
        seed = whole_number("seed", _number("seed", given.get("seed", str(self.seed))), 0)
        task = choose("task", given.get("task", self.task), self.tasks)
        method = given.get("method", self.method)
        if method in METHODS and not METHODS[method].kind.lowest_leaves:
            options.pop("chunk", None)  # the server's default, which this method cannot use
        kept = self
        if task != self.task:  # settings that only the old task can use are dropped
            same_models = self.task in LANGUAGE_TASKS and task in LANGUAGE_TASKS
            models = self.models if same_models else ()
            kept = replace(
                self,
                data=None,
                models=models,
                limit=self.limit if models else None,
                held_out=self.held_out if models else None,
                shots=self.shots if models else None,
                max_new_tokens=self.max_new_tokens if models else None,
                map=self.map if models else (),
                tokenizer=self.tokenizer if models else None,
                components=(),
                scorer=None,
                dtype=self.dtype if models else None,
                variant=self.variant if models else None,
                text_encoder_from=None,
                pictures={},
                trust_remote_code=self.trust_remote_code and bool(models),
                batch=self.batch if models else None,
                size=None,
                steps_per_picture=None,
                guidance=None,
                negative=None,
            )
        changed = replace(
            kept,
            task=task,
            method=method,
            seed=seed,
            pretrained=task in NETWORK_TASKS
            and given.get("pretrained", "1" if self.pretrained else "0") == "1",
            options=options,
            style=kept.style if kept.models else None,
            vocab=kept.vocab if kept.models else None,
            label="",
        )
        changed.check()
        return changed

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that a link can choose: all that need no folder, and have their packages."""
        available = [self.task, "digits"]
        if all(find_spec(library) for library in LANGUAGE_LIBRARIES):
            from m2n2lab.zoo import language

            has_models = self.task in LANGUAGE_TASKS and self.models
            available += LANGUAGE_TASKS if has_models or language.trained() else ()
        if all(find_spec(library) for library in IMAGE_LIBRARIES):
            from m2n2lab.zoo import images

            available += IMAGE_TASKS if images.trained() else ()
        return tuple(dict.fromkeys(available))

    def query(self) -> dict[str, str]:
        """Return a link's query, from which ``with_query`` makes these settings again."""
        texts = {
            name: str(value) for name, value in self.options.items() if name in LINK_PARAMETERS
        }
        start = {"pretrained": str(int(self.pretrained))} if self.task in NETWORK_TASKS else {}
        return {
            "task": self.task,
            "method": self.method,
            "seed": str(self.seed),
            **start,
            **texts,
        }

    @property
    def default_mutation(self) -> float:
        """Mutation if the options give none; checkpoints are not mutated."""
        from m2n2lab.core.methods.registry import METHODS

        if self.checkpoints:
            return 0.0
        return METHODS[self.method].kind.trained_mutation if self.pretrained else SCRATCH_MUTATION

    def check(self) -> None:
        """Check names and numbers, before anything heavy is loaded.

        Raises:
            InputError: a task or method is unknown, a number is out of bounds, or a setting does
                not apply to the task.
        """
        from m2n2lab.core.methods.registry import METHODS

        choose("task", self.task, TASKS)
        choose("method", self.method, METHODS)
        self._check_operators()
        whole_number("seed", self.seed, 0)
        whole_number("threads", self.threads, 1)
        readers = ("mnist", "gsm8k", "gsm8k+webshop", *IMAGE_TASKS)
        if self.data is not None and self.task not in readers:
            raise InputError(
                f"Data is only read by the tasks {', '.join(readers)}, got {self.task!r}; leave it "
                f"out or choose one of these tasks."
            )
        if self.style is not None:
            choose("prompt style", self.style, PROMPT_STYLES)
        if self.vocab is not None:
            choose("way to treat vocabularies", self.vocab, VOCABULARIES)
        if self.limit is not None:
            whole_number("limit", self.limit, 1)
        for name in ("batch", "max_new_tokens"):
            if (value := getattr(self, name)) is not None:
                whole_number(name, value, 1)
        for name in ("held_out", "shots"):
            if (value := getattr(self, name)) is not None:
                whole_number(name, value, 0)
        if not self.draws and (self.components or self.scorer is not None):
            raise InputError(
                f"Components and a scorer are only used by image tasks, got {self.task!r}; leave "
                f"them out or choose {', '.join(IMAGE_TASKS)}."
            )
        if not self.draws and self.text_encoder_from is not None:
            raise InputError(
                f"text_encoder_from is only used by image tasks, got {self.task!r}; leave it out "
                f"or choose {', '.join(IMAGE_TASKS)}."
            )
        if self.pictures and not (self.draws and self.models):
            raise InputError(
                f"{', '.join(self.pictures)} are only used with picture models of your own, got "
                f"{self.task!r}; leave them out, or name models with --seeds."
            )
        if not self.draws and self.drawing:
            raise InputError(
                f"{', '.join(self.drawing)} are only used by image tasks, got {self.task!r}; leave "
                f"them out or choose {', '.join(IMAGE_TASKS)}."
            )
        if not self.models and (
            self.dtype
            or self.variant
            or self.map
            or self.tokenizer is not None
            or self.text_encoder_from is not None
            or self.trust_remote_code
        ):
            raise InputError(
                "dtype, variant, map, tokenizer, text_encoder_from and trust_remote_code are only "
                "used with models of your own, got none; name them with --seeds, or leave these "
                "options out."
            )
        if self.dtype is not None:
            choose("dtype", self.dtype, DTYPE_NAMES)
        for name in ("text_encoder_from", "tokenizer"):
            if (value := getattr(self, name)) is not None:
                real_number(name, value, 0, len(self.models) - 1)
        if self.task not in LANGUAGE_TASKS and self.style is not None:
            raise InputError(
                f"A prompt style is only used by language tasks, got {self.task!r}; leave it out "
                f"or choose one of {', '.join(LANGUAGE_TASKS)}."
            )
        if self.task not in LANGUAGE_TASKS and self.vocab is not None:
            raise InputError(
                f"A way to treat vocabularies is only used by language tasks, got {self.task!r}; "
                f"leave it out or choose one of {', '.join(LANGUAGE_TASKS)}."
            )
        if self.task not in LANGUAGE_TASKS and (self.asking or self.tokenizer is not None):
            raise InputError(
                f"shots, max_new_tokens and tokenizer are only used by language tasks, got "
                f"{self.task!r}; leave them out or choose one of {', '.join(LANGUAGE_TASKS)}."
            )
        if self.shots is not None and "gsm8k" not in self.task:
            raise InputError(
                f"shots are only used by gsm8k, got {self.task!r}; leave them out or choose gsm8k "
                f"or gsm8k+webshop."
            )
        if self.checkpoints:
            self._check_checkpoints()
        elif self.models or self.amounts:
            raise InputError(
                f"Models, a limit, held_out and batch are only used by tasks on checkpoints, got "
                f"{self.task!r}; leave them out or choose one of {', '.join(CHECKPOINT_TASKS)}."
            )

    def _check_operators(self) -> None:
        """Check the operators among the options, as far as they are known by name.

        Raises:
            InputError: one is unknown, or has no such parameter.
        """
        from m2n2lab.core.operators import KINDS

        for name, kind in KINDS.items():
            if isinstance(value := self.options.get(name), str):
                kind.of(value)

    def _check_checkpoints(self) -> None:
        """Check the settings of a search over checkpoints.

        Raises:
            InputError: there is a single model, or a setting does not apply to checkpoints or to
                the zoo's models.
        """
        if self.pretrained:
            raise InputError(
                f"Task {self.task!r} always starts from trained models, got pretrained=True; leave "
                f"it out."
            )
        if len(self.models) == 1:
            raise InputError(
                f"A merge needs at least two models, got only {self.models[0]!r}; give another one "
                f"of the same architecture."
            )
        given = (self.data, self.style, self.components, self.vocab, self.shots)
        if not self.models and any(given):
            raise InputError(
                "Data, a prompt style, shots, a way to treat vocabularies and components cannot be "
                "used with the zoo's models, which only know their own problems and prompts; give "
                "seeds of your own with them."
            )
