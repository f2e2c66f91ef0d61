"""Text to image: models scored by how well their pictures match the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2n2lab.core.spaces.space import Space
from m2n2lab.core.task import Sample, mean_by_group
from m2n2lab.tasks.answer_cache import CachingTask
from m2n2lab.tasks.images.diffusion import Painter, Prompt, checked_prompt
from m2n2lab.tasks.images.scorer_names import scorer_of
from m2n2lab.tasks.images.scorers import PictureScorer, Scorer, checked_scores
from m2n2lab.tasks.registry import records_origin
from m2n2lab.utils.arrays import Bytes, Indices
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.files import read_text

MAX_SHOWN_PIXELS = 256
"""Longest side of pictures that are kept for display; they are scored at full size."""


class Drawn(NamedTuple):
    """A picture drawn by a member.

    Attributes:
        prompt: its prompt.
        picture: (H, W, 3) red, green and blue in 0..255, at most ``MAX_SHOWN_PIXELS`` a side.
        score: how well it matches the prompt, in [0, 1]; 0 if it is flawed.
        flaw: why it is no picture, such as NaN; ``""`` for all others.
    """

    prompt: Prompt
    picture: Bytes
    score: float
    flaw: str = ""


class Text2Image(CachingTask):
    """Prompts for pipelines of diffusers, with a score in [0, 1] for each picture.

    Args:
        prompts: the D prompts to search on.
        held_out: prompts that the search never sees.
        scorer: a scorer by name, or a weighted sum of several (see ``scorer_of``); a CLIP of
            transformers by folder or hub id; or any function of pictures (n, H, W, 3) in 0..255
            and prompts (n,) that returns (n,) numbers in [0, 1]. By default the embedded scorer,
            which understands the captions of the zoo's shapes.
        steps: denoising steps; the pipeline's own number by default.
        guidance: scale of classifier-free guidance; the pipeline's own by default.
        batch: pictures drawn together; by default few if they are large.
        size: pixels along a side; the pipeline's own size by default.
        negative: a text that pictures are guided away from.
        name: name of the task in views.

    Raises:
        InputError: there are no prompts, a prompt is empty or too long, a number is out of
            bounds, or the scorer cannot be loaded.
    """

    unit: ClassVar[str] = "picture"

    def __init__(
        self,
        prompts: Sequence[Prompt],
        held_out: Sequence[Prompt] = (),
        *,
        scorer: str | Path | Scorer | PictureScorer | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        batch: int | None = None,
        size: int | None = None,
        negative: str | None = None,
        name: str = "text2image",
    ) -> None:
        if not prompts:
            raise InputError(
                "A text-to-image task needs at least one prompt to search on, got none; give a "
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
        self.painter = Painter(steps, guidance, batch, size, negative)
        if scorer is None:
            from m2n2lab.tasks.images.shape_scores import shape_scores

            scorer = shape_scores
        self._scorer = scorer_of(scorer)
        self._scorer.check((*prompts, *held_out))

    def _groups(self, prompts: Sequence[Prompt]) -> Indices:
        return np.array([self.languages.index(prompt.language) for prompt in prompts], np.intp)

    def check_space(self, space: Space) -> None:
        """Check that the seeds are pipelines.

        Raises:
            InputError: they are not.
        """
        check_pipelines(space)

    # -- drawing -----------------------------------------------------------------------------------

    def draw(self, model: Any, prompts: Sequence[Prompt], score: bool = True) -> list[Drawn]:
        """Return a model's pictures for prompts (n,), drawing those that are not cached.

        Args:
            model: a pipeline.
            prompts: the prompts.
            score: whether to score the pictures; their scores are NaN otherwise.

        Raises:
            Halted: the evaluation was stopped; pictures drawn so far are kept.
            InputError: the model is no pipeline, or the scorer fails.
        """
        known = self._known(model)
        keys = [_key(prompt, score) for prompt in prompts]
        new = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
        meter = self.meter(len(prompts))
        meter.add(sum(key in known for key in keys), 0, known=True)
        asked = list(new.values())
        for batch in self.painter.batches(model, asked, self._watch, meter.step):
            shown = [asked[index] for index in batch.indices]
            scores = np.full(len(shown), np.nan)
            if score:
                found = self._scorer.score(batch.pictures, shown)
                scores = checked_scores(found, len(shown)).copy()
                scores[[bool(flaw) for flaw in batch.flaws]] = 0.0
            for prompt, picture, value, flaw in zip(
                shown, batch.pictures, scores.tolist(), batch.flaws, strict=True
            ):
                known[_key(prompt, score)] = Drawn(prompt, shrunk(picture), value, flaw)
            meter.add(sum(key in known for key in keys) - meter.done, 0)
        return [known[key] for key in keys]

    def exhibits(self, many: int = 4) -> list[Prompt]:
        """Return prompts for display: ``many`` of each language, varied, held-out ones first.

        Prompts of several languages that share their noise are shown together.
        """
        chosen: list[Prompt] = []
        for language in self.languages:
            mine = [prompt for prompt in self._test if prompt.language == language]
            others = [prompt for prompt in self.prompts if prompt.language == language]
            twins = [
                prompt
                for seed in dict.fromkeys(prompt.seed for prompt in chosen)
                for prompt in (*mine, *others)
                if prompt.seed == seed
            ]
            picked = _varied(mine, many, twins[:many])
            chosen += _varied(others, many, picked)
        return chosen

    # -- the task's interface ----------------------------------------------------------------------

    def score(self, model: Any, indices: Indices | None) -> NDArray[np.float64]:
        """Return how well a model's pictures match their prompts, (n,)."""
        where = range(self.points) if indices is None else indices.tolist()
        drawn = self.draw(model, [self.prompts[index] for index in where])
        return np.array([each.score for each in drawn])

    def held_out(self, model: Any) -> float:
        """Return the mean of the languages' held-out scores; NaN without held-out prompts."""
        by_class = self.held_out_by_class(model)
        return float(np.nanmean(list(by_class.values()))) if by_class else super().held_out(model)

    def held_out_by_class(self, model: Any) -> dict[str, float]:
        """Return the mean held-out score of each language."""
        if not self._test:
            return {}
        scores = np.array([each.score for each in self.draw(model, self._test)])
        return mean_by_group(scores, self._groups(self._test), self.languages)

    def samples(self, model: Any, indices: ArrayLike) -> list[Sample]:
        """Return prompts with a model's pictures and their scores."""
        where = self.checked_indices(indices).tolist()
        drawn = self.draw(model, [self.prompts[index] for index in where])
        return [_sample(index, each) for index, each in zip(where, drawn, strict=True)]


