"""Adapters: files of LoRA and its kin, read by their headers, as changes of a base's tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from m2n2lab.checkpoint.io.adapters.changes import (
    Change,
    Decomposition,
    Replacement,
    Stretch,
)
from m2n2lab.checkpoint.io.adapters.deltas import (
    Delta,
    Factors,
    Hadamard,
    Kronecker,
    LowRank,
    Stored,
    matrix,
    narrow,
    number,
    read,
)
from m2n2lab.checkpoint.io.adapters.keys import PEFT_PREFIX, by_module, is_adapter
from m2n2lab.checkpoint.io.adapters.targets import Target, Targets
from m2n2lab.checkpoint.io.folder import read_json, stated_licence, unsupported_format
from m2n2lab.checkpoint.io.hub import from_hub, hub_commit
from m2n2lab.checkpoint.io.names import EMBEDDINGS, is_head
from m2n2lab.checkpoint.io.parallel import Progress, chunks
from m2n2lab.checkpoint.io.pickles import as_safetensors
from m2n2lab.checkpoint.io.problems import Collector, Problem, Problems
from m2n2lab.checkpoint.io.tensor_file import Entry, TensorFile, read_header
from m2n2lab.utils.arrays import Array, Floats
from m2n2lab.utils.json_text import parse_json

CONFIG = "adapter_config.json"

FILES = (
    "adapter_model.safetensors",
    "adapter_model.bin",
    "pytorch_lora_weights.safetensors",
    "pytorch_lora_weights.bin",
)
"""Files of adapters in folders: PEFT's, and those of diffusers."""

UNTIE = (
    "untie the base first (in transformers: load it with tie_word_embeddings=False, copy its "
    "embedding into the head, save it), and name that folder"
)

PEFT_TYPES = ("LORA", "LOHA", "LOKR")

_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of the names of initialisations that change the weights of the base as well."""

_UNREAD = {
    "layer_replication": "layers of the base several times",
    "target_parameters": "factors for single parameters of a module",
    "use_qalora": "QA-LoRA",
    "use_bdlora": "block-diagonal LoRA",
    "megatron_config": "layers of Megatron",
    "alora_invocation_tokens": "activated LoRA, which depends on the text",
    "arrow_config": "Arrow routing",
    "kasa_config": "KaSA",
    "velora_config": "VeLoRA",
    "monteclora_config": "MonteCLoRA",
}
"""Options of PEFT by their names in its config that change what an adapter does."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA, or another small change of a model.

    Attributes:
        id: its path or hub id.
        strength: its factor.
        folder: where it lies, the local copy of one from the hub included.
        file: its tensors.
        config: PEFT's config; empty for other programs' adapters.
        config_file: the file that this was read from, or ``None``.
    """

    id: str
    strength: float
    folder: Path
    file: TensorFile
    config: Mapping[str, Any] = field(default_factory=dict)
    config_file: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it is made of."""
        return (self.file.path, *([self.config_file] if self.config_file else []))

    @property
    def licence(self) -> str | None:
        """The licence stated in its model card, or ``None``."""
        return stated_licence(self.folder)

    @property
    def commit(self) -> str | None:
        """The commit of one from the hub, or ``None``."""
        return hub_commit(self.folder)


def adapter_folder(place: Path) -> Path | None:
    """Return the folder of an adapter with PEFT's config, given it or its file; or ``None``.

    A folder that has such a config beside a whole model alone is none.
    """
    folder = place if place.is_dir() else place.parent
    if not (folder / CONFIG).is_file() or (place.is_file() and place.name not in FILES):
        return None
    own = any((folder / name).is_file() for name in FILES)
    return folder if own or not any(folder.glob("model*.safetensors*")) else None


