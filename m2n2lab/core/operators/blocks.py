"""Block weights: the share of parent B in each block of a denoiser, under the field's names.

The names are those of "merge block weighted" (kohya_ss, https://note.com/kohya_ss/n/n9a485a066d5b,
and its extensions for A1111): ``IN00`` to ``IN11``, ``MID`` and ``OUT00`` to ``OUT11`` for SD 1.5,
up to ``IN08`` and ``OUT08`` for SDXL; for transformers ``D00``, ``D01`` … and ``S00`` … are the
double and single blocks of FLUX, ``B00`` … those of SD3 and others. As there, the embeddings of
time and size belong to ``IN00`` and the last layers to the last ``OUT``; all else, such as text
encoders, is ``BASE``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from m2n2lab.core.operators.crossover import Crossover, MergeSpace, stretches
from m2n2lab.core.records import Proposal
from m2n2lab.core.spaces.layout import Layout
from m2n2lab.core.spaces.shares import linear_shares
from m2n2lab.utils.errors import InputError, choose, real_number

BASE, MIDDLE, PRESET = "BASE", "MID", "preset:"
SD15_INPUTS, SDXL_INPUTS = 12, 9
"""Numbers of input blocks, and of output blocks, of SD 1.5 and SDXL."""

_ORDER = {"IN": 0, "MID": 1, "OUT": 2, "D": 3, "S": 4, "B": 5}

Weights = Callable[[Sequence[str]], dict[str, float]]
"""Returns the share of B of some of a model's blocks, which are given in order."""

Curve = Callable[[float], float]
"""Share of B at a depth from 0, the first input block, over 12, the middle, to 24."""


def _steps(*inside: tuple[float, float], share: float = 1.0) -> Curve:
    return lambda x: share if any(low <= x <= high for low, high in inside) else 0.0


def _smooth(x: float) -> float:
    t = x / 24
    return 3 * t**2 - 2 * t**3


PRESETS: dict[str, Curve] = {
    "GRAD_V": lambda x: abs(x - 12) / 12,
    "GRAD_A": lambda x: 1 - abs(x - 12) / 12,
    "FLAT_25": lambda x: 0.25,
    "FLAT_75": lambda x: 0.75,
    "WRAP08": _steps((0, 3), (21, 24)),
    "WRAP12": _steps((0, 5), (19, 24)),
    "WRAP14": _steps((0, 6), (18, 24)),
    "WRAP16": _steps((0, 7), (17, 24)),
    "MID12_50": _steps((5, 18), share=0.5),
    "OUT07": _steps((18, 24)),
    "OUT12": _steps((13, 24)),
    "SMOOTHSTEP": _smooth,
    "REVERSE_SMOOTHSTEP": lambda x: 1 - _smooth(x),
}
"""Curves with a name, of the 25 blocks of SD 1.5, in the shape of those in ``csv/preset.tsv`` of
https://github.com/bbc-mc/sdweb-merge-block-weighted-gui (there the smooth steps are ``SIGMOID``).
Other depths take the share at the same fraction of the way to the middle or back."""

_BLOCK = re.compile(r"([A-Z]+?)(\d*)")
_RANGE = re.compile(r"(.*\d)-(.*\d)|([^-]+)")

_FOLDER = r"(?:(?:unet|transformer)\w*/)?"
_FILE = r"(?:(?:model\.)?diffusion_model\.)?"
_SINGLE = re.compile(rf"{_FILE}(input|middle|output)_blocks?\.(\d+)\.")
_FOLDED = re.compile(
    rf"{_FOLDER}(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\."
)
_MIDDLE = re.compile(rf"{_FOLDER}mid_block\.")
_BEFORE = re.compile(
    rf"{_FOLDER}(conv_in|time_embedding|add_embedding)\.|{_FILE}(time_embed|label_emb)\."
)
_AFTER = re.compile(rf"{_FOLDER}(conv_norm_out|conv_out)\.|{_FILE}out\.\d+\.")
_TRANSFORMER = re.compile(
    rf"(?:{_FOLDER}|{_FILE})(double_blocks|single_blocks|joint_blocks|transformer_blocks"
    r"|single_transformer_blocks|blocks)\.(\d+)\."
)


