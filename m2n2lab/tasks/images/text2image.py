"""Text to image: how well the pictures that a model draws fit their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2n2lab.core.spaces.space import Space
from m2n2lab.core.task import Sample, mean_by_group
from m2n2lab.tasks.answer_cache import RememberingTask
from m2n2lab.tasks.images.clip_scores import Clip, Scorer, checked_scores
from m2n2lab.tasks.images.diffusion import Painter, Prompt, checked_prompt
from m2n2lab.tasks.registry import remembered
from m2n2lab.utils.arrays import Bytes, Indices
from m2n2lab.utils.errors import InputError

SHOWN = 256
"""Pixels along a side of pictures that are kept to be shown; scored ones are whole."""


class Drawn(NamedTuple):
    """What a member drew.

    Attributes:
        prompt: what it was asked for.
        picture: (H, W, 3) red, green and blue from 0 to 255, of at most ``SHOWN`` pixels a side.
        score: how well that fits, in [0, 1].
    """

    prompt: Prompt
    picture: Bytes
    score: float


class Text2Image(RememberingTask):
    """Prompts for which a pipeline of diffusers draws, each picture scored in [0, 1].

    Args:
        prompts: the D prompts to search on.
        held_out: prompts that the search never sees.
        scorer: a CLIP of transformers by folder or hub id, or any function of pictures
            (n, H, W, 3) from 0 to 255 and prompts (n,) that returns (n,) numbers in [0, 1]; by
            default the embedded one, which knows the captions of the zoo's shapes.
        steps: denoising steps.
        guidance: scale of classifier-free guidance.
        batch: pictures made together.
        size: pixels along a side; what the pipeline is made for by default.
        name: what views call the task.

    Raises:
        InputError: no prompts, empty or endless ones, numbers out of bounds, no such scorer.
    """

    unit: ClassVar[str] = "picture"

    def __init__(
        self,
        prompts: Sequence[Prompt],
        held_out: Sequence[Prompt] = (),
        *,
        scorer: str | Path | Scorer | None = None,
        steps: int = 6,
        guidance: float = 2.0,
        batch: int = 24,
        size: int | None = None,
        name: str = "text2image",
    ) -> None:
        if not prompts:
            raise InputError(
                "A task of pictures needs at least one prompt to search on, but none came; give a "
                "file with prompts, or a larger limit."
            )
        for prompt in (*prompts, *held_out):
            checked_prompt(prompt.text)
        self.languages = tuple(dict.fromkeys(p.language for p in (*prompts, *held_out)))
        super().__init__(
            len(prompts),
            name=name,
            graded=True,
            classes=self.languages,
            groups=self._groups(prompts),
            names=[prompt.text for prompt in prompts],
        )
        self.prompts, self._test = tuple(prompts), tuple(held_out)
        self.painter = Painter(steps, guidance, batch, size)
        self._scorer: Scorer
        if scorer is None:
            from m2n2lab.tasks.images.shape_scores import shape_scores

            self._scorer = shape_scores
        else:
            self._scorer = Clip(scorer) if isinstance(scorer, str | Path) else scorer

    def _groups(self, prompts: Sequence[Prompt]) -> Indices:
        return np.array([self.languages.index(prompt.language) for prompt in prompts], np.intp)

    def check_space(self, space: Space) -> None:
        """See that the seeds are pipelines.

        Raises:
            InputError: they are not.
        """
        from m2n2lab.checkpoint import CheckpointSpace

        if isinstance(space, CheckpointSpace) and not space.given_module:
            kind = space.plan.base.kind
            if kind != "diffusers":
                raise InputError(
                    f"Pictures are drawn by pipelines of diffusers, folders with a "
                    f"model_index.json, but {space.plan.base.id} is none; give such folders."
                )

    # -- drawing -----------------------------------------------------------------------------------

    def draw(self, model: Any, prompts: Sequence[Prompt], score: bool = True) -> list[Drawn]:
        """Return a model's pictures for prompts (n,), making those that are not known.

        Args:
            model: a pipeline.
            prompts: what it is asked for.
            score: whether to score them; NaN otherwise.

        Raises:
            Halted: somebody asked to stop; what was drawn until then is kept.
            InputError: a model that is no pipeline; a scorer that fails.
        """
        known = self._known(model)
        keys = [(prompt.text, prompt.seed, score) for prompt in prompts]
        new = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
        meter = self.meter(len(prompts))
        meter.add(sum(key in known for key in keys), 0)
        asked = list(new.values())
        for painted in self.painter.batches(model, asked, self._watch):
            texts = [asked[place].text for place in painted.places]
            scores = np.full(len(texts), np.nan)
            if score:
                scores = checked_scores(self._scorer(painted.pictures, texts), len(texts))
            for place, picture, value in zip(
                painted.places, painted.pictures, scores.tolist(), strict=True
            ):
                prompt = asked[place]
                known[prompt.text, prompt.seed, score] = Drawn(prompt, _shrunk(picture), value)
            meter.add(sum(key in known for key in keys) - meter.done, 0)
        return [known[key] for key in keys]

    def exhibits(self, many: int = 4) -> list[Prompt]:
        """Return prompts to be shown to a person: some of each language, held-out ones first."""
        every = (*self._test, *self.prompts)
        return [
            prompt
            for language in self.languages
            for prompt in [p for p in every if p.language == language][:many]
        ]

    # -- what a task does --------------------------------------------------------------------------

    def score(self, model: Any, indices: Indices | None) -> NDArray[np.float64]:
        """Return how well a model's pictures fit their prompts, (n,)."""
        where = range(self.points) if indices is None else indices.tolist()
        drawn = self.draw(model, [self.prompts[index] for index in where])
        return np.array([each.score for each in drawn])

    def held_out(self, model: Any) -> float:
        """Return the mean over the languages of their held-out scores; NaN without any."""
        by_class = self.held_out_by_class(model)
        return float(np.nanmean(list(by_class.values()))) if by_class else super().held_out(model)

    def held_out_by_class(self, model: Any) -> dict[str, float]:
        """Return the mean held-out score of each language."""
        if not self._test:
            return {}
        scores = np.array([each.score for each in self.draw(model, self._test)])
        return mean_by_group(scores, self._groups(self._test), self.languages)

    def samples(self, model: Any, indices: ArrayLike) -> list[Sample]:
        """Return prompts with the pictures that a model draws, and what these score."""
        where = self.checked_indices(indices).tolist()
        drawn = self.draw(model, [self.prompts[index] for index in where])
        return [_sample(index, each) for index, each in zip(where, drawn, strict=True)]