def open_adapter(
    id: str, strength: float, problems: Collector, progress: Progress
) -> Adapter | None:
    """Open an adapter by its header; return ``None`` if it cannot be, with a problem.

    Args:
        id: folder, file or hub id.
        strength: its factor.
        problems: what is wrong is added to it.
        progress: called with the number of bytes of pickles converted since the last call.
    """
    try:
        place = Path(id) if Path(id).exists() else from_hub(id)
        path = _file(place)
        folder = path.parent
        if refused := unsupported_format(converted := as_safetensors(path, progress)):
            raise Problems(refused)
        file = read_header(converted)
    except Problems as wrong:
        problems.extend(wrong.problems)
        return None
    has_config = (folder / CONFIG).is_file() and (place.is_dir() or path.name in FILES)
    config = read_json(folder / CONFIG, problems) if has_config else {}
    if not has_config and not is_adapter(file.entries.items()):
        problems.add(
            Problem(
                file=id,
                expected="an adapter, such as a LoRA",
                found="a whole model, or another file",
                fix="name an adapter after the +, and whole models as seeds of their own",
            )
        )
        return None
    found = Adapter(id, strength, folder, file, config, folder / CONFIG if has_config else None)
    if refused := _unread(found):
        problems.add(refused)
        return None
    return found


