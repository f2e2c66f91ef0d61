"""Classification of any ``(X, y)`` by multilayer perceptrons stored as flat vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from torch.optim.adam import adam

from m2n2lab.core.spaces.layout import Layout
from m2n2lab.core.spaces.space import DenseSpace, Space, checked_device
from m2n2lab.core.task import Sample, Task, mean_by_group
from m2n2lab.utils.arrays import Indices
from m2n2lab.utils.errors import InputError, real_number, whole_number

SCALE = 0.01
"""Standard deviation of random seeds (arXiv 2508.16204, §4.1)."""


class Classify(Task):
    """Images (or any rows of numbers) and their classes; a model is an MLP in one flat vector.

    The vector is [W1 (inputs×hidden), b1, W2 (hidden×classes), b2], further layers likewise, with
    ReLU between them. Scores are binary.

    Args:
        X: (D, features) training data, or (D, H, W) images.
        y: (D,) their classes 0..C-1.
        X_test, y_test: held-out data of the same shapes; none by default.
        hidden: widths of the hidden layers.
        classes: names of the classes; their numbers by default.
        image_shape: (H, W) of a row, for display; taken from (D, H, W) images.
        name: name of the task in views.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: shapes do not match, values are NaN or infinite, or classes are no integers.
    """

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        X_test: ArrayLike | None = None,
        y_test: ArrayLike | None = None,
        *,
        hidden: int | Sequence[int] = (256,),
        classes: Sequence[str] | None = None,
        image_shape: tuple[int, int] | None = None,
        name: str = "classify",
        device: str = "cpu",
    ) -> None:
        data, truth = _checked(X, y, "X", "y")
        self.image_shape = image_shape or (data.shape[1:] if data.ndim == 3 else None)
        self._data = data.reshape(len(data), -1)
        if self.image_shape and int(np.prod(self.image_shape)) != self._data.shape[1]:
            raise InputError(
                f"image_shape must hold the {self._data.shape[1]} numbers of a row, got "
                f"{self.image_shape}; give height and width."
            )
        names = range(int(truth.max()) + 1) if classes is None else classes
        super().__init__(len(data), name=name, classes=[str(c) for c in names], groups=truth)
        layers = hidden if isinstance(hidden, Sequence) else (hidden,)
        widths = tuple(whole_number("hidden", width, 1) for width in layers)
        self.widths = (self._data.shape[1], *widths, len(self.classes))
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (inputs, outputs) in enumerate(pairwise(self.widths), start=1):
            shapes |= {f"W{layer}": (inputs, outputs), f"b{layer}": (outputs,)}
        self.layout = Layout(shapes)
        self.device = checked_device(device)
        self.training = self._tensors(self._data, truth)  # X (D, features), y (D,)
        self._test: tuple[Tensor, Tensor] | None = None
        if (X_test is None) != (y_test is None):
            raise InputError(
                "X_test and y_test must be given together, got only one of them; give both or "
                "neither."
            )
        if X_test is not None and y_test is not None:
            test, test_truth = _checked(X_test, y_test, "X_test", "y_test")
            test = test.reshape(len(test), -1)
            if test.shape[1] != self.widths[0] or test_truth.max() >= len(self.classes):
                raise InputError(
                    f"X_test must have {self.widths[0]} numbers a row and y_test classes below "
                    f"{len(self.classes)} as the training data, got {test.shape[1]} numbers and "
                    f"class {test_truth.max()}; prepare both in the same way."
                )
            self._test = self._tensors(test, test_truth)

    def _tensors(self, data: NDArray[Any], truth: NDArray[Any]) -> tuple[Tensor, Tensor]:
        x = torch.as_tensor(data, dtype=torch.float32, device=self.device)
        return x.contiguous(), torch.as_tensor(truth, device=self.device)

    def identity(self) -> str:
        """Return a SHA-256 of the training data and the network's widths."""
        digest = hashlib.sha256(f"{super().identity()} {self.widths}".encode())
        digest.update(self.training[0].cpu().numpy().tobytes())
        return digest.hexdigest()

    def check_space(self, space: Space) -> None:
        """Check that the space's models are vectors of this network's size."""
        if space.size != self.layout.size:
            raise InputError(
                f"The space's models must have {self.layout.size} weights as this network has, got "
                f"{space.size}; use task.space(seeds)."
            )

    def space(self, seeds: Sequence[Any] | NDArray[Any], device: str | None = None) -> DenseSpace:
        """Return the space of this network's vectors.

        Raises:
            InputError: the seeds cannot be merged, or ``device`` is not that of the data.
        """
        if device is not None and checked_device(device) != self.device:
            raise InputError(
                f"device must be that of the task, {str(self.device)!r}, got {device!r}; make the "
                f"task with device={device!r}."
            )
        return DenseSpace(seeds, self.layout, str(self.device))

    def logits(self, model: Tensor, x: Tensor) -> Tensor:
        """Return outputs (n, C) for ``x`` (n, features), plain or in oneDNN's layout."""
        weights = list(self.layout.split(model).values())
        *body, (last, last_bias) = zip(weights[::2], weights[1::2], strict=True)
        for weight, bias in body:
            x = linear(x, weight.T, bias).relu_()
        outputs = linear(x, last.T, last_bias)
        return outputs.to_dense() if outputs.is_mkldnn else outputs

    @torch.inference_mode()
    def predict(self, model: Tensor, x: Tensor) -> Tensor:
        """Return the predicted classes (n,) for ``x`` (n, features)."""
        # max() finds the same first maximum as argmax() in half the time.
        return self.logits(model, to_onednn(x)).max(dim=1).indices

    def score(self, model: Tensor, indices: Indices | None) -> NDArray[np.bool_]:
        """Return which data points the model gets right (n,)."""
        x, y = self._onednn[0], self.training[1]
        if indices is not None:
            where = torch.as_tensor(indices, device=self.device)
            x, y = self.training[0][where], y[where]
        right: NDArray[np.bool_] = (self.predict(model, x) == y).cpu().numpy()
        return right

    @cached_property
    def _onednn(self) -> list[Tensor]:
        """Training data and, if any, test data in oneDNN's layout, whose products are fastest."""
        return [to_onednn(x) for x, _ in filter(None, (self.training, self._test))]

    def __getstate__(self) -> dict[str, Any]:
        # Tensors in oneDNN's layout cannot be pickled: each process makes its own.
        return {name: value for name, value in vars(self).items() if name != "_onednn"}

    def held_out(self, model: Tensor) -> float:
        """Return the accuracy on the test data in [0, 1]; NaN without test data."""
        if self._test is None:
            return float("nan")
        x, y = self._onednn[1], self._test[1]
        return float((self.predict(model, x) == y).sum()) / len(y)

    def held_out_by_class(self, model: Tensor) -> dict[str, float]:
        """Return the test accuracy of each class by name; empty without test data."""
        if self._test is None:
            return {}
        x, y = self._onednn[1], self._test[1]
        right = (self.predict(model, x) == y).cpu().numpy().astype(float)
        return mean_by_group(right, y.cpu().numpy(), self.classes)

    def samples(self, model: Tensor, indices: ArrayLike) -> list[Sample]:
        """Return images, true classes and the model's predictions for data points (n,)."""
        where = self.checked_indices(indices)
        predicted = self.predict(
            model, self.training[0][torch.as_tensor(where, device=self.device)]
        )
        return [
            Sample(
                index=int(index),
                truth=self.classes[truth := int(self.groups[index])],
                prediction=self.classes[answer],
                right=answer == truth,
                image=self._image(int(index)),
            )
            for index, answer in zip(where, predicted.tolist(), strict=True)
        ]

    # -- drawings ------------------------------------------------------------------------------

    @torch.inference_mode()
    def probabilities(self, model: Tensor, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probability of each class (n, C) for inputs ``x`` (n, features)."""
        inputs = torch.as_tensor(x, dtype=torch.float32, device=self.device)
        return self.logits(model, inputs).double().softmax(dim=1).cpu().numpy()

    def from_drawing(self, ink: ArrayLike) -> NDArray[np.float32]:
        """Return a drawing as an input (features,), as large and as central as the task's pictures.

        Args:
            ink: (H, W) the drawing, of any size, 0 where there is nothing.

        Raises:
            InputError: the task has no pictures, or nothing is drawn.
        """
        drawn = np.asarray(ink, np.float64)
        if self.image_shape is None or drawn.ndim != 2 or not (drawn > 0.0).any():
            raise InputError(
                f"A drawing must be an array (H, W) with ink in it, for a task with pictures, got "
                f"shape {drawn.shape} for {self.name!r}; draw something first."
            )
        high, wide = self.image_shape
        rows, columns = (np.flatnonzero((drawn > 0.0).any(axis=axis)) for axis in (1, 0))
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        left, right = int(columns[0]), int(columns[-1]) + 1
        # Side of the square of the drawing that becomes the picture.
        side = max((bottom - top) / self._height_share, float(right - left))
        down = _averages(high, (top + bottom - side) / 2, side, len(drawn))
        across = _averages(wide, (left + right - side) / 2, side, drawn.shape[1])
        picture = down @ drawn @ across.T
        low, most = self._range
        flat: NDArray[np.float32] = (
            (low + picture / picture.max() * (most - low)).astype(np.float32).ravel()
        )
        return flat

    @cached_property
    def _height_share(self) -> float:
        """Mean height of what is drawn in the pictures, as a share of theirs."""
        assert self.image_shape is not None  # as its caller has checked
        low, high = self._range
        pictures = self._data.reshape(-1, *self.image_shape)
        inked: NDArray[np.bool_] = np.greater(pictures, low + (high - low) / 4)
        rows: NDArray[np.bool_] = np.any(inked, axis=2)
        filled = rows[rows.any(axis=1)]
        heights = filled.shape[1] - filled[:, ::-1].argmax(axis=1) - filled.argmax(axis=1)
        height: float = np.mean(heights).item() / self.image_shape[0]
        return height

    @cached_property
    def _range(self) -> tuple[float, float]:
        """Smallest and largest value in all images."""
        return float(self._data.min()), float(self._data.max())

    def _image(self, index: int) -> NDArray[np.float32] | None:
        if self.image_shape is None:
            return None
        row: NDArray[np.float32] = self._data[index].astype(np.float32)
        low, high = self._range
        return (row.reshape(self.image_shape) - low) / max(high - low, 1e-12)

    # -- seeds ---------------------------------------------------------------------------------

    def random_seeds(self, count: int = 2, rng: int = 0, scale: float = SCALE) -> NDArray[Any]:
        """Return ``count`` random networks (count, N), weights ~ N(0, scale²)."""
        # A separate stream: an evolver with the same seed must not draw its choices from the
        # numbers that made the networks.
        draw = np.random.default_rng([whole_number("rng", rng, 0), 1])
        shape = (whole_number("count", count, 1), self.layout.size)
        return draw.normal(0.0, real_number("scale", scale, 0.0), shape).astype(np.float32)

    def trained_seeds(
        self,
        parts: Sequence[Sequence[int | str]] | None = None,
        rng: int = 0,
        steps: int = 10,
        rate: float = 0.003,
        start: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Return specialists (K, N), each trained from a random network on a part of the classes.

        Args:
            parts: classes of each specialist, by number or name; two halves by default (the
                paper's digits 0–4 and 5–9).
            rng: seed of the random networks.
            steps: full-batch steps of Adam.
            rate: learning rate of Adam.
            start: (K, N) networks to train instead of random ones.

        Raises:
            InputError: a class is unknown, a part has no data points, or ``start`` has another
                shape.
        """
        half = (len(self.classes) + 1) // 2
        numbers = range(len(self.classes))
        parts = parts if parts is not None else (numbers[:half], numbers[half:])
        random = self.random_seeds(len(parts), rng)
        seeds = random if start is None else np.array(start, dtype=np.float32)
        if seeds.shape != random.shape:
            raise InputError(
                f"start must be a network for each part, shape {random.shape}, got shape "
                f"{seeds.shape}; give one vector each."
            )
        groups = [self._points_of(part) for part in parts]
        steps, rate = whole_number("steps", steps, 0), real_number("rate", rate, 0.0)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # gradients are sums over images, whose order must not vary
        try:
            trained = [
                self._train(seed, where, steps, rate).cpu().numpy()
                for seed, where in zip(seeds, groups, strict=True)
            ]
        finally:
            torch.set_num_threads(threads)
        return np.stack(trained)

    def _points_of(self, part: Sequence[int | str]) -> Indices:
        names = {name: number for number, name in enumerate(self.classes)}
        if not isinstance(part, Iterable):
            raise InputError(f"A part must be a list of classes, got {part!r}; write [{part!r}].")
        wanted = [names.get(c, c) if isinstance(c, str) else c for c in part]
        where = np.flatnonzero(np.isin(self.groups, [c for c in wanted if c in range(len(names))]))
        unknown = [c for c in wanted if c not in range(len(names))]
        if unknown or not len(where):
            raise InputError(
                f"A part must name classes that have data points, among {', '.join(names)}, got "
                f"{list(part)!r}; choose among them."
            )
        return where

    def _train(self, seed: NDArray[Any], where: Indices, steps: int, rate: float) -> Tensor:
        chosen = torch.as_tensor(where, device=self.device)
        x, y = (part[chosen] for part in self.training)
        model = torch.tensor(seed, device=self.device, requires_grad=True)
        mean, square = torch.zeros_like(model), torch.zeros_like(model)
        step = torch.tensor(0.0)
        for _ in range(steps):
            (slope,) = torch.autograd.grad(cross_entropy(self.logits(model, x), y), model)
            # Not by the optimizer's class: that imports torch's compiler, a second for ten steps.
            with torch.no_grad():
                adam(
                    [model], [slope], [mean], [square], [], [step], foreach=False, amsgrad=False,
                    beta1=0.9, beta2=0.999, lr=rate, weight_decay=0.0, eps=1e-8, maximize=False,
                )  # fmt: skip
        return model.detach()


def _averages(count: int, start: float, length: float, size: int) -> NDArray[np.float64]:
    """Return the matrix (count, size) that averages ``size`` pixels over ``count`` equal parts.

    The parts divide [start, start + length], which may reach beyond the pixels: there is nothing.
    """
    edges = start + length * np.arange(count + 1) / count
    pixels = np.arange(size + 1)
    low = np.maximum(edges[:-1, None], pixels[None, :-1])
    high = np.minimum(edges[1:, None], pixels[None, 1:])
    shares: NDArray[np.float64] = np.maximum(high - low, 0.0) * count / length
    return shares


def to_onednn(x: Tensor) -> Tensor:
    """Return data (n, features) in oneDNN's layout if torch supports it, unchanged otherwise.

    Its products take half the time of the BLAS that torch uses for plain tensors, and the bits of
    each row depend neither on the number of threads nor on the other rows.
    """
    if x.is_mkldnn or not len(x) or x.device.type != "cpu":
        return x
    return x.to_mkldnn() if torch.backends.mkldnn.is_available() else x  # type: ignore[no-untyped-call]


def _checked(
    X: ArrayLike, y: ArrayLike, x_name: str, y_name: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return data (n, ...) and classes (n,) as arrays, after checking both."""
    try:
        data, truth = np.asarray(X), np.asarray(y)
    except ValueError as error:
        raise InputError(
            f"{x_name} must have rows of one length, but they differ ({error}); pad or drop some."
        ) from None
    if data.dtype == np.bool_:
        data = data.astype(np.float32)
    if data.ndim not in (2, 3) or not len(data) or truth.shape != (len(data),):
        raise InputError(
            f"{x_name} must have shape (points, features) or (points, height, width) and {y_name} "
            f"shape (points,), got {data.shape} and {truth.shape}; give one class a row."
        )
    if not np.issubdtype(data.dtype, np.number) or not np.isfinite(data).all():
        rows = "a text or object array" if data.dtype.kind not in "iufb" else _first_bad(data)
        raise InputError(
            f"{x_name} must hold finite numbers, got {rows}; fill in or drop such rows."
        )
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0:
        raise InputError(
            f"{y_name} must hold classes as integers >= 0, got {truth.dtype} values such as "
            f"{_invalid_class(truth)!s}; number the classes."
        )
    return data, truth.astype(np.int64)


def _invalid_class(truth: NDArray[Any]) -> Any:
    """Return a value that is no class: a negative integer, or the first of another dtype."""
    whole = np.issubdtype(truth.dtype, np.integer)
    return truth.min() if whole else truth.flat[0]


def _first_bad(data: NDArray[Any]) -> str:
    row = int(np.flatnonzero(~np.isfinite(data.reshape(len(data), -1)).all(axis=1))[0])
    return f"NaN or Inf in row {row}"