def blocks_of(names: Sequence[str]) -> list[str]:
    """Return the block that each tensor (T,) belongs to, of folders and of single files."""
    folded = [_FOLDED.match(name) for name in names]
    layers = max(
        (
            int(found[4]) + (1 if found[1] == "down" else 0)
            for found in folded
            if found and found[3] in ("resnets", "attentions")
        ),
        default=1,
    )
    transformers = {found[1] for name in names if (found := _TRANSFORMER.match(name))}
    singles = bool(transformers & {"single_blocks", "single_transformer_blocks"})
    blocks = [
        _in_net(name, found, layers) or _in_transformer(name, singles)
        for name, found in zip(names, folded, strict=True)
    ]
    outputs = [block for block in blocks if block and block.startswith("OUT")]
    nets = bool(outputs) or any(block and block.startswith("IN") for block in blocks)
    last = max(outputs, default="OUT00")
    return [
        block
        or ("IN00" if nets and _BEFORE.match(name) else "")
        or (last if nets and _AFTER.match(name) else BASE)
        for name, block in zip(names, blocks, strict=True)
    ]


def _in_net(name: str, folded: re.Match[str] | None, layers: int) -> str:
    """Return the block of a U-Net that a tensor belongs to, or an empty text."""
    if folded:
        way, block, part, layer = folded[1], int(folded[2]), folded[3], int(folded[4])
        # Each block of a folder is several of a file: its layers, and what changes the size.
        number = block * (layers + 1)
        number += layers if part in ("downsamplers", "upsamplers") else layer
        return f"IN{number + 1:02}" if way == "down" else f"OUT{number:02}"
    if found := _SINGLE.match(name):
        if found[1] == "middle":
            return MIDDLE
        return f"{'IN' if found[1] == 'input' else 'OUT'}{int(found[2]):02}"
    return MIDDLE if _MIDDLE.match(name) else ""


def _in_transformer(name: str, singles: bool) -> str:
    """Return the block of a transformer that a tensor belongs to, or an empty text."""
    if not (found := _TRANSFORMER.match(name)):
        return ""
    kind = "S" if found[1].startswith("single") else "D" if singles else "B"
    return f"{kind}{int(found[2]):02}"


