"""Pictures from a diffusers pipeline, in batches, with progress and interruption."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from m2n2lab.tasks.language.generation import ignore_out_of_memory
from m2n2lab.utils.arrays import Bytes
from m2n2lab.utils.errors import InputError, real_number, whole_number
from m2n2lab.utils.progress import Watch

Stepped = Callable[[int, int, int], object]
"""Called with the number of a denoising step from 1, their number, and that of the pictures."""

MAX_PROMPT_CHARS = 1_000
"""Longest prompt: many times longer than text encoders read."""

MAX_GUIDANCE = 100.0
"""Largest scale of guidance; pictures are saturated long before."""

MAX_BATCH, BATCH_PIXELS = 24, 2 * 1_024**2
"""Default batch: at most so many pictures, and so many pixels together unless it is one."""

NEUTRAL = " "
"""Negative prompt of pipelines whose guidance does nothing without one."""

NOT_FINITE = "NaN: numbers too large for the dtype; try --dtype bf16 or fp32"
BLACK = "all black, as from numbers too large for the dtype or a safety checker"
"""Why a picture is none."""

OPTION_NAMES = {"negative_prompt": "a negative prompt", "guidance_scale": "guidance"}
"""Arguments of pipelines, as users name them."""


class Prompt(NamedTuple):
    """A prompt, with its group and the seed of its noise.

    Attributes:
        text: the prompt.
        language: the name of its group.
        noise: seed of the noise; derived from the text by default.
        photograph: file name of a photograph that the text describes; ``""`` without one.
    """

    text: str
    language: str = "all"
    noise: int | None = None
    photograph: str = ""

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
        flaws: (n,) why a picture is none, such as NaN; ``""`` for all others.
    """

    indices: range
    pictures: Bytes
    flaws: tuple[str, ...]