def _sample(index: int, drawn: Drawn) -> Sample:
    return Sample(
        index,
        truth="",
        prediction=f"{drawn.score:.2f}",
        right=drawn.score >= 0.5,
        image=(drawn.picture / np.float32(255)).astype(np.float32),
        text=drawn.prompt.text,
    )


def _shrunk(picture: Bytes) -> Bytes:
    """Return a picture of at most ``SHOWN`` pixels a side: those of many members are kept."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((SHOWN, SHOWN))  # which leaves small ones alone
    return np.asarray(image)


def read_prompts(path: Path) -> list[Prompt]:
    """Return the prompts of a text file, one a line.

    Raises:
        InputError: it cannot be read, or has none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} must be a text file with a prompt on each line, but it cannot be read "
            f"({error}); check the path."
        ) from None
    found = [Prompt(checked_prompt(line.strip())) for line in lines if line.strip()]
    if not found:
        raise InputError(f"{path} must have a prompt on each line, but it is empty; write some.")
    return found


@remembered
def text2image(
    data: str | Path, limit: int | None = None, held_out: int | None = None, **options: Any
) -> Text2Image:
    """Return prompts of a file: searched on its first 80 %, held out on the rest.

    Args:
        data: a text file with a prompt on each line.
        limit: prompts to search on; four fifths by default.
        held_out: prompts held out; those that follow, all by default.
        options: as for ``Text2Image``.

    Raises:
        InputError: a file that cannot be read or is empty; as for ``Text2Image``.
    """
    found = read_prompts(Path(data))
    many = max(len(found) * 4 // 5, 1) if limit is None else min(limit, len(found))
    rest = found[many:]
    return Text2Image(found[:many], rest if held_out is None else rest[:held_out], **options)
