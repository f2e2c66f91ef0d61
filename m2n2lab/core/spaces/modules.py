"""Modules: which torch modules can be merged, and copies of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from m2n2lab.core.spaces.buffers import FLOATS
from m2n2lab.utils.errors import InputError, first_line


def check_module(module: nn.Module, name: str) -> None:
    """Check that a module's parameters and buffers can be merged.

    Args:
        module: the module.
        name: its name in errors.

    Raises:
        InputError: it has no parameters, or some without values, quantised, complex, or of a dtype
            such as float8.
    """
    tensors = dict(_tensors(module))
    for key, tensor in tensors.items():
        if is_lazy(tensor):
            raise InputError(
                f"A module must have all its weights, but {key!r} of {name} is lazy and has no "
                f"shape yet; run one batch through the module first."
            )
        if tensor.is_meta:
            raise InputError(
                f"A module must have all its weights, but {key!r} of {name} is on the meta device "
                f"and has no values; load them first."
            )
    packed = [key for key, value in module.state_dict().items() if _is_quantised(value)]
    packed += [key for key, p in module.named_parameters() if _is_integer(p)]
    if packed:
        raise InputError(
            f"Weights must be floating-point numbers, but {packed[0]!r} of {name} is quantised; "
            f"merge the models before they are quantised."
        )
    for key, tensor in tensors.items():
        if tensor.is_complex():
            raise InputError(
                f"Weights must be real numbers, got {_dtype(tensor)} in {key!r} of {name}; keep "
                f"real and imaginary parts (torch.view_as_real), and constants with "
                f"persistent=False."
            )
        if tensor.is_floating_point() and tensor.dtype not in FLOATS:
            raise InputError(
                f"Weights must be float64, float32, float16 or bfloat16, got {_dtype(tensor)} in "
                f"{key!r} of {name}; convert the module, for example with .float()."
            )
    if not any(parameter.numel() for parameter in module.parameters()):
        raise InputError(
            f"A module must have parameters to merge, but {name}, a {type(module).__name__}, has "
            f"none; give modules with weights."
        )


def copied(module: nn.Module, name: str) -> nn.Module:
    """Return a copy of a module that shares nothing with it.

    Raises:
        InputError: it cannot be copied, such as with the old ``torch.nn.utils.weight_norm``.
    """
    for path, part in module.named_modules():
        for key, value in vars(part).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                raise InputError(
                    f"A module must hold its weights as parameters, but "
                    f"{'.'.join(filter(None, (path, key)))!r} of {name} is computed from others, "
                    f"as by the old torch.nn.utils.weight_norm or by pruning; use "
                    f"torch.nn.utils.parametrizations, or remove it first."
                )
    try:
        return copy.deepcopy(module)
    except Exception as error:  # classes of one's own raise anything
        raise InputError(
            f"A module must be one that copy.deepcopy copies, but {name} raised "
            f"{type(error).__name__}: {first_line(error)}; keep locks, open files and computed "
            f"tensors out of the module."
        ) from error


def state_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state dict as CPU tensors that share no memory, for a safetensors file.

    Raises:
        InputError: an entry is no tensor, such as extra state of a custom layer.
    """
    found = {}
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"A state dict must hold tensors to be a safetensors file, but {name!r} is a "
                f"{type(value).__name__}; use torch.save on the state dict of "
                f"space.materialise(genome)."
            )
        # Clones, because the names of tied weights are one tensor, which the file refuses.
        found[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return found


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters, and the buffers in the state dict."""
    yield from module.named_parameters()
    saved = module.state_dict().keys()
    yield from ((name, buffer) for name, buffer in module.named_buffers() if name in saved)


def _is_quantised(value: Any) -> bool:
    """Return whether an entry of a state dict has quantised weights, packed or not."""
    if isinstance(value, tuple | list):  # weight and bias, as packed by torch.ao
        return any(map(_is_quantised, value))
    return isinstance(value, torch.ScriptObject) or (
        isinstance(value, Tensor) and value.is_quantized
    )


def _is_integer(parameter: Tensor) -> bool:
    return not (parameter.is_floating_point() or parameter.is_complex())


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
