"""Targets: the tensors of a base that the modules named in an adapter stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

from m2n2lab.checkpoint.io.adapters.keys import PEFT_PREFIX
from m2n2lab.checkpoint.io.adapters.picture_names import fusions, other_names
from m2n2lab.checkpoint.io.tensor_file import Entry

DENOISER = "denoiser"

_COMPONENTS = {
    **dict.fromkeys(("unet", "transformer", "prior", "decoder"), DENOISER),
    **{f"text_encoder{end}": f"text encoder{end.replace('_', ' ')}" for end in ("", "_2", "_3")},
}
"""Models of a pipeline by the name of their component."""

_IN_FILES: tuple[tuple[str, str], ...] = (
    ("model.diffusion_model.", DENOISER),
    ("cond_stage_model.transformer.", "text encoder"),
    ("cond_stage_model.model.", "text encoder"),
    ("conditioner.embedders.0.transformer.", "text encoder"),
    ("conditioner.embedders.0.model.", "text encoder"),
    ("conditioner.embedders.1.model.", "text encoder 2"),
    ("text_encoders.clip_l.transformer.", "text encoder"),
    ("text_encoders.clip_g.transformer.", "text encoder 2"),
    ("text_encoders.t5xxl.transformer.", "text encoder 3"),
)
"""Models of a picture model's single file by how the common names of their tensors begin."""

_IN_ADAPTERS = tuple(
    (re.compile(pattern), model)
    for pattern, model in (
        (r"lora_(?:unet|prior_unet|transformer)_|lycoris_", DENOISER),
        (r"(?:model\.)?diffusion_model\.|(?:unet|transformer|prior|decoder)\.", DENOISER),
        (
            r"lora_te1?_|text_encoder\.|(?:text_encoders\.)?clip_l\.(?:transformer\.)?",
            "text encoder",
        ),
        (
            r"lora_te2_|text_encoder_2\.|(?:text_encoders\.)?clip_g\.(?:transformer\.)?",
            "text encoder 2",
        ),
        (
            r"lora_te3_|text_encoder_3\.|(?:text_encoders\.)?t5xxl\.(?:transformer\.)?",
            "text encoder 3",
        ),
    )
)
"""Models by how the names of their modules begin in adapters."""


class Target(NamedTuple):
    """A tensor, or some of its rows, that a module of an adapter stands for.

    Attributes:
        weight: name of the weight.
        bias: name of the bias, whether or not there is one.
        rows: first row and end in the tensor; ``None`` for all of them.
        skipped: rows of the adapter's module before these.
    """

    weight: str
    bias: str
    rows: tuple[int, int] | None = None
    skipped: int = 0


