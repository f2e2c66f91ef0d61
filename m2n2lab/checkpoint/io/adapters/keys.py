"""Names of tensors in adapters: the module that each belongs to, and its part in the change."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from m2n2lab.checkpoint.io.tensor_file import Entry

_LYCORIS = (
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
)

_PARTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    # PEFT and diffusers, where the name of the adapter itself may follow.
    ("down", re.compile(r"(.+)\.lora_(?:A|embedding_A)(?:\.\w+)?(?:\.weight)?")),
    ("up_bias", re.compile(r"(.+)\.lora_B(?:\.\w+)?\.bias")),
    ("up", re.compile(r"(.+)\.lora_(?:B|embedding_B)(?:\.\w+)?(?:\.weight)?")),
    ("magnitude", re.compile(r"(.+)\.lora_magnitude_vector(?:\.\w+)?(?:\.weight)?")),
    ("tokens", re.compile(r"(.+?)(?:\.token_adapter)?\.trainable_tokens_delta(?:\.\w+)?")),
    # Older diffusers: processors of attention, and layers of text encoders.
    ("down", re.compile(r"(.+?)(?:\.processor)?\.(?=to_\w+_lora\.)(to_\w+)_lora\.down\.weight")),
    ("up", re.compile(r"(.+?)(?:\.processor)?\.(?=to_\w+_lora\.)(to_\w+)_lora\.up\.weight")),
    ("down", re.compile(r"(.+)\.(?:lora|lora_linear_layer)\.down\.weight")),
    ("up", re.compile(r"(.+)\.(?:lora|lora_linear_layer)\.up\.weight")),
    # kohya and LyCORIS.
    ("down", re.compile(r"(.+)\.lora_down\.weight")),
    ("up", re.compile(r"(.+)\.lora_up\.weight")),
    ("mid", re.compile(r"(.+)\.lora_mid\.weight")),
    ("alpha", re.compile(r"(.+)\.alpha")),
    ("magnitude", re.compile(r"(.+)\.dora_scale")),
    *((name, re.compile(rf"(.+)\.{name}")) for name in _LYCORIS),
    ("difference", re.compile(r"(.+)\.(?:diff|w_norm)")),
    ("bias_difference", re.compile(r"(.+)\.(?:diff_b|b_norm)")),
)
"""Parts of a change by the ends of names; the groups of an expression are the module's name."""

_FACTORS = frozenset(["down", "up", *_LYCORIS])

PEFT_PREFIX = "base_model.model."

_PREFIX = re.compile(r"lora_(unet|te\d?|transformer|prior_unet)_|lycoris_|base_model\.model\.")
"""Beginnings that only names in adapters have."""

_OTHER_FORMS = re.compile(r"\.(oft_\w+|boft_\w+|ia3_l|on_input|lora_E)$")
"""Ends of names in adapters of forms that are not read."""


_WRAPPERS = re.compile(r"(\.token_adapter)?\.base_layer$|\.modules_to_save(\.\w+)?$")
"""Ends of the names of modules inside those of PEFT that stand for them."""


class Key(NamedTuple):
    """A tensor's place in an adapter.

    Attributes:
        module: name of the module that is changed, as the adapter spells it.
        part: what it is of the change, such as ``"down"``; ``"weight"`` or ``"bias"`` for a tensor
            that was trained as a whole.
    """

    module: str
    part: str


def parse(name: str) -> Key | None:
    """Return the place of a tensor in an adapter; ``None`` if it is in no known form."""
    for part, pattern in _PARTS:
        if match := pattern.fullmatch(name):
            return Key(".".join(match.groups()), part)
    if name.startswith(PEFT_PREFIX):
        module, _, end = name.rpartition(".")
        module = _WRAPPERS.sub("", module)
        if end in ("weight", "bias"):
            return Key(module, end)
    return None


def is_adapter(entries: Iterable[tuple[str, Entry]]) -> bool:
    """Return whether tensors are an adapter's, and no whole model's.

    A model may have adapters inside. Then its own weights are larger than these, and the modules
    that they belong to have their weights beside them.
    """
    sizes = {name: entry.size for name, entry in entries}
    keys = {name: parse(name) for name in sizes}
    own = {
        name
        for name, key in keys.items()
        if (key and key.part in _FACTORS) or _PREFIX.match(name) or _OTHER_FORMS.search(name)
    }
    modules = {key.module for key in keys.values() if key and key.part in _FACTORS}
    whole = sum(f"{m}.weight" in sizes or f"{m}.base_layer.weight" in sizes for m in modules)
    if modules and 2 * whole > len(modules):
        return False
    return bool(own) and 2 * sum(sizes[name] for name in own) > sum(sizes.values())


def by_module(names: Iterable[str]) -> tuple[Mapping[str, Mapping[str, str]], list[str]]:
    """Return the tensors of each module by their parts, and those in no known form.

    Of tables of tokens that it trained and resized, PEFT saves the base's own, which are left out,
    and the trained ones twice.
    """
    modules: dict[str, dict[str, str]] = {}
    unknown = []
    there = dict.fromkeys(names)
    for name in there:
        plain = name.replace(".modules_to_save.", ".")
        if ".original_module." in name or (plain != name and plain in there):
            continue
        key = parse(name)
        if key is None or key.part in modules.get(key.module, ()):
            unknown.append(name)
        else:
            modules.setdefault(key.module, {})[key.part] = name
    return modules, unknown
