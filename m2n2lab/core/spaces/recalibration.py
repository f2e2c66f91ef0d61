"""Recalibration: BatchNorm statistics of a merged module, computed anew on data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from m2n2lab.utils.errors import InputError

RecalibrationData: TypeAlias = Iterable[Any] | Callable[[nn.Module], object]
"""Batches of inputs, or a function that runs a module on them."""


class Recalibration:
    """Forward passes in which only BatchNorm layers learn.

    The mean over batches of their statistics replaces what they had.

    Args:
        data: batches, or a function (see ``DenseSpace``).
        module: the module that it is for; ``None`` where models are no modules.
        device: where batches are kept.

    Attributes:
        identity: a checksum of the batches, or the name of the function.

    Raises:
        InputError: there are no batches, or no BatchNorm statistics in the module.
    """

    def __init__(
        self, data: RecalibrationData, module: nn.Module | None, device: torch.device
    ) -> None:
        if module is None or not _layers(module):
            raise InputError(
                "recalibrate must be for modules that have BatchNorm layers with running "
                "statistics, got others; leave it out."
            )
        self._function: Callable[[nn.Module], object] | None = None
        self._batches: list[Any] = []
        if callable(data):
            self._function = data
            named = data if hasattr(data, "__qualname__") else type(data)
            self.identity = f"{named.__module__}:{named.__qualname__}"
            return
        if not isinstance(data, Iterable):
            raise InputError(
                f"recalibrate must be batches of inputs or a function, got {type(data).__name__}; "
                f"give for example recalibrate=[X[:100]]."
            )
        # Kept, because a loader that shuffles would give every model other statistics.
        batches = [data] if isinstance(data, Tensor) else data
        self._batches = [_moved(_inputs(batch), device) for batch in batches]
        if not self._batches:
            raise InputError(
                "recalibrate must have at least one batch of inputs, got none; give some data."
            )
        digest = hashlib.sha256()
        for batch in self._batches:
            _add(digest, batch)
        self.identity = digest.hexdigest()

    def apply(self, module: nn.Module) -> None:
        """Recalibrate a module that is in eval mode, and leave it so."""
        layers = _layers(module)
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a cumulative mean, in which all batches count the same
            layer.train()
        try:
            with torch.no_grad():
                if self._function is not None:
                    self._function(module)
                for batch in self._batches:
                    module(**batch) if isinstance(batch, Mapping) else module(batch)
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
            module.eval()


def statistics(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the BatchNorm statistics of a module by their names in its state dict."""
    layers = {id(layer) for layer in _layers(module)}
    for path, part in module.named_modules():
        if id(part) in layers:
            for name in ("running_mean", "running_var"):
                yield f"{path}.{name}" if path else name, getattr(part, name)


def _layers(module: nn.Module) -> list[_BatchNorm]:
    return [
        part
        for part in module.modules()
        if isinstance(part, _BatchNorm) and part.track_running_stats
    ]


def _inputs(batch: Any) -> Any:
    """Return the inputs of a batch, which may be followed by targets."""
    return batch[0] if isinstance(batch, list | tuple) and batch else batch


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    return batch.detach().to(device, copy=True) if isinstance(batch, Tensor) else batch


def _add(digest: Any, batch: Any) -> None:
    """Add a batch to a checksum."""
    if isinstance(batch, Mapping):
        for key, value in batch.items():
            digest.update(str(key).encode())
            _add(digest, value)
    elif isinstance(batch, Tensor):
        digest.update(repr((batch.dtype, tuple(batch.shape))).encode())
        digest.update(batch.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    else:
        digest.update(repr(batch).encode())
