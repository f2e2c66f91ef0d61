"""Pictures from a diffusers pipeline, in batches, with progress and a way to stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from m2n2lab.tasks.language.generation import out_of_memory
from m2n2lab.utils.arrays import Bytes
from m2n2lab.utils.errors import InputError, real_number, whole_number
from m2n2lab.utils.progress import Watch

LONGEST_PROMPT = 1_000
"""Characters of a prompt: many times what text encoders read."""


class Prompt(NamedTuple):
    """What a picture is asked for with.

    Attributes:
        text: the prompt.
        language: the name of its group.
        noise: number that the noise is drawn from; by default it follows from the text.
    """

    text: str
    language: str = "all"
    noise: int | None = None

    @property
    def seed(self) -> int:
        """The number that the noise is drawn from."""
        return noise_of(self.text) if self.noise is None else self.noise


def noise_of(text: str) -> int:
    """Return the number that a text's noise is drawn from."""
    return int.from_bytes(sha256(text.encode(errors="surrogatepass")).digest()[:4], "big")


def checked_prompt(text: str) -> str:
    """Return a prompt that pipelines can be asked with.

    Raises:
        InputError: nothing in it, or too much.
    """
    if not text.strip() or len(text) > LONGEST_PROMPT:
        came = f"one of {len(text):,} characters" if text.strip() else "an empty one"
        raise InputError(
            f"A prompt must have 1 to {LONGEST_PROMPT:,} characters, but {came} came; say in a few "
            f"words what the picture shall show."
        )
    return text


class Painted(NamedTuple):
    """Pictures that were made together.

    Attributes:
        places: (n,) which prompts they were made for.
        pictures: (n, H, W, 3) red, green and blue from 0 to 255.
    """

    places: range
    pictures: Bytes


class Painter:
    """Draws with any text-to-image pipeline of diffusers, in few steps.

    The noise that a picture is made from is drawn for its prompt alone, so a picture does not
    depend on which others it shares a batch with, and members that draw from the same noise can be
    compared. When memory runs out the batch is halved, for good, and work goes on.

    A pipeline without a VAE denoises the picture itself: what it makes has 3 f² channels, in which
    squares of f × f pixels are folded.

    Args:
        steps: denoising steps.
        guidance: scale of classifier-free guidance; 1 is none.
        batch: pictures made together.
        size: pixels along a side; what the pipeline is made for by default.

    Raises:
        InputError: numbers out of bounds.
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
    ) -> Iterator[Painted]:
        """Yield the pictures of prompts (n,) batch by batch, in their order.

        Raises:
            Halted: somebody asked to stop.
            InputError: a pipeline that cannot draw, or no memory for a single picture.
        """
        watch = watch or Watch()
        check_pipeline(pipeline)
        start = 0
        while start < len(prompts):
            watch.check()
            places = range(start, min(start + self.batch, len(prompts)))
            pictures = None
            # What failed must be let go of before the next try: a traceback keeps its tensors.
            with out_of_memory():
                pictures = self._paint(pipeline, [prompts[place] for place in places], watch)
            if pictures is not None:
                start = places.stop
                yield Painted(places, pictures)
                continue
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(places) == 1:
                raise InputError(
                    "A single picture must fit into memory, but does not; use a smaller size or "
                    "dtype."
                )
            self.batch = len(places) // 2

    @torch.inference_mode()
    def _paint(self, pipeline: Any, prompts: Sequence[Prompt], watch: Watch) -> Bytes:
        def stepped(_: Any, step: int, time: Any, values: dict[str, Any]) -> dict[str, Any]:
            watch.check()
            return values

        folded = getattr(pipeline, "vae", None) is None
        pipeline.set_progress_bar_config(disable=True)
        made = pipeline(
            prompt=[prompt.text for prompt in prompts],
            height=self.size,
            width=self.size,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            # On the CPU whatever the pipeline's device is: the same noise everywhere.
            generator=[torch.Generator("cpu").manual_seed(prompt.seed) for prompt in prompts],
            output_type="latent" if folded else "np",
            callback_on_step_end=stepped,
        ).images
        pictures = _unfolded(made) if folded else np.asarray(made)
        # A merge may well draw NaN, which is no colour.
        return (np.nan_to_num(pictures).clip(0, 1) * 255).round().astype(np.uint8)


def _unfolded(made: torch.Tensor) -> NDArray[np.float32]:
    """Return (n, S, S, 3) pictures of (n, 3 f², S/f, S/f) values in [−1, 1]."""
    fold = round((made.shape[1] / 3) ** 0.5)
    flat = torch.nn.functional.pixel_shuffle(made.float().cpu(), fold)
    return np.asarray((flat / 2 + 0.5).permute(0, 2, 3, 1).numpy())


def check_pipeline(pipeline: Any) -> None:
    """See that a model can be asked for pictures.

    Raises:
        InputError: it cannot.
    """
    if not callable(pipeline) or not hasattr(pipeline, "set_progress_bar_config"):
        raise InputError(
            f"Pictures are drawn by a text-to-image pipeline of diffusers, but a "
            f"{type(pipeline).__name__} came; use seeds that are folders with a model_index.json."
        )
