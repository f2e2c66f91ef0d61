"""Search options: the options that ``evolve`` and ``serve`` share, as one dataclass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand

from m2n2lab.cli.executor_options import Address, Executor, ExecutorOptions, Gpus, Timeout, Workers
from m2n2lab.config.names import NETWORK_TASKS
from m2n2lab.config.settings import Settings
from m2n2lab.utils.errors import InputError

OPTIONS = (
    *("archive_size", "alpha", "mutation", "chunk"),
    *("crossover", "mate", "capacity", "replacement", "warmup"),
)
"""Options of a method that have an option of the command line with the same name."""

PATTERNS = ("include", "exclude", "freeze")
"""Options that are patterns of names of tensors."""

Options = TypeVar("Options")
Own = ParamSpec("Own")


@dataclass(frozen=True)
class SearchOptions:
    """Options of the search and of the executor that scores children."""

    task: Annotated[
        str,
        typer.Option("--task", help="digits, mnist, gsm8k, webshop, gsm8k+webshop, text2image."),
    ] = "digits"
    method: Annotated[str, typer.Option("--method", help="m2n2, ga, map-elites, cma-es, …")] = (
        "m2n2"
    )
    seed: Annotated[int, typer.Option("--seed", help="Seed of all random numbers.")] = 0
    pretrained: Annotated[
        bool | None,
        typer.Option(
            "--pretrained/--from-scratch",
            help="Start from two trained specialists (the page does), or from random networks.",
            show_default=False,
        ),
    ] = None
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Folder with MNIST's IDX files or GSM8K's jsonl, or a file of prompts."
        ),
    ] = None
    hidden: Annotated[
        list[int], typer.Option("--hidden", help="Width of a hidden layer; repeatable.")
    ] = field(default_factory=lambda: [256])
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu"
    threads: Annotated[int | None, typer.Option("--threads", help="Number of torch threads.")] = (
        None
    )
    archive_size: Annotated[
        int | None, typer.Option("--archive-size", help="Largest number of members.")
    ] = None
    alpha: Annotated[
        float | None, typer.Option("--alpha", help="Exponent α of the competition.")
    ] = None
    mutation: Annotated[
        float | None,
        typer.Option("--mutation", help="Standard deviation of the noise added to a child."),
    ] = None
    chunk: Annotated[
        int | None,
        typer.Option(
            "--chunk", help="Data points scored at a time; hopeless children are rejected early."
        ),
    ] = None
    crossover: Annotated[
        str | None,
        typer.Option(
            "--crossover",
            help="slerp, splits, lerp, per-layer, task-arithmetic, ties or dare; with parameters: "
            "ties:density=0.3,base=1.",
        ),
    ] = None
    mate: Annotated[
        str | None, typer.Option("--mate", help="Choice of parent B: attraction, fitness, random.")
    ] = None
    capacity: Annotated[
        str | None,
        typer.Option("--capacity", help="Capacity of a data point: one, max or range."),
    ] = None
    replacement: Annotated[
        str | None, typer.Option("--replacement", help="Who leaves: lowest or crowding.")
    ] = None
    warmup: Annotated[
        int | None,
        typer.Option("--warmup", help="Steps at the beginning in which seeds merge at random."),
    ] = None
    groups: Annotated[
        list[str],
        typer.Option(
            "--groups",
            help="NAME=PATTERN of tensors that are merged with a split of their own; repeatable.",
        ),
    ] = field(default_factory=list)
    include: Annotated[
        list[str],
        typer.Option("--include", help="Pattern of tensors that are merged; repeatable."),
    ] = field(default_factory=list)
    exclude: Annotated[
        list[str],
        typer.Option("--exclude", help="Pattern of tensors that stay as in parent A; repeatable."),
    ] = field(default_factory=list)
    freeze: Annotated[
        list[str],
        typer.Option(
            "--freeze", help="Pattern of tensors that stay as in the first seed; repeatable."
        ),
    ] = field(default_factory=list)
    models: Annotated[
        list[str],
        typer.Option(
            "--seeds", metavar="A B …", help="Models to start from: folders, files or hub ids."
        ),
    ] = field(default_factory=list)
    vocab: Annotated[
        str | None,
        typer.Option(
            "--vocab",
            help="Vocabularies that differ: union (the default), all rows that any model has; "
            "common, only those that all have; first, those of A; or refuse.",
        ),
    ] = None
    limit: Annotated[
        int | None, typer.Option("--limit", help="Number of data points, for checkpoints.")
    ] = None
    style: Annotated[str | None, typer.Option("--prompt-style", help="plain, alpaca or chat.")] = (
        None
    )
    components: Annotated[
        list[str],
        typer.Option(
            "--components",
            "--component",
            help="Component of image pipelines to merge, such as unet; repeatable.",
        ),
    ] = field(default_factory=list)
    scorer: Annotated[
        str | None,
        typer.Option("--scorer", help="CLIP that scores images: a folder or hub id."),
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="bf16, fp16 or fp32; that of the first model by default."),
    ] = None
    variant: Annotated[
        str | None,
        typer.Option("--variant", help="Variant of files to read and to save, such as fp16."),
    ] = None
    text_encoder_from: Annotated[
        int | None,
        typer.Option(
            "--text-encoder-from",
            help="Number of the model, from 0, whose tokenizers and text encoders are used.",
        ),
    ] = None
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run the code in a pipeline's own repository."),
    ] = False
    size: Annotated[
        int | None,
        typer.Option("--size", help="Pixels along a side; that of the pipeline by default."),
    ] = None
    steps_per_picture: Annotated[
        int | None,
        typer.Option(
            "--steps-per-picture", help="Denoising steps; those of the pipeline by default."
        ),
    ] = None
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance", help="Scale of guidance, 1 is none; that of the pipeline by default."
        ),
    ] = None
    negative: Annotated[
        str | None, typer.Option("--negative", help="Text that pictures are guided away from.")
    ] = None
    batch: Annotated[
        int | None, typer.Option("--batch", help="Pictures drawn together; few if large.")
    ] = None
    executor: Executor = "here"
    workers: Workers = None
    gpus: Gpus = None
    address: Address = None
    timeout: Timeout = None

    @property
    def executor_options(self) -> ExecutorOptions:
        """The options of the executor.

        Raises:
            InputError: they cannot be used.
        """
        return ExecutorOptions(
            self.executor, self.workers, self.gpus, self.address, self.timeout, self.threads
        )

    def settings(self, threads: int, pretrained: bool = False) -> Settings:
        """Return the settings of the search.

        Args:
            threads: number of torch threads if the option is not given.
            pretrained: whether a search whose seeds are networks starts from trained ones, if
                that option is not given.

        Raises:
            InputError: the settings cannot be used.
        """
        given = {name: getattr(self, name) for name in OPTIONS}
        given |= {name: getattr(self, name) or None for name in PATTERNS}
        given["groups"] = named_patterns(self.groups) or None
        settings = Settings(
            task=self.task,
            method=self.method,
            seed=self.seed,
            pretrained=pretrained and self.task in NETWORK_TASKS
            if self.pretrained is None
            else self.pretrained,
            data=self.data,
            hidden=tuple(self.hidden),
            device=self.device,
            threads=threads if self.threads is None else self.threads,
            options={name: value for name, value in given.items() if value is not None},
            models=tuple(self.models),
            vocab=self.vocab,
            limit=self.limit,
            style=self.style,
            components=tuple(self.components),
            scorer=self.scorer,
            dtype=self.dtype,
            variant=self.variant,
            text_encoder_from=self.text_encoder_from,
            trust_remote_code=self.trust_remote_code,
            size=self.size,
            steps_per_picture=self.steps_per_picture,
            guidance=self.guidance,
            negative=self.negative,
            batch=self.batch,
        )
        settings.check()
        return settings


class SeveralValues(TyperCommand):
    """A command whose repeatable options take several values in a row: ``--seeds A B``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name such an option before each of its values, as the parser of options expects."""
        several = {
            name
            for option in self.params
            if getattr(option, "multiple", False)
            for name in option.opts
        }
        expanded, current, given = list[str](), "", 0
        for k, text in enumerate(args):
            if text == "--":
                expanded += args[k:]
                break
            if text.startswith("-") and len(text) > 1:
                name, equals, _ = text.partition("=")
                current, given = (name, int(bool(equals))) if name in several else ("", 0)
            elif current:
                expanded += [current] if given else []
                given += 1
            expanded.append(text)
        return super().parse_args(ctx, expanded)


def named_patterns(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the patterns of each group from texts such as ``attention=*attn*``.

    Raises:
        InputError: a text is written otherwise.
    """
    groups: dict[str, list[str]] = {}
    for text in texts:
        name, equals, pattern = text.partition("=")
        if not (name and equals and pattern):
            raise InputError(
                f"--groups must be NAME=PATTERN, got {text!r}; write, for example, "
                f"--groups 'attention=*attn*' --groups 'rest=*'."
            )
        groups.setdefault(name, []).append(pattern)
    return groups


def with_options(
    options: type[Options],
) -> Callable[[Callable[Concatenate[Options, Own], None]], Callable[..., None]]:
    """Let a command take the fields of a dataclass as options, before its own options.

    The command gets an instance of the dataclass as its first argument.
    """
    names = [each.name for each in fields(options)]  # type: ignore[arg-type]

    def decorate(command: Callable[Concatenate[Options, Own], None]) -> Callable[..., None]:
        @wraps(command)
        def run(**given: Any) -> None:
            command(options(**{name: given.pop(name) for name in names}), **given)  # type: ignore[call-arg]

        own = [*signature(command, eval_str=True).parameters.values()][1:]
        parameters = [*_parameters(options), *own]
        # Typer reads the signature, and the annotations of the same names.
        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _parameters(options: type[Any]) -> list[Parameter]:
    hints = get_type_hints(options, include_extras=True)
    return [
        Parameter(
            each.name,
            Parameter.POSITIONAL_OR_KEYWORD,
            default=_default(each),
            annotation=hints[each.name],
        )
        for each in fields(options)
    ]


def _default(each: Field[Any]) -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()
