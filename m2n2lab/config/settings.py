"""Settings of a search by name, as the command line, the dashboard and links make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from m2n2lab.config.names import (
    ADJUSTABLE,
    CHECKPOINTS,
    LANGUAGE,
    LANGUAGE_LIBRARIES,
    NETWORKS,
    PICTURE_LIBRARIES,
    PICTURES,
    QUERY,
    STYLES,
    TASKS,
)
from m2n2lab.utils.errors import InputError, choose, real_number, whole_number
from m2n2lab.utils.processors import default_threads

SCRATCH_MUTATION = 0.01
"""Standard deviation of the mutation from scratch (arXiv 2508.16204)."""

LARGEST_ARCHIVE = 200
"""Archive size that a link may set at most."""


def _number(name: str, text: str) -> int | float:
    """Return a number from text.

    Raises:
        InputError: it is none.
    """
    try:
        return float(text) if not text.strip().lstrip("-").isdecimal() else int(text)
    except ValueError:
        raise InputError(
            f"{name} must be a number, but {text[:40]!r} came; give one in digits."
        ) from None


@dataclass(frozen=True)
class Settings:
    """A search that can be repeated: task, method, seed and deviations from the defaults.

    Attributes:
        task: one of ``TASKS``.
        method: one of ``METHODS``.
        seed: of everything random.
        pretrained: start from two specialists, each trained on half of the classes; otherwise
            from two random networks.
        data: folder of MNIST's IDX files, or of GSM8K's problems; or a file of prompts.
        hidden: widths of the hidden layers.
        device: ``"cpu"`` or ``"cuda"``.
        threads: torch threads.
        options: further options of the method, such as ``archive_size``.
        models: checkpoints to start from, folders or hub ids; without any, the zoo's specialists
            and the problems or captions that they were made for.
        limit: data points of each task whose models are checkpoints.
        style: how language models are asked (see ``names.STYLES``).
        components: of pipelines that draw, those that are merged; by default the denoiser and the
            text encoders. All others come from the first model.
        scorer: a CLIP, by folder or hub id, that scores pictures; by default the embedded scorer.
        label: a title in place of the one that is made of the settings.
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
    style: str | None = None
    components: tuple[str, ...] = ()
    scorer: str | None = None
    label: str = ""

    @property
    def checkpoints(self) -> bool:
        """Whether the models are checkpoints, of language models or of pipelines that draw."""
        return self.task in CHECKPOINTS

    @property
    def draws(self) -> bool:
        """Whether the models draw pictures."""
        return self.task in PICTURES

    @property
    def steps(self) -> int:
        """Default number of steps: a few minutes."""
        return 100 if self.task in LANGUAGE else 120 if self.draws else 10_000

    @property
    def start(self) -> str:
        """What the search starts from, in words."""
        if self.checkpoints:
            ours = "the zoo's pair" if self.task in LANGUAGE else "the zoo's specialists"
            return f"{len(self.models)} models" if self.models else ours
        return "pre-trained" if self.pretrained else "from scratch"

    @property
    def title(self) -> str:
        """The search in a few words."""
        start = f" · {self.start}" if self.pretrained or self.models else ""
        return self.label or f"{self.task} · {self.method} · seed {self.seed}{start}"

    def asked(self, query: Mapping[str, str]) -> Settings:
        """Return these settings with those of a link.

        A link may set what is safe to take from anyone: no paths, no devices, no threads.

        Args:
            query: any of ``task``, ``method``, ``seed``, ``pretrained``, ``archive_size``,
                ``alpha`` and ``mutation``, as text; empty texts and other names are left out.

        Raises:
            InputError: a value that cannot be used.
        """
        from m2n2lab.core.methods.registry import METHODS

        given = {name: text for name, text in query.items() if name in QUERY and text != ""}
        options = dict(self.options)
        for name in ADJUSTABLE:
            if name in given:
                options[name] = _number(name, given[name])
        if "archive_size" in options:
            # Anyone's page shares this computer.
            size = whole_number("archive_size", options["archive_size"], 2)
            options["archive_size"] = int(real_number("archive_size", size, 2, LARGEST_ARCHIVE))
        seed = whole_number("seed", _number("seed", given.get("seed", str(self.seed))), 0)
        task = choose("task", given.get("task", self.task), self.tasks)
        method = given.get("method", self.method)
        if method in METHODS and not METHODS[method].kind.lowest_leaves:
            options.pop("chunk", None)  # the server's default, for methods that can
        kept = self
        if task != self.task:  # what only the old task can use is left out
            same = self.task in LANGUAGE and task in LANGUAGE
            models = self.models if same else ()
            kept = replace(
                self,
                data=None,
                models=models,
                limit=self.limit if models else None,
                components=(),
                scorer=None,
            )
        changed = replace(
            kept,
            task=task,
            method=method,
            seed=seed,
            pretrained=task in NETWORKS
            and given.get("pretrained", "1" if self.pretrained else "0") == "1",
            options=options,
            style=kept.style if kept.models else None,
            label="",
        )
        changed.check()
        return changed

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that can be chosen here without naming a folder."""
        known = [self.task, "digits"]
        if all(find_spec(library) for library in LANGUAGE_LIBRARIES):
            from m2n2lab.zoo import language

            given = self.task in LANGUAGE and self.models
            known += LANGUAGE if given or language.trained() else ()
        if all(find_spec(library) for library in PICTURE_LIBRARIES):
            from m2n2lab.zoo import images

            known += PICTURES if images.trained() else ()
        return tuple(dict.fromkeys(known))

    def query(self) -> dict[str, str]:
        """Return a link's query, from which ``asked`` makes these settings again."""
        texts = {name: str(value) for name, value in self.options.items() if name in QUERY}
        start = {"pretrained": "1"} if self.pretrained else {}
        return {
            "task": self.task,
            "method": self.method,
            "seed": str(self.seed),
            **start,
            **texts,
        }

    @property
    def usual_mutation(self) -> float:
        """Mutation where the options give none; checkpoints have none."""
        from m2n2lab.core.methods.registry import METHODS

        if self.checkpoints:
            return 0.0
        return METHODS[self.method].kind.trained_mutation if self.pretrained else SCRATCH_MUTATION

    def check(self) -> None:
        """Check names and numbers, before anything heavy is loaded.

        Raises:
            InputError: an unknown task or method, numbers out of bounds, data for digits.
        """
        from m2n2lab.core.methods.registry import METHODS

        choose("task", self.task, TASKS)
        choose("method", self.method, METHODS)
        whole_number("seed", self.seed, 0)
        whole_number("threads", self.threads, 1)
        readers = ("mnist", "gsm8k", "gsm8k+webshop", *PICTURES)
        if self.data is not None and self.task not in readers:
            raise InputError(
                f"Only the mnist and gsm8k tasks read a data folder, and text2image a file of "
                f"prompts, but one came for {self.task!r}; leave it out or choose another task."
            )
        if self.style is not None:
            choose("prompt style", self.style, STYLES)
        if self.limit is not None:
            whole_number("limit", self.limit, 1)
        if not self.draws and (self.components or self.scorer is not None):
            raise InputError(
                f"Components and a scorer are for models that draw, but the task is "
                f"{self.task!r}; leave them out or choose {', '.join(PICTURES)}."
            )
        if self.task not in LANGUAGE and self.style is not None:
            raise InputError(
                f"A prompt style is for language tasks, but the task is {self.task!r}; leave it "
                f"out or choose one of {', '.join(LANGUAGE)}."
            )
        if self.checkpoints:
            self._check_checkpoints()
        elif self.models or self.limit is not None:
            raise InputError(
                f"Models and a limit are for tasks of checkpoints, but the task is "
                f"{self.task!r}; leave them out or choose one of {', '.join(CHECKPOINTS)}."
            )

    def _check_checkpoints(self) -> None:
        """Check what only searches over checkpoints need.

        Raises:
            InputError: a single model, options that only networks or only given models have.
        """
        if self.pretrained:
            raise InputError(
                f"Task {self.task!r} always starts from trained models, but pretrained came; leave "
                f"it out."
            )
        if len(self.models) == 1:
            raise InputError(
                f"A merge needs at least two models, but only {self.models[0]!r} came; give "
                f"another one of the same architecture."
            )
        if not self.models and (self.data or self.style or self.components):
            raise InputError(
                "The zoo's models know their own problems and prompts only, but data, a prompt "
                "style or components came; give seeds of your own with it."
            )