class Painter:
    """Generator of pictures with any text-to-image pipeline of diffusers.

    The noise of a picture depends on its prompt alone, so a picture does not depend on its batch,
    and members that draw from the same noise can be compared. When memory runs out, the batch size
    is halved permanently and drawing continues.

    A pipeline without a VAE denoises the picture itself: its output has 3 f² channels, into which
    squares of f × f pixels are folded.

    Args:
        steps: denoising steps; the pipeline's own number by default.
        guidance: scale of classifier-free guidance, 1 is none; the pipeline's own by default.
        batch: pictures drawn together; by default as many as have ``BATCH_PIXELS``.
        size: pixels along a side; the pipeline's own size by default.
        negative: a text that pictures are guided away from. Pipelines whose guidance does nothing
            without one get ``NEUTRAL`` by default.

    Raises:
        InputError: a number is out of bounds.
    """

    def __init__(
        self,
        steps: int | None = None,
        guidance: float | None = None,
        batch: int | None = None,
        size: int | None = None,
        negative: str | None = None,
    ) -> None:
        self.steps = None if steps is None else whole_number("steps", steps, 1)
        self.guidance = (
            None if guidance is None else real_number("guidance", guidance, 0.0, MAX_GUIDANCE)
        )
        self.batch = None if batch is None else whole_number("batch", batch, 1)
        self.size = None if size is None else whole_number("size", size, 8)
        self.negative = negative

    def batches(
        self,
        pipeline: Any,
        prompts: Sequence[Prompt],
        watch: Watch | None = None,
        stepped: Stepped = lambda *_: None,
    ) -> Iterator[PictureBatch]:
        """Yield the pictures of prompts (n,) batch by batch, in order.

        Args:
            pipeline: a text-to-image pipeline.
            prompts: the prompts.
            watch: asked before each batch and after each denoising step whether to go on.
            stepped: called after each denoising step.

        Raises:
            Halted: the evaluation was stopped.
            InputError: the model is no pipeline, or a single picture does not fit into memory.
        """
        watch = watch or Watch()
        check_pipeline(pipeline)
        batch = default_batch(pipeline, self.size) if self.batch is None else self.batch
        start = 0
        while start < len(prompts):
            watch.check()
            indices = range(start, min(start + batch, len(prompts)))
            drawn = None
            # The exception must be dropped before the next try: its traceback keeps tensors alive.
            with ignore_out_of_memory():
                drawn = self._draw(pipeline, [prompts[i] for i in indices], watch, stepped)
            if drawn is not None:
                start = indices.stop
                yield PictureBatch(indices, *drawn)
                continue
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(indices) == 1:
                raise InputError(
                    "A single picture must fit into memory, but does not; use a smaller size or "
                    "dtype."
                )
            self.batch = batch = len(indices) // 2

    @torch.inference_mode()
    def _draw(
        self, pipeline: Any, prompts: Sequence[Prompt], watch: Watch, stepped: Stepped
    ) -> tuple[Bytes, tuple[str, ...]]:
        vae = getattr(pipeline, "vae", None)
        folded, vae_dtype = vae is None, getattr(vae, "dtype", None)
        pipeline.set_progress_bar_config(disable=True)
        hook = None
        casts = logging.getLogger("diffusers.models.modeling_utils")
        level = casts.level

        def after(step: int) -> None:
            watch.check()
            timesteps = getattr(getattr(pipeline, "scheduler", None), "timesteps", ())
            stepped(step, max(step, len(timesteps)), len(prompts))

        options, calls_back = self._options(pipeline, len(prompts), after)
        denoiser = _denoiser(pipeline)
        if not calls_back and denoiser is not None:  # asked before each of its passes
            hook = denoiser.register_forward_pre_hook(lambda *_: watch.check())
        try:
            # Pipelines that decode in single precision cast their VAE for every batch, of which
            # diffusers warns each time, between the lines of a progress bar.
            casts.setLevel(logging.ERROR)
            made = pipeline(
                prompt=[prompt.text for prompt in prompts],
                # Noise is drawn on the CPU, so that it is the same on every device.
                generator=[torch.Generator("cpu").manual_seed(prompt.seed) for prompt in prompts],
                output_type="latent" if folded else "np",
                **options,
            ).images
        finally:
            if hook is not None:
                hook.remove()
            # Such pipelines do not cast it back when they are interrupted.
            if vae is not None and vae.dtype != vae_dtype:
                vae.to(vae_dtype)
            casts.setLevel(level)
        pictures = _unfolded(made) if folded else np.asarray(made)
        colours = (np.nan_to_num(pictures).clip(0, 1) * 255).round().astype(np.uint8)
        flaws = [
            (BLACK if not colour.any() else "") if np.isfinite(picture).all() else NOT_FINITE
            for picture, colour in zip(pictures, colours, strict=True)
        ]
        return colours, tuple(flaws)

    def _options(
        self, pipeline: Any, count: int, after: Callable[[int], object]
    ) -> tuple[dict[str, Any], bool]:
        """Return the arguments of a pipeline's call, and whether it calls ``after`` each step."""
        known = signature(pipeline.__call__).parameters

        def after_step(_: Any, step: int, time: Any, values: dict[str, Any]) -> dict[str, Any]:
            after(step + 1)
            return values

        options: dict[str, Any] = {}
        if "callback_on_step_end" in known:
            options["callback_on_step_end"] = after_step
        elif "callback" in known:
            options |= {"callback": lambda step, *_: after(step + 1), "callback_steps": 1}
        calls_back = bool(options)
        if self.size is not None:
            options |= dict.fromkeys(("height", "width"), _side(pipeline, self.size))
        if self.steps is not None:
            options["num_inference_steps"] = self.steps
        # Guidance by a negative prompt alone, where guidance_scale is for distilled models.
        scale = known["true_cfg_scale"].default if "true_cfg_scale" in known else None
        needs_negative = isinstance(scale, float) and scale > 1.0
        if self.guidance is not None:
            options["true_cfg_scale" if needs_negative else "guidance_scale"] = self.guidance
        negative = NEUTRAL if self.negative is None and needs_negative else self.negative
        if negative is not None:
            options["negative_prompt"] = [negative] * count
        for argument, name in OPTION_NAMES.items():
            if argument in options and argument not in known:
                raise InputError(
                    f"{type(pipeline).__name__} must have the argument {argument} to use {name}, "
                    f"but has none; leave it out."
                )
        return options, calls_back


def _denoiser(pipeline: Any) -> Any:
    """Return the module that a pipeline calls in each step; ``None`` if it is not known."""
    return getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)


def default_batch(pipeline: Any, size: int | None = None) -> int:
    """Return how many pictures of a pipeline have ``BATCH_PIXELS`` together, at least one."""
    denoiser, side = _denoiser(pipeline), size
    if side is None:
        latents = getattr(getattr(denoiser, "config", None), "sample_size", None)
        folds = getattr(pipeline, "vae", None) is not None
        factor = getattr(pipeline, "vae_scale_factor", 8) if folds else 1
        side = latents * factor if isinstance(latents, int) else 1_024
    return min(max(BATCH_PIXELS // side**2, 1), MAX_BATCH)


def _side(pipeline: Any, size: int) -> int:
    """Return the height that a pipeline is asked for, so that its pictures have ``size`` pixels."""
    if getattr(pipeline, "vae", None) is not None:
        return size
    # It counts on a VAE that enlarges what the denoiser makes, which squares of pixels do instead.
    fold = _fold(_denoiser(pipeline).config.out_channels)
    return size // fold * int(getattr(pipeline, "vae_scale_factor", 1))


def _fold(channels: int) -> int:
    """Return the side f of the squares of pixels that 3 f² channels hold."""
    return round(math.sqrt(channels / 3))


def _unfolded(made: torch.Tensor) -> NDArray[np.float32]:
    """Return (n, S, S, 3) pictures of (n, 3 f², S/f, S/f) values in [−1, 1]."""
    flat = torch.nn.functional.pixel_shuffle(made.float().cpu(), _fold(made.shape[1]))
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