def _file(place: Path) -> Path:
    """Return the file with the tensors of an adapter.

    Raises:
        Problems: there are several, or none.
    """
    if place.is_file():
        return place
    for name in FILES:
        if (place / name).is_file():
            return place / name
    found = sorted(place.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    raise Problems(
        Problem(
            file=str(place),
            expected="an adapter",
            found=f"several files: {', '.join(path.name for path in found[:4])}"
            if found
            else f"none of {', '.join(FILES)}",
            fix="give the path of the file that is meant",
        )
    )


def _unread(adapter: Adapter) -> Problem | None:
    """Return the problem of an adapter whose config asks for what is not done, or ``None``."""
    config = adapter.config
    found = None
    if str(config.get("peft_type", "LORA")).upper() not in PEFT_TYPES:
        found = f"one of the form {config['peft_type']}"
    started = str(config.get("init_lora_weights", "")).lower()
    if started.startswith(_CHANGED_BASE):
        found = f"one that changes the base as well ({started})"
    for key, what in _UNREAD.items():
        if config.get(key):
            found = f"one with {what} ({key})"
    if found is None:
        return None
    return Problem(
        file=str(adapter.config_file),
        expected=f"an adapter that adds to weights ({', '.join(PEFT_TYPES)})",
        found=found,
        fix="merge it into its base with PEFT (model.merge_and_unload().save_pretrained(FOLDER)), "
        "and name that folder",
    )


def base_of(folder: Path) -> str:
    """Return the path or hub id of the base that an adapter's config names.

    Raises:
        Problems: it names none, or there is none.
    """
    config = read_json(folder / CONFIG, Collector())
    name = str(config.get("base_model_name_or_path") or "")
    places = [Path(name), folder / name, folder.parent / name] if name else []
    for place in places:
        if place.is_dir() and not place.samefile(folder):
            return str(place)
    expected, fix = f"its base {name}", f"name it yourself: BASE+{folder}"
    if not name:
        found = "no base_model_name_or_path"
        raise Problems(
            Problem(file=str(folder / CONFIG), expected="its base", found=found, fix=fix)
        )
    revision = config.get("revision")
    id = f"{name}@{revision}" if revision else name
    try:
        from_hub(id)
    except Problems as wrong:
        found = wrong.problems[0].found
        raise Problems(
            Problem(file=str(folder / CONFIG), expected=expected, found=found, fix=fix)
        ) from None
    return id


# -- changes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Changes:
    """What adapters do to a base.

    Attributes:
        tensors: the changes of each tensor, by its full name.
        modules: what an adapter calls the module of each tensor, without PEFT's prefix.
        notes: remarks on modules that are left out.
    """

    tensors: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def changes_of(
    adapters: Sequence[Adapter],
    base: str,
    entries: Mapping[str, Entry],
    tensor: Callable[[str], Array],
    problems: Collector,
    *,
    is_picture: bool = False,
    is_conv1d: bool = False,
    is_tied: bool = False,
) -> Changes:
    """Return what adapters do to a base; what they hold that cannot be added becomes problems.

    Args:
        adapters: the adapters, in the order in which they are added.
        base: id of the base, for messages.
        entries: the tensors of the base that can be changed, by their full names.
        tensor: returns a tensor of the base.
        problems: what is wrong is added to it.
        is_picture: whether it is a pipeline, or a single file of a picture model.
        is_conv1d: whether its weights of linear layers are transposed, as GPT-2's are.
        is_tied: whether its head has the weights of the embedding.
    """
    targets = Targets(entries, is_picture)
    found: dict[str, tuple[Change, ...]] = {}
    modules: dict[str, str] = {}
    notes = []
    for adapter in adapters:
        reader = _Reader(adapter, base, entries, tensor, targets, is_conv1d, is_tied)
        for name, changes in reader.changes.items():
            found[name] = (*found.get(name, ()), *changes)
        modules = {**reader.modules, **modules}
        notes += reader.notes
        problems.extend(reader.problems)
    return Changes(found, modules, tuple(notes))


class _Reader:
    """The changes that one adapter makes to a base.

    Attributes:
        changes: those of each tensor, by its full name.
        modules: the adapter's own names of their modules, without PEFT's prefix.
        notes: remarks on modules that are left out.
        problems: what cannot be added.
    """

    def __init__(
        self,
        adapter: Adapter,
        base: str,
        entries: Mapping[str, Entry],
        tensor: Callable[[str], Array],
        targets: Targets,
        is_conv1d: bool,
        is_tied: bool,
    ) -> None:
        self.adapter, self.base = adapter, base
        self._entries, self._tensor = entries, tensor
        self._file, self._is_conv1d = adapter.file, is_conv1d
        self.changes: dict[str, list[Change]] = {}
        self.modules: dict[str, str] = {}
        self.notes: list[str] = []
        self.problems: list[Problem] = []
        self._misfits: list[tuple[str, tuple[int, ...], str]] = []
        modules, unknown = by_module(self._file.entries)
        self._refuse_unknown(unknown)
        lost: dict[str, str] = {}  # module → one of its tensors
        left: dict[str, int] = {}  # model that the base does not have → its modules
        for module, parts in modules.items():
            places = targets.find(module)
            for place in places:
                own = module.removeprefix(PEFT_PREFIX)
                self.modules |= {place.weight: own, place.bias: own}
            if places:
                try:
                    self._add(module, parts, places)
                except Problems as wrong:  # NaN, or numbers that cannot be read
                    self.problems += wrong.problems
                continue
            model, _ = targets.model_of(module)
            if model and model not in targets.models and targets.models:
                left[model] = left.get(model, 0) + 1
            else:
                lost[module] = next(iter(parts.values()))
        if is_tied:
            self._join_heads(modules, lost, targets)
        for model, count in left.items():
            self.notes.append(
                f"{adapter.id} changes {count:,} {'module' if count == 1 else 'modules'} of a "
                f"{model}, which {base} has not or which is not merged; that is left out."
            )
        self._refuse_lost(lost)
        self._refuse_misfits()
        if not self.changes and not self.problems:
            self._refuse(None, f"an adapter of {base}", "one that changes nothing of it")

    def _join_heads(
        self, modules: Mapping[str, Mapping[str, str]], lost: dict[str, str], targets: Targets
    ) -> None:
        """Take a head that was trained as one with the embedding for it; refuse others.

        An embedding that was trained apart, too: with PEFT, the head keeps the base's weights then.
        """
        tables = [
            module
            for module in modules
            if any(EMBEDDINGS.search(place.weight) for place in targets.find(module))
        ]
        heads = [module for module in lost if is_head(module)]
        for head in heads:
            if any(self._same(modules[head], modules[table]) for table in tables):
                del lost[head]
        saved = self.adapter.config.get("modules_to_save") or ()
        if heads or self.adapter.config.get("ensure_weight_tying"):
            return
        for table in tables:
            if "weight" in modules[table] and table.rpartition(".")[2] in saved:
                self._refuse(
                    modules[table]["weight"],
                    f"a change of both the embedding and the head, which are one tensor of "
                    f"{self.base}",
                    "one of the embedding alone",
                    UNTIE,
                )

    def _same(self, a: Mapping[str, str], b: Mapping[str, str]) -> bool:
        """Return whether two modules of the adapter have the same tensors."""
        return a.keys() == b.keys() and all(
            self._entry(a[part])[:2] == self._entry(b[part])[:2]
            and all(
                self._file.raw(a[part], *piece) == self._file.raw(b[part], *piece)
                for piece in chunks(self._entry(a[part]).bytes)
            )
            for part in a
        )

    # -- problems

    def _refuse(self, tensor: str | None, expected: str, found: str, fix: str = "") -> None:
        self.problems.append(
            Problem(
                file=str(self._file.path),
                tensor=tensor,
                expected=expected,
                found=found,
                fix=fix or "use the base that it was trained for",
            )
        )

    def _refuse_unknown(self, names: Sequence[str]) -> None:
        if names:
            self._refuse(
                names[0],
                "tensors of LoRA, DoRA, LoHa or LoKr",
                f"one of another form{_more(len(names))}",
                "merge it into its base with the program that trained it, and name that model",
            )

    def _refuse_lost(self, modules: Mapping[str, str]) -> None:
        if heads := [module for module in modules if is_head(module)]:
            self._refuse(
                modules[heads[0]],
                f"a change of a weight that {self.base} has",
                "one of its head, which has the weights of the embedding",
                UNTIE,
            )
        elif modules:
            self._refuse(
                next(iter(modules.values())),
                f"a change of a module that {self.base} has",
                f"one of {next(iter(modules))}, which it does not have{_more(len(modules))}",
            )

    def _refuse_misfits(self) -> None:
        for name, shape, found in self._misfits[:1]:
            expected = f"factors for a weight of shape {shape}, as {self.base} has"
            self._refuse(name, expected, found + _more(len(self._misfits)))

    # -- changes

    def _add(self, module: str, parts: Mapping[str, str], places: Sequence[Target]) -> None:
        """Add the changes of one module to what it stands for."""
        parts = dict(parts)
        shape = self._shape(places)
        for part, kind in (("weight", Replacement), ("difference", Change)):
            if part in parts:
                self._stored(parts.pop(part), places, kind, "weight")
        for part, kind in (("bias", Replacement), ("bias_difference", Change)):
            if part in parts:
                self._stored(parts.pop(part), places, kind, "bias")
        if "tokens" in parts:
            self._tokens(module, parts.pop("tokens"), places)
        alpha, magnitude = parts.pop("alpha", None), parts.pop("magnitude", None)
        up_bias = parts.pop("up_bias", None)
        alone = magnitude or up_bias
        if not parts and not alone:
            return
        first = next(iter(parts.values()), str(alone))
        scale = self._scale(module, parts, alpha)
        delta, transposed = self._delta(parts, shape, scale)
        if delta is None:
            listed = ", ".join(str(self._entry(name).shape) for name in parts.values())
            found = f"{', '.join(parts)} of shapes {listed}" if parts else "none"
            self._misfits.append((first, shape, found))
            return
        for place in places:
            self._add_weight(place, delta, magnitude, transposed)
        if up_bias is not None:
            self._stored(up_bias, places, Change, "bias", scale)

    def _entry(self, name: str) -> Entry:
        return self._file.entries[name]

    def _shape(self, places: Sequence[Target]) -> tuple[int, ...]:
        """Return the shape of the weight of a module as its adapter sees it."""
        shapes = [self._entries[place.weight].shape for place in places]
        if places[0].rows is not None:
            return (places[0].rows[1] - places[0].rows[0], *shapes[0][1:])
        if len(places) > 1:
            return (sum(shape[0] for shape in shapes), *shapes[0][1:])
        return shapes[0]

    def _stretch(self, place: Target, name: str) -> Stretch:
        """Return the elements of a tensor that a target is, and those of the module's delta."""
        shape = self._entries[name].shape
        width = matrix(shape)[1]
        low, high = place.rows or (0, shape[0] if shape else 1)
        return Stretch(low * width, high * width, place.skipped * width)

    def _keep(self, name: str, change: Change) -> None:
        self.changes.setdefault(name, []).append(change)

    def _stored(
        self,
        name: str,
        places: Sequence[Target],
        kind: type[Change],
        what: str,
        scale: float = 1.0,
    ) -> None:
        """Add a whole tensor of the adapter: a trained one, or a difference."""
        size = self._entry(name).size
        tensors = [place.bias if what == "bias" else place.weight for place in places]
        there = [tensor for tensor in tensors if tensor in self._entries]
        stretches = [
            self._stretch(place, tensor)
            for place, tensor in zip(places, tensors, strict=True)
            if tensor in self._entries
        ]
        expected = sum(stretch.stop - stretch.start for stretch in stretches)
        if len(there) < len(tensors) or size != expected:
            got = f"shape {self._entry(name).shape}"
            shapes = ", ".join(str(self._entries[tensor].shape) for tensor in there)
            fix = ""
            if there and re.search(r"embed|lm_head", name):
                fix = (
                    "resize the base's embeddings as in training "
                    "(model.resize_token_embeddings), save it, and name that folder"
                )
            self._refuse(
                name,
                f"a {what} that {self.base} has"
                + (f", of shape {shapes}" if there else f" as {tensors[0]}"),
                got,
                fix,
            )
            return
        for tensor, stretch in zip(there, stretches, strict=True):
            delta = Stored(matrix(self._entries[tensor].shape), self._file, name, scale)
            self._keep(tensor, kind(stretch, delta, self.adapter.strength))

    def _tokens(self, module: str, name: str, places: Sequence[Target]) -> None:
        """Add trained rows of a table of tokens."""
        (place, *_) = places
        rows, width = matrix(self._entries[place.weight].shape)
        found = self.adapter.config.get("trainable_token_indices")
        if isinstance(found, Mapping):
            ends = [value for key, value in found.items() if f".{module}".endswith(f".{key}")]
            found = ends[0] if ends else None
        fits = isinstance(found, list) and self._entry(name).shape == (len(found), width)
        if not fits or not all(0 <= int(row) < rows for row in found or ()):
            self._refuse(
                name,
                f"a row for each of trainable_token_indices, below {rows:,}",
                f"shape {self._entry(name).shape} for {found!r:.60}",
            )
            return
        delta = Stored((len(found or ()), width), self._file, name)
        for place_of, row in enumerate(found or ()):
            stretch = Stretch(int(row) * width, (int(row) + 1) * width, place_of * width)
            self._keep(place.weight, Replacement(stretch, delta, self.adapter.strength))

    def _add_weight(
        self, place: Target, delta: Delta, magnitude: str | None, transposed: bool
    ) -> None:
        """Add a module's delta to the part of it that a target is."""
        stretch, strength = self._stretch(place, place.weight), self.adapter.strength
        if magnitude is None:
            self._keep(place.weight, Change(stretch, delta, strength))
            return
        rows, columns = delta.shape
        inner = math.prod(self._entries[place.weight].shape[2:])
        shape = self._entry(magnitude).shape
        axis = int(transposed)  # PEFT's are of the output channels
        if magnitude.endswith("dora_scale"):  # those of LyCORIS may be of the input channels
            axis = int(shape[:1] != (rows,))
        size = (rows, columns // inner)[axis]
        is_split = stretch.stop - stretch.start != rows * columns
        if self._entry(magnitude).size != size or (axis and is_split):
            self._refuse(magnitude, f"{size:,} magnitudes", f"shape {shape}")
            return
        base, norms = self._tensor(place.weight), read(self._file, magnitude)
        change = Decomposition(stretch, delta, strength, norms, axis, inner, base)
        self._keep(place.weight, change)

    # -- factors

    def _scale(self, module: str, parts: Mapping[str, str], alpha: str | None) -> float:
        """Return the factor of a module's delta: alpha / r, or alpha / √r."""
        rank = self._rank(parts)
        if alpha is not None:
            return number(self._file, alpha) / rank if rank else 1.0
        config, name = self._settings(module)
        rank = rank or int(config.get("r") or 0)  # in PEFT LoKr without factors is scaled as well
        if not config or not rank:
            return 1.0
        key = "lora_alpha" if "lora_alpha" in config else "alpha"
        value = config.get(key)
        for pattern, other in dict(config.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", name):
                value = other
                break
        if value is None:
            return 1.0
        return float(value) / (math.sqrt(rank) if config.get("use_rslora") else rank)

    def _settings(self, module: str) -> tuple[Mapping[str, Any], str]:
        """Return PEFT's settings for a module: its config, or what diffusers keeps in the file."""
        if self.adapter.config:
            return self.adapter.config, module.removeprefix(PEFT_PREFIX)
        component, _, name = module.partition(".")
        try:
            kept = parse_json(self._file.metadata.get("lora_adapter_metadata", "{}"))
            begin = f"{component}."
            return {k[len(begin) :]: v for k, v in kept.items() if k.startswith(begin)}, name
        except (ValueError, AttributeError):
            return {}, name

    def _rank(self, parts: Mapping[str, str]) -> int:
        """Return the rank of a module's factors; 0 if it has none, so that alpha means nothing."""
        for part in ("down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"):
            if part in parts:
                return self._entry(parts[part]).shape[0]
        return 0

    def _delta(
        self, parts: Mapping[str, str], shape: tuple[int, ...], scale: float
    ) -> tuple[Delta | None, bool]:
        """Return the delta of a module, and whether its factors are of the transposed weight."""
        have = set(parts)
        if have in ({"down", "up"}, {"down", "up", "mid"}):
            return self._lora(parts, shape, scale)
        pairs = {f"hada_w{k}_{x}" for k in (1, 2) for x in "ab"}
        if have in (pairs, pairs | {"hada_t1", "hada_t2"}):
            one = self._loha(parts, 1, shape, scale)
            other = self._loha(parts, 2, shape, 1.0)
            return (Hadamard(one, other) if one and other else None), False
        if any(part.startswith("lokr") for part in have):
            return self._lokr(parts, shape, scale), False
        return None, False

    def _lora(
        self, parts: Mapping[str, str], shape: tuple[int, ...], scale: float
    ) -> tuple[Delta | None, bool]:
        up, down = self._entry(parts["up"]).shape, self._entry(parts["down"]).shape
        mid = self._entry(parts["mid"]).shape if "mid" in parts else None
        rank = down[0] if down else 0
        rows, columns = matrix(shape)
        if len(up) < 2 or len(down) < 2 or math.prod(up[1:]) != (mid[0] if mid else rank):
            return None, False

        def factors() -> Factors:
            right = narrow(self._file, parts["down"]).reshape(rank, -1)
            left = narrow(self._file, parts["up"]).reshape(up[0], -1)
            if mid is not None:
                middle = read(self._file, parts["mid"]).reshape(mid[0], mid[1], -1)
                right = np.einsum("ijk,jn->ink", middle, right).reshape(mid[0], -1)
            return left, right

        wide = math.prod(down[1:]) * (math.prod(mid[2:]) if mid else 1)
        embedding = "lora_embedding" in parts["up"]
        turned = self._is_conv1d or bool(self.adapter.config.get("fan_in_fan_out"))
        if mid is not None and (len(mid) < 2 or mid[1] != rank):
            return None, False
        straight = (up[0], wide) == (rows, columns) and not embedding
        if straight and not (turned and rows == columns):
            return LowRank((rows, columns), factors, scale), False
        # PEFT itself looks at the modules, and not always keeps what it saw in its config.
        if (wide, up[0]) == (rows, columns) and mid is None and len(shape) == 2:

            def swapped() -> Factors:
                left, right = factors()
                return right.T, left.T.astype(np.float64) * scale

            return LowRank((rows, columns), swapped), True
        return None, False

    def _loha(
        self, parts: Mapping[str, str], number: int, shape: tuple[int, ...], scale: float
    ) -> Delta | None:
        """Return one of the two matrices whose product, element by element, LoHa adds."""
        a, b = parts[f"hada_w{number}_a"], parts[f"hada_w{number}_b"]
        core = parts.get(f"hada_t{number}")
        rows, columns = matrix(shape)
        first, second = self._entry(a).shape, self._entry(b).shape
        if len(first) != 2 or len(second) != 2:
            return None
        if core is None:
            if (first[0], second[1]) != (rows, columns) or first[1] != second[0]:
                return None
            return LowRank(
                (rows, columns),
                lambda: (
                    narrow(self._file, a).reshape(first),
                    narrow(self._file, b).reshape(second),
                ),
                scale,
            )
        inside = self._entry(core).shape
        if inside[:2] != (first[0], second[0]) or (
            (first[1], second[1] * math.prod(inside[2:])) != (rows, columns)
        ):
            return None

        def factors() -> Factors:
            middle = read(self._file, core).reshape(*inside[:2], -1)
            right = np.einsum("ijk,jn->ink", middle, read(self._file, b).reshape(second))
            return read(self._file, a).reshape(first).T * scale, right.reshape(first[0], -1)

        return LowRank((rows, columns), factors)

    def _lokr(self, parts: Mapping[str, str], shape: tuple[int, ...], scale: float) -> Delta | None:
        first, one = self._half(parts, "w1", None)
        second, two = self._half(parts, "w2", parts.get("lokr_t2"))
        rows, columns = matrix(shape)
        if first is None or second is None or one is None or two is None:
            return None
        if (first[0] * second[0], first[1] * second[1]) != (rows, columns):
            return None
        make_one, make_two = one, two
        return Kronecker((rows, columns), lambda: (make_one() * scale, make_two()), second)

    def _half(
        self, parts: Mapping[str, str], half: str, core: str | None
    ) -> tuple[tuple[int, int] | None, Callable[[], Floats] | None]:
        """Return shape and reader of a matrix of LoKr: whole, or of two or three factors."""
        if whole := parts.get(f"lokr_{half}"):
            shape = matrix(self._entry(whole).shape)
            return shape, lambda: read(self._file, whole).reshape(shape)
        a, b = parts.get(f"lokr_{half}_a"), parts.get(f"lokr_{half}_b")
        if a is None or b is None:
            return None, None
        one, two = self._entry(a).shape, self._entry(b).shape
        if core is None:
            if len(one) != 2 or len(two) < 2 or one[1] != two[0]:
                return None, None
            wide = matrix(two)
            return (
                one[0],
                wide[1],
            ), lambda: read(self._file, a).reshape(one) @ read(self._file, b).reshape(wide)
        inside = self._entry(core).shape
        if len(one) != 2 or len(two) != 2 or inside[:2] != (one[0], two[0]):
            return None, None

        def made() -> Floats:
            middle = read(self._file, core).reshape(*inside[:2], -1)
            right = np.einsum("ijk,jn->ink", middle, read(self._file, b).reshape(two))
            return np.asarray(read(self._file, a).reshape(one).T @ right.reshape(one[0], -1))

        return (one[1], two[1] * math.prod(inside[2:])), made


def _more(count: int) -> str:
    return f" ({count - 1:,} more likewise)" if count > 1 else ""