@dataclass(frozen=True, repr=False)
class Blocks(Crossover, name="blocks"):
    """SLERP with the share of B that each block is given, by the names of its blocks.

    ::

        Blocks("IN00-IN11=0.3,MID=0.5,OUT00-OUT11=0.7")
        Blocks("IN00-IN11,OUT00-OUT11=0.3,MID=0.5")
        Blocks("preset:GRAD_V,BASE=0")
        Blocks({"D00-D18": 0.2, "S": 0.6})

    Of several weights for one block the last counts. Blocks without a weight have the proposal's
    mix on its side of the split. A range may reach beyond the model's blocks, but must have one.

    Args:
        weights: names or ranges of blocks with a share of B in [0, 1], ``preset:`` and the name of
            a preset, or the shares of all blocks in order, with or without BASE before them.
        linear: weighted means, as other programs make them, in place of SLERP.

    Raises:
        InputError: a weight is written otherwise, or a share lies outside [0, 1].
    """

    weights: str = ""
    linear: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.weights, Mapping):
            text = ",".join(f"{name}={share}" for name, share in self.weights.items())
            object.__setattr__(self, "weights", text)
        _parsed(self.weights)

    def __call__(
        self, a: Any, b: Any, proposal: Proposal, space: MergeSpace, rng: np.random.Generator
    ) -> Any:
        """Return the merge of A and B with the share of each block.

        Raises:
            InputError: the model has none of the blocks of a name, or no U-Net for a preset.
        """
        edges, mixes = self.shares(proposal, space.layout, rng)
        if self.linear:
            return space.blend([a, b], edges, linear_shares(mixes))
        return space.merge_stretches(a, b, edges, mixes)

    def shares(
        self, proposal: Proposal, layout: Layout, rng: np.random.Generator
    ) -> tuple[list[int], list[float]]:
        """Return the tensors, those without a weight cut at the split, and their shares."""
        (_, split, size), (before, after) = stretches(proposal, layout.size)
        blocks = blocks_of(list(layout.shapes))
        given = self.by_block(blocks)
        starts, mixes = list[int](), list[float]()
        for block, start, stop in zip(blocks, layout.offsets, layout.offsets[1:], strict=False):
            own = given.get(block)
            cuts = [start, split] if own is None and start < split < stop else [start]
            for cut in cuts:
                share = (before if cut < split else after) if own is None else own
                if not mixes or mixes[-1] != share:
                    starts.append(cut)
                    mixes.append(share)
        return [*starts, size], mixes

    def by_block(self, blocks: Iterable[str]) -> dict[str, float]:
        """Return the share of each block that has a weight.

        Args:
            blocks: the blocks of a model.

        Raises:
            InputError: the model has none of the blocks of a name, or no U-Net for a preset.
        """
        known = sorted_blocks(blocks)
        given: dict[str, float] = {}
        for weights in _parsed(self.weights):
            given |= weights(known)
        return given

    def described(self, layout: Layout) -> str:
        """Return the shares as text, such as ``IN00-IN08 0.3, MID 0.5``.

        Raises:
            InputError: as for ``by_block``.
        """
        given = self.by_block(blocks_of(list(layout.shapes)))
        runs: list[list[str]] = []
        for block in sorted_blocks(given):
            same = runs and given[runs[-1][0]] == given[block]
            if same and runs[-1][0].rstrip("0123456789") == block.rstrip("0123456789"):
                runs[-1].append(block)
            else:
                runs.append([block])
        return ", ".join(f"{_spans(run)} {given[run[0]]:.4g}" for run in runs)


def sorted_blocks(blocks: Iterable[str]) -> list[str]:
    """Return the different blocks of a model in order, BASE first."""

    def key(block: str) -> tuple[int, str]:
        return _ORDER.get(block.rstrip("0123456789"), -1), block

    return sorted(set(blocks), key=key)


def _spans(known: Sequence[str]) -> str:
    """Return blocks as text, such as ``BASE, IN00-IN08, MID, OUT00-OUT08``."""
    families: dict[str, list[str]] = {}
    for block in known:
        families.setdefault(block.rstrip("0123456789"), []).append(block)
    return ", ".join(
        each[0] if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in families.values()
    )


def _named(text: str) -> tuple[str, int | None]:
    """Return family and number of a block's name: ``IN7`` and ``IN07`` are one."""
    found = _BLOCK.fullmatch(text.strip().upper())
    if not found or found[1] not in (*_ORDER, "M", BASE):
        raise InputError(
            f"blocks must be named BASE, IN00, MID, OUT00, or D00, S00, B00 for transformers, got "
            f"{text!r}; write, for example, IN00-IN11=0.3,MID=0.5,OUT00-OUT11=0.7."
        )
    family = MIDDLE if found[1] in ("M", MIDDLE) else found[1]
    return family, int(found[2]) if found[2] and family not in (MIDDLE, BASE) else None


