"""Pictures from a diffusers pipeline, in batches, with progress and interruption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from m2n2lab.tasks.language.generation import ignore_out_of_memory
from m2n2lab.utils.arrays import Bytes
from m2n2lab.utils.errors import InputError, real_number, whole_number
from m2n2lab.utils.progress import Watch

MAX_PROMPT_CHARS = 1_000
"""Longest prompt: many times longer than text encoders read."""


class Prompt(NamedTuple):
    """A prompt, with its group and the seed of its noise.

    Attributes:
        text: the prompt.
        language: the name of its group.
        noise: seed of the noise; derived from the text by default.
    """

    text: str
    language: str = "all"
    noise: int | None = None

    @property
    def seed(self) -> int:
        """The seed of the noise."""
        return noise_of(self.text) if self.noise is None else self.noise


def noise_of(text: str) -> int:
    """Return the default seed of the noise for a text."""
    return int.from_bytes(sha256(text.encode(errors="surrogatepass")).digest()[:4], "big")


def checked_prompt(text: str) -> str:
    """Return a prompt after checking its length.

    Raises:
        InputError: the prompt is empty or too long.
    """
    if not text.strip() or len(text) > MAX_PROMPT_CHARS:
        got = f"{len(text):,}" if text.strip() else "none"
        raise InputError(
            f"A prompt must have 1 to {MAX_PROMPT_CHARS:,} characters, got {got}; say in a few "
            f"words what the picture shall show."
        )
    return text


class PictureBatch(NamedTuple):
    """Pictures of one batch.

    Attributes:
        indices: (n,) indices of their prompts.
        pictures: (n, H, W, 3) red, green and blue in 0..255.
    """

    indices: range
    pictures: Bytes


class Painter:
    """Generator of pictures with any text-to-image pipeline of diffusers, in few steps.

    The noise of a picture depends on its prompt alone, so a picture does not depend on its batch,
    and members that draw from the same noise can be compared. When memory runs out, the batch size
    is halved permanently and drawing continues.

    A pipeline without a VAE denoises the picture itself: its output has 3 f² channels, into which
    squares of f × f pixels are folded.

    Args:
        steps: denoising steps.
        guidance: scale of classifier-free guidance; 1 is none.
        batch: pictures drawn together.
        size: pixels along a side; the pipeline's own size by default.

    Raises:
        InputError: a number is out of bounds.
    """

    def __init__(
        self, steps: int = 6, guidance: float = 2.0, batch: int = 24, size: int | None = None
    ) -> None:
        self.steps = whole_number("steps", steps, 1)
        self.guidance = real_number("guidance", guidance, 0.0, 100.0)
        self.batch = whole_number("batch", batch, 1)
        self.size = None if size is None else whole_number("size", size, 8)

    def batches(
        self, pipeline: Any, prompts: Sequence[Prompt], watch: Watch | None = None
    ) -> Iterator[PictureBatch]:
        """Yield the pictures of prompts (n,) batch by batch, in order.

        Raises:
            Halted: the evaluation was stopped.
            InputError: the model is no pipeline, or a single picture does not fit into memory.
        """
        watch = watch or Watch()
        check_pipeline(pipeline)
        start = 0
        while start < len(prompts):
            watch.check()
            indices = range(start, min(start + self.batch, len(prompts)))
            pictures = None
            # The exception must be dropped before the next try: its traceback keeps tensors alive.
            with ignore_out_of_memory():
                pictures = self._draw(pipeline, [prompts[index] for index in indices], watch)
            if pictures is not None:
                start = indices.stop
                yield PictureBatch(indices, pictures)
                continue
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(indices) == 1:
                raise InputError(
                    "A single picture must fit into memory, but does not; use a smaller size or "
                    "dtype."
                )
            self.batch = len(indices) // 2

    @torch.inference_mode()
    def _draw(self, pipeline: Any, prompts: Sequence[Prompt], watch: Watch) -> Bytes:
        def after_step(_: Any, step: int, time: Any, values: dict[str, Any]) -> dict[str, Any]:
            watch.check()
            return values

        vae = getattr(pipeline, "vae", None)
        folded, vae_dtype = vae is None, getattr(vae, "dtype", None)
        pipeline.set_progress_bar_config(disable=True)
        try:
            made = pipeline(
                prompt=[prompt.text for prompt in prompts],
                height=self.size,
                width=self.size,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                # Noise is drawn on the CPU, so that it is the same on every device.
                generator=[torch.Generator("cpu").manual_seed(prompt.seed) for prompt in prompts],
                output_type="latent" if folded else "np",
                callback_on_step_end=after_step,
            ).images
        finally:
            # Some pipelines decode in single precision, and do not return when interrupted.
            if vae is not None and vae.dtype != vae_dtype:
                vae.to(vae_dtype)
        pictures = _unfolded(made) if folded else np.asarray(made)
        # A merge may draw NaN, which is no colour.
        return (np.nan_to_num(pictures).clip(0, 1) * 255).round().astype(np.uint8)


def _unfolded(made: torch.Tensor) -> NDArray[np.float32]:
    """Return (n, S, S, 3) pictures of (n, 3 f², S/f, S/f) values in [−1, 1]."""
    fold = round((made.shape[1] / 3) ** 0.5)
    flat = torch.nn.functional.pixel_shuffle(made.float().cpu(), fold)
    return np.asarray((flat / 2 + 0.5).permute(0, 2, 3, 1).numpy())


def check_pipeline(pipeline: Any) -> None:
    """Check that a model is a text-to-image pipeline.

    Raises:
        InputError: it is not.
    """
    if not callable(pipeline) or not hasattr(pipeline, "set_progress_bar_config"):
        raise InputError(
            f"The model must be a text-to-image pipeline of diffusers, got "
            f"{type(pipeline).__name__}; use seeds that are folders with a model_index.json."
        )
