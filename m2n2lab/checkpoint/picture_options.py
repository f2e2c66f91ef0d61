"""Options for merges of picture models: whose parts the result has that are not merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from m2n2lab.checkpoint.io.checkpoint import Checkpoint
from m2n2lab.checkpoint.io.single_file_names import PART_KEYS, part_of
from m2n2lab.utils.errors import InputError, choose

CHANNELS = ("refuse", "common")
"""What is done with a model for inpainting and one that is not."""

FORMS = ("file", "folder", "diffusers")
"""Forms of results: one file as of ComfyUI and A1111, a folder as the first seed, a pipeline."""

FOLDER_PARTS = {"vae": "vae", "schedule": "scheduler"}
"""Components of pipelines that can be taken from another seed than the first."""


@dataclass(frozen=True)
class PictureOptions:
    """What the result of a merge of picture models has beside merged weights.

    Attributes:
        parts_from: number of the seed that each of ``PART_KEYS`` is taken from, or ``None`` to
            leave it out; those that are not named are the first seed's.
        channels: what is done if the first seed's denoiser has more input channels, for inpainting:
            ``"refuse"``, or merge the ``"common"`` ones and keep the others.
        config: pipeline whose configs and tokenizers single files are drawn with.
        form: ``"file"``, ``"folder"`` or ``"diffusers"`` for results in another form than that of
            the first seed; by default a file if it is named as one, else as the first seed.
    """

    parts_from: Mapping[str, int | None] = field(default_factory=dict)
    channels: str = "refuse"
    config: str | None = None
    form: str | None = None

    def __post_init__(self) -> None:
        choose("way to treat channels", self.channels, CHANNELS)
        if self.form is not None:
            choose("form of the result", self.form, FORMS)
        for key in self.parts_from:
            choose("part", key, tuple(PART_KEYS))

    def __bool__(self) -> bool:
        return self != NO_PICTURE_OPTIONS

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PictureOptions:
        """Return the options that ``to_json`` returned."""
        return cls(**values)

    @property
    def chosen_parts(self) -> dict[str, int | None]:
        """Number of the seed that each chosen part of a single file is taken from."""
        chosen = self.parts_from.items()
        return {part: number for key, number in chosen for part in PART_KEYS[key]}

    def to_json(self) -> dict[str, Any]:
        """Return the options as plain values; only those that are given."""
        given = {
            "parts_from": dict(sorted(self.parts_from.items())),
            "channels": None if self.channels == "refuse" else self.channels,
            "config": self.config,
            "form": self.form,
        }
        return {key: value for key, value in given.items() if value}

    def check(self, seeds: Sequence[Checkpoint]) -> None:
        """Check that the seeds have what is taken from them.

        Raises:
            InputError: they have not, or a part is merged.
        """
        base = seeds[0]
        for key, number in self.parts_from.items():
            option = f"--{key.replace('_', '-')}-from"
            if number is not None and number not in range(len(seeds)):
                raise InputError(
                    f"{option} must be the number of a seed from 0 to {len(seeds) - 1}, got "
                    f"{number!r}; choose the seed that provides it."
                )
            if base.kind == "diffusers":
                self._check_folder(key, number, option, seeds)
                continue
            if not base.is_picture_file:
                raise InputError(
                    f"{option} is for picture models, got {base.id}; leave the option out."
                )
            parts = PART_KEYS[key]
            if set(parts) & set(base.merged_parts):
                raise InputError(
                    f"{option} is for parts that are not merged, but {parts[0]} of {base.id} are; "
                    f"choose what is merged with components (--component unet)."
                )
            source = base if number is None else seeds[number]
            if not any(part_of(name) in parts for name in source.names):
                raise InputError(
                    f"{option} must name a seed that has it, but {source.id} has no {parts[0]}; "
                    f"choose another seed."
                )
            if source is not base and base.is_bare:
                raise InputError(
                    f"{option} needs a first file with prefixes, but {base.id} holds a denoiser "
                    f"without any, beside which nothing has a place; name a whole model first."
                )

    def _check_folder(
        self, key: str, number: int | None, option: str, seeds: Sequence[Checkpoint]
    ) -> None:
        if key not in FOLDER_PARTS or number is None:
            listed = ", ".join(f"--{name}-from" for name in FOLDER_PARTS)
            raise InputError(
                f"{option} is for single files where the first seed is one, got the pipeline "
                f"{seeds[0].id}; of pipelines use {listed} with a seed, or --text-encoder-from."
            )
        component = FOLDER_PARTS[key]
        merged = [part.name for part in seeds[0].parts]
        if component in merged or not (seeds[number].path / component).is_dir():
            found = "it is merged" if component in merged else f"{seeds[number].id} has none"
            raise InputError(
                f"{option} must name a pipeline with a component {component} that is not merged, "
                f"but {found}; choose another seed."
            )


NO_PICTURE_OPTIONS = PictureOptions()