class Targets:
    """The modules of a base by the names that adapters have for them.

    Args:
        entries: the base's tensors by their full names (see ``Part.full``).
        is_picture: whether it is a pipeline, or a single file of a picture model.
    """

    def __init__(self, entries: Mapping[str, Entry], is_picture: bool) -> None:
        self._entries = entries
        self.is_picture = is_picture
        self._found: dict[tuple[str, str], tuple[Target, ...]] = {}
        self._by_pieces: dict[tuple[str, ...], list[Target]] = {}
        modules: dict[str, dict[str, Target]] = {}
        for name in entries:
            module, _, end = name.rpartition(".")
            begin, model = self._model(name)
            if end not in ("weight", "bias"):  # such as the fused weights of torch's attention
                module, _, end = name.rpartition("_")
            if model is None or end not in ("weight", "bias"):
                continue
            joint = name[len(module)]
            target = Target(f"{module}{joint}weight", f"{module}{joint}bias")
            modules.setdefault(model, {})[module.removeprefix(begin)] = target
        for model, inside in modules.items():
            self._add(model, inside)
        if (DENOISER, "single_blocks_0_linear1") in self._found:  # FLUX: CLIP and T5 alone
            pair = ("text encoder 2", "text encoder 3")
            for (model, module), found in list(self._found.items()):
                if model in pair:
                    other = pair[1 - pair.index(model)]
                    self._found.setdefault((other, module), found)
        self.models = frozenset(modules)

    def _model(self, name: str) -> tuple[str, str | None]:
        """Return how a tensor's name begins, and the model that it belongs to."""
        if not self.is_picture:
            return "", ""
        component, slash, _ = name.partition("/")
        if slash:
            return f"{component}/", _COMPONENTS.get(component)
        return next((pair for pair in _IN_FILES if name.startswith(pair[0])), ("", None))

    def _add(self, model: str, modules: dict[str, Target]) -> None:
        for module, target in modules.items():
            self._found[model, _flat(module)] = (target,)
            self._by_pieces.setdefault(_pieces(module), []).append(target)
        if not self.is_picture:
            return
        names = {_without_prefix(module): target for module, target in modules.items()}
        for module, others in other_names(names.keys()).items():
            for other in others:
                self._found.setdefault((model, _flat(other)), (names[module],))
        for whole, parts in fusions(names.keys()):
            if whole in names:
                for part, rows in zip(parts, self._shares(names[whole], len(parts)), strict=True):
                    self._found.setdefault(
                        (model, _flat(part)), (names[whole]._replace(rows=rows),)
                    )
            elif all(part in names for part in parts):
                counts = [self._entries[names[part].weight].shape[0] for part in parts]
                skipped = accumulate(counts, initial=0)
                self._found.setdefault(
                    (model, _flat(whole)),
                    tuple(
                        names[part]._replace(skipped=skip)
                        for part, skip in zip(parts, skipped, strict=False)
                    ),
                )

    def _shares(self, whole: Target, count: int) -> list[tuple[int, int]]:
        """Return the rows of a fused module that each of its parts has: q, k, v, and the rest."""
        rows, *others = self._entries[whole.weight].shape
        size = rows // 3 if count == 3 else others[0]
        ends = [size, 2 * size, 3 * size, rows][:count]
        return list(zip([0, *ends], ends, strict=False))

    def model_of(self, module: str) -> tuple[str, str]:
        """Return the model of a module of an adapter, and the module's name within it."""
        if not self.is_picture:
            name = module.removeprefix(PEFT_PREFIX).removeprefix("lycoris_")
            return "", name
        for pattern, model in _IN_ADAPTERS:
            if match := pattern.match(module):
                return model, module[match.end() :]
        inside = module.removeprefix(PEFT_PREFIX)
        known = (model for model in sorted(self.models) if (model, _flat(inside)) in self._found)
        return next(known, DENOISER), inside

    def find(self, module: str) -> tuple[Target, ...]:
        """Return the targets of a module of an adapter; none if the base has no such module."""
        model, inside = self.model_of(module)
        keys = [inside, f"{inside}.0", f"{inside}_0"]  # older diffusers say to_out
        for key in keys if inside.endswith("to_out") else keys[:1]:
            if found := self._found.get((model, _flat(key))):
                return found
        if self.is_picture:
            return ()
        return self._moved(inside)

    def _moved(self, module: str) -> tuple[Target, ...]:
        """Return the module whose name has the same pieces in another order, or more, or fewer.

        Libraries have moved parts of models one level deeper or higher since some were saved.
        """
        if len(same := self._by_pieces.get(_pieces(module), [])) == 1:
            return (same[0],)
        ends = [
            found[0]
            for (_, flat), found in self._found.items()
            if f"_{flat}".endswith(f"_{_flat(module)}") or f"_{_flat(module)}".endswith(f"_{flat}")
        ]
        return (ends[0],) if len(ends) == 1 else ()


def _flat(module: str) -> str:
    """Return a module's name as kohya writes it, without a prefix that libraries have dropped."""
    return _without_prefix(module).replace(".", "_")


def _without_prefix(module: str) -> str:
    return re.sub(r"^text_model[._]", "", module)


def _pieces(module: str) -> tuple[str, ...]:
    return tuple(sorted(module.split(".")))
