"""Search options: the options that ``evolve`` and ``serve`` share, as one dataclass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar, get_type_hints

from typer.core import TyperCommand

from m2n2lab.cli.executor_options import (
    Address,
    Executor,
    ExecutorOptions,
    Gpus,
    Threads,
    Timeout,
    Workers,
)
from m2n2lab.cli.shared_options import (
    MERGING,
    MODELS,
    SCORING,
    SEARCH,
    Batch,
    Channels,
    Components,
    Config,
    Device,
    Dtype,
    EmaFrom,
    Exclude,
    Freeze,
    Groups,
    Guidance,
    HeldOut,
    Include,
    Map,
    MaxNewTokens,
    Negative,
    ScheduleFrom,
    Scorer,
    Shots,
    Size,
    StepsPerPicture,
    TextEncoderFrom,
    Tokenizer,
    TrustRemoteCode,
    VaeFrom,
    Variant,
    Vocab,
    named_patterns,
    option,
    picture_options,
    seed_number,
)
from m2n2lab.config.names import NETWORK_TASKS
from m2n2lab.config.settings import Settings

OPTIONS = (
    *("archive_size", "alpha", "mutation", "chunk"),
    *("crossover", "mate", "capacity", "replacement", "warmup"),
    *("behaviours", "side", "granularity", "population"),
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
        option(SEARCH, "--task", help="digits, mnist, gsm8k, webshop, gsm8k+webshop, text2image."),
    ] = "digits"
    method: Annotated[str, option(SEARCH, "--method", help="m2n2, ga, map-elites, cma-es, …")] = (
        "m2n2"
    )
    seed: Annotated[int, option(SEARCH, "--seed", help="Seed of all random numbers.")] = 0
    pretrained: Annotated[
        bool | None,
        option(
            SEARCH,
            "--pretrained/--from-scratch",
            help="Start from two trained specialists (the page does), or from random networks.",
            show_default=False,
        ),
    ] = None
    hidden: Annotated[
        list[int], option(SEARCH, "--hidden", help="Width of a hidden layer; repeatable.")
    ] = field(default_factory=lambda: [256])
    archive_size: Annotated[
        int | None, option(SEARCH, "--archive-size", help="Largest number of members.")
    ] = None
    alpha: Annotated[
        float | None, option(SEARCH, "--alpha", help="Exponent α of the competition.")
    ] = None
    capacity: Annotated[
        str | None,
        option(SEARCH, "--capacity", help="Capacity of a data point: one, max or range."),
    ] = None
    mate: Annotated[
        str | None,
        option(
            SEARCH, "--mate", help="Choice of parent B: attraction, compatible, fitness, random."
        ),
    ] = None
    replacement: Annotated[
        str | None, option(SEARCH, "--replacement", help="Who leaves: lowest or crowding.")
    ] = None
    warmup: Annotated[
        int | None,
        option(SEARCH, "--warmup", help="Steps at the beginning in which seeds merge at random."),
    ] = None
    behaviours: Annotated[
        str | None,
        option(
            SEARCH,
            "--behaviours",
            help="Axes of MAP-Elites' grid: scores by halves, classes, tasks.",
        ),
    ] = None
    side: Annotated[
        int | None, option(SEARCH, "--side", help="Cells along each axis of that grid.")
    ] = None
    granularity: Annotated[
        str | None,
        option(SEARCH, "--granularity", help="CMA-ES: weights, or one mix a layer, tensor, group."),
    ] = None
    population: Annotated[
        int | None, option(SEARCH, "--population", help="CMA-ES: solutions a generation.")
    ] = None
    models: Annotated[
        list[str],
        option(
            MODELS,
            "--seeds",
            metavar="A B …",
            help="Models to start from: folders, files or hub ids; BASE+LORA:0.8 adds an adapter.",
        ),
    ] = field(default_factory=list)
    vocab: Vocab = None
    map: Map = field(default_factory=list)
    dtype: Dtype = None
    tokenizer: Tokenizer = None
    components: Components = field(default_factory=list)
    variant: Variant = None
    text_encoder_from: TextEncoderFrom = None
    trust_remote_code: TrustRemoteCode = False
    crossover: Annotated[
        str | None,
        option(
            MERGING,
            "--crossover",
            help="slerp, splits, lerp, per-layer, task-arithmetic, add-difference, sum-of-three, "
            "ties or dare; with parameters: ties:density=0.3,base=1.",
        ),
    ] = None
    mutation: Annotated[
        float | None,
        option(MERGING, "--mutation", help="Standard deviation of the noise added to a child."),
    ] = None
    include: Include = field(default_factory=list)
    exclude: Exclude = field(default_factory=list)
    freeze: Freeze = field(default_factory=list)
    groups: Groups = field(default_factory=list)
    data: Annotated[
        Path | None,
        option(
            SCORING,
            "--data",
            help="Folder with MNIST's IDX files or GSM8K's jsonl, or a file of prompts.",
        ),
    ] = None
    limit: Annotated[
        int | None, option(SCORING, "--limit", help="Number of data points, for checkpoints.")
    ] = None
    held_out: HeldOut = None
    shots: Shots = None
    style: Annotated[
        str | None, option(SCORING, "--prompt-style", help="plain, alpaca or chat.")
    ] = None
    max_new_tokens: MaxNewTokens = None
    batch: Batch = None
    chunk: Annotated[
        int | None,
        option(
            SCORING,
            "--chunk",
            help="Data points scored at a time; hopeless children are rejected early.",
        ),
    ] = None
    device: Device = "cpu"
    scorer: Scorer = None
    vae_from: VaeFrom = None
    schedule_from: ScheduleFrom = None
    ema_from: EmaFrom = None
    channels: Channels = None
    config: Config = None
    size: Size = None
    steps_per_picture: StepsPerPicture = None
    guidance: Guidance = None
    negative: Negative = None
    executor: Executor = "here"
    workers: Workers = None
    gpus: Gpus = None
    address: Address = None
    timeout: Timeout = None
    threads: Threads = None

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
            map=tuple(self.map),
            tokenizer=seed_number(self.tokenizer, max(len(self.models), 2)),
            limit=self.limit,
            held_out=self.held_out,
            shots=self.shots,
            style=self.style,
            max_new_tokens=self.max_new_tokens,
            components=tuple(self.components),
            scorer=self.scorer,
            dtype=self.dtype,
            variant=self.variant,
            text_encoder_from=self.text_encoder_from,
            trust_remote_code=self.trust_remote_code,
            pictures=picture_options(
                max(len(self.models), 2),
                vae=self.vae_from,
                schedule=self.schedule_from,
                ema=self.ema_from,
                channels=self.channels,
                config=self.config,
            ),
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
        # Known by name alone, so that one without a default may follow those with one.
        parameters = [
            each.replace(kind=Parameter.KEYWORD_ONLY) for each in (*_parameters(options), *own)
        ]
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