def _key(prompt: Prompt, score: bool) -> tuple[Any, ...]:
    """Return what a picture depends on, under which it is cached."""
    return prompt.text, prompt.seed, prompt.photograph, score


def check_pipelines(space: Space) -> None:
    """Check that the seeds of a space are pipelines, the first one a whole one to draw with.

    Raises:
        InputError: they are not.
    """
    from m2n2lab.checkpoint import CheckpointSpace

    if not isinstance(space, CheckpointSpace) or space.given_module:
        return
    if space.plan.base.is_picture_file:
        return  # a pipeline is built of it, or it is told why not
    if space.plan.base.kind != "diffusers":
        raise InputError(
            f"Seeds of this task must be pipelines of diffusers, folders with a "
            f"model_index.json, or single files of picture models, but {space.plan.base.id} is "
            f"neither; give such models."
        )
    if not (space.plan.base.path / "model_index.json").is_file():
        raise InputError(
            f"The first seed of this task must be a whole pipeline to draw with, but "
            f"{space.plan.base.id} has no model_index.json; name a pipeline first."
        )


def _varied(prompts: Sequence[Prompt], count: int, chosen: Sequence[Prompt]) -> list[Prompt]:
    """Return ``chosen`` and as many prompts as ``count`` leaves, each the one with most new words.

    Texts without spaces, such as Japanese ones, are compared by character.
    """

    def words(prompt: Prompt) -> set[str]:
        return set(prompt.text.split() if " " in prompt.text else prompt.text)

    found = list(chosen)
    left = [prompt for prompt in prompts if prompt not in found]
    shown = set[str]().union(*map(words, found))
    while left and len(found) < count:
        best = max(left, key=lambda prompt: len(words(prompt) - shown)) if shown else left[0]
        left.remove(best)
        found.append(best)
        shown |= words(best)
    return found


def _sample(index: int, drawn: Drawn) -> Sample:
    return Sample(
        index,
        truth="",
        prediction=f"{drawn.score:.2f}" + (f" ({drawn.flaw})" if drawn.flaw else ""),
        right=drawn.score >= 0.5,
        image=(drawn.picture / np.float32(255)).astype(np.float32),
        text=drawn.prompt.text,
    )


def shrunk(picture: Bytes) -> Bytes:
    """Return a picture of at most ``MAX_SHOWN_PIXELS`` a side, to save memory."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((MAX_SHOWN_PIXELS, MAX_SHOWN_PIXELS))  # does not enlarge small ones
    return np.asarray(image)


def read_prompts(path: Path) -> list[Prompt]:
    """Read the prompts of a text file, one a line; behind a tab may be a photograph's file name.

    Raises:
        InputError: the file cannot be read, or is empty.
    """
    try:
        lines = read_text(path).removeprefix("\ufeff").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} must be a text file with a prompt on each line, but it cannot be read "
            f"({error}); check the path."
        ) from None
    found = []
    for line in filter(str.strip, lines):
        text, _, photograph = line.partition("\t")
        found.append(Prompt(checked_prompt(text.strip()), photograph=photograph.strip()))
    if not found:
        raise InputError(f"{path} must have a prompt on each line, but it is empty; write some.")
    return found


@records_origin
def text2image(
    data: str | Path, limit: int | None = None, held_out: int | None = None, **options: Any
) -> Text2Image:
    """Return the task of a file of prompts: the first 80 % to search on, the rest held out.

    Args:
        data: a text file with a prompt on each line (see ``read_prompts``).
        limit: number of prompts to search on; four fifths by default.
        held_out: number of held-out prompts, which follow; all by default.
        options: as for ``Text2Image``.

    Raises:
        InputError: the file cannot be read or is empty, or as for ``Text2Image``.
    """
    found = read_prompts(Path(data))
    count = max(len(found) * 4 // 5, 1) if limit is None else min(limit, len(found))
    rest = found[count:]
    return Text2Image(found[:count], rest if held_out is None else rest[:held_out], **options)