def _is_within(block: str, name: str) -> bool:
    """Return whether a block has a name, such as ``IN``, ``IN04`` or ``IN00-OUT03``."""
    found = _RANGE.fullmatch(name)
    assert found is not None  # it was parsed
    family, number = _named(block)
    if found[3] is not None:
        wanted = _named(found[3])
        return wanted in ((family, number), (family, None))
    (low, first), (high, last) = _named(found[1]), _named(found[2])
    ends = [(_ORDER.get(low, -1), first or 0), (_ORDER.get(high, -1), last or 0)]
    return min(ends) <= (_ORDER.get(family, -1), number or 0) <= max(ends)


def _parsed(text: str) -> list[Weights]:
    """Return what each part of a text says.

    Raises:
        InputError: the text is written otherwise, or a share lies outside [0, 1].
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > 1 and "=" not in text and PRESET not in text.lower():
        return [partial(_listed, [_share("a block", part) for part in parts])]
    found: list[Weights] = []
    names: list[str] = []  # of which the share follows
    for part in parts:
        if part.lower().startswith(PRESET) and not names:
            preset = choose("preset", part[len(PRESET) :].strip().upper(), PRESETS)
            found.append(partial(_preset, preset))
            continue
        name, equals, share = (piece.strip() for piece in part.partition("="))
        ends = _RANGE.fullmatch(name)
        if ends is None:
            raise _unreadable(part)
        for end in ends.groups():
            if end is not None:
                _named(end)
        names.append(name)
        if equals:
            found += [partial(_chosen, each, _share(each, share)) for each in names]
            names = []
    if names:
        raise _unreadable(names[-1])
    return found


def _unreadable(part: str) -> InputError:
    return InputError(
        f"blocks must be NAME=SHARE, got {part!r}; write, for example, "
        f"IN00-IN11=0.3,MID=0.5,OUT00-OUT11=0.7 or preset:GRAD_V."
    )


def _chosen(name: str, share: float, known: Sequence[str]) -> dict[str, float]:
    """Return the share of each block with a name, or within a range."""
    chosen = [block for block in known if _is_within(block, name)]
    if not chosen and _named(name.partition("-")[0])[0] != BASE:  # which need not be merged
        raise InputError(
            f"blocks must be those of the merged tensors, {_spans(known)}, got {name!r}; correct "
            f"the name."
        )
    return dict.fromkeys(chosen, share)


def _share(block: str, text: str) -> float:
    try:
        value: Any = float(text)
    except ValueError:
        value = text
    return real_number(f"The share of B in {block}", value, 0.0, 1.0)


def _net(known: Sequence[str], what: str) -> tuple[list[str], list[str]]:
    """Return the input and output blocks of a U-Net."""
    inputs = [block for block in known if block.startswith("IN")]
    outputs = [block for block in known if block.startswith("OUT")]
    if not inputs or not outputs:
        raise InputError(
            f"{what} is for U-Nets, with blocks IN, MID and OUT, but the model has "
            f"{_spans(known)}; name its blocks."
        )
    return inputs, outputs


def _preset(name: str, known: Sequence[str]) -> dict[str, float]:
    """Return the share that a preset gives each block of a U-Net."""
    curve = PRESETS[name]
    inputs, outputs = _net(known, f"The preset {name}")
    found = {block: curve(i * 12 / len(inputs)) for i, block in enumerate(inputs)}
    found[MIDDLE] = curve(12)
    found |= {block: curve(12 + (i + 1) * 12 / len(outputs)) for i, block in enumerate(outputs)}
    return found


def _listed(shares: Sequence[float], known: Sequence[str]) -> dict[str, float]:
    """Return the share of each block of a U-Net from all in order, BASE first if it is given."""
    inputs, outputs = _net(known, "A list of shares")
    names = [*inputs, MIDDLE, *outputs]
    if len(shares) == len(names) + 1:
        names = [BASE, *names]
    if len(shares) != len(names):
        raise InputError(
            f"blocks must be {len(names)} shares, or {len(names) + 1} with BASE before them, for a "
            f"model with {_spans(known)}, got {len(shares)}; name the blocks, or give all."
        )
    return dict(zip(names, shares, strict=True))
