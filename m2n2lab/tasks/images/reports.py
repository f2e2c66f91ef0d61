"""Reports on models that draw: Fréchet distance to photographs, and agreement of two languages.

Both are measured after a search, and are no scores of one: a Fréchet distance has none for a single
picture, and the agreement of languages would be best for a model that draws one picture for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from m2n2lab.tasks.images.diffusion import Painter, Prompt
from m2n2lab.tasks.images.judges import read_photograph
from m2n2lab.tasks.images.picture_models import PictureModel
from m2n2lab.tasks.images.scorers import PictureScorer, checked_scores
from m2n2lab.utils.arrays import Floats
from m2n2lab.utils.errors import InputError
from m2n2lab.utils.progress import Meter, Watch


class PictureReport(NamedTuple):
    """What a model's pictures are like; NaN for what was not asked for.

    Attributes:
        score: mean score of the pictures for their prompts.
        distance: Fréchet distance of their features to those of photographs; the FID if the
            features are Inception's, else comparable only with distances by the same model.
        agreement: mean cosine of the features of pictures for a prompt and its translation, drawn
            from the same noise (cross-lingual consistency, arXiv 2508.16204, table 3).
    """

    score: float
    distance: float
    agreement: float


class Reporter:
    """Draws a model's pictures once and reports on them.

    Args:
        prompts: what is drawn.
        painter: steps, size and other options of drawing.
        features: a model that embeds pictures; needed for ``photographs`` and ``translations``.
        photographs: files of photographs, at least two.
        translations: the prompts in another language, in the same order.
        scorer: scores pictures.

    Raises:
        InputError: there is nothing to report, translations are not as many as prompts, or there
            are no features to compare.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        painter: Painter,
        features: PictureModel | None = None,
        photographs: Sequence[Path] = (),
        translations: Sequence[Prompt] = (),
        scorer: PictureScorer | None = None,
    ) -> None:
        if not photographs and not translations and scorer is None:
            raise InputError(
                "A report needs photographs, translations or a scorer, got none; give one of them."
            )
        if (photographs or translations) and features is None:
            raise InputError(
                "Photographs and translations are compared by features of pictures, got no model "
                "for them; give a CLIP, such as openai/clip-vit-base-patch32."
            )
        if translations and len(translations) != len(prompts):
            raise InputError(
                f"There must be a translation of each of the {len(prompts)} prompts, got "
                f"{len(translations)}; write one on each line, in the same order."
            )
        if photographs and min(len(photographs), len(prompts)) < 2:
            raise InputError(
                f"A Fréchet distance needs two or more pictures and photographs, got "
                f"{len(prompts)} and {len(photographs)}; give more."
            )
        self.prompts, self.painter, self.features = tuple(prompts), painter, features
        # From the same noise, so that only the words differ.
        self.translations = tuple(
            other._replace(noise=prompt.seed)
            for prompt, other in zip(prompts, translations, strict=False)
        )
        self.scorer = scorer
        if scorer is not None:
            scorer.check(prompts)
        self._photographs = tuple(photographs)
        self._photos: list[Floats] = []

    def report(self, model: Any, watch: Watch | None = None) -> PictureReport:
        """Return the report on a pipeline.

        Raises:
            Halted: it was stopped.
            InputError: the model is no pipeline, or the scorer fails.
        """
        watch = watch or Watch()
        photos = self._of_photographs(watch)
        meter = Meter(watch, len(self.prompts) + len(self.translations), "picture")
        vectors, scores = self._drawn(model, self.prompts, watch, meter, self.scorer)
        distance = agreement = float("nan")
        if len(photos):
            distance = frechet_distance(vectors, photos)
        if self.translations:
            others, _ = self._drawn(model, self.translations, watch, meter)
            agreement = float(np.einsum("nd,nd->n", vectors, others).mean())
        return PictureReport(
            float(np.mean(scores)) if scores else float("nan"), distance, agreement
        )

    def _of_photographs(self, watch: Watch) -> Floats:
        """Return the features (n, d) of the photographs, which are read once."""
        meter = Meter(watch, len(self._photographs), "photograph")
        meter.add(len(self._photos), 0, known=True)
        for path in self._photographs[len(self._photos) :]:
            watch.check()
            assert self.features is not None  # as checked
            self._photos.append(self.features.embed([read_photograph(path)])[0])
            meter.add(1, 0)
        return np.array(self._photos)

    def _drawn(
        self,
        model: Any,
        prompts: Sequence[Prompt],
        watch: Watch,
        meter: Meter,
        scorer: PictureScorer | None = None,
    ) -> tuple[Floats, list[float]]:
        """Return features (n, d) and scores (n,) of a model's pictures, which are not kept."""
        vectors: list[Floats] = []
        scores: list[float] = []
        for batch in self.painter.batches(model, prompts, watch, meter.step):
            if self.features is not None:
                vectors.append(self.features.embed(batch.pictures))
            if scorer is not None:
                shown = [prompts[index] for index in batch.indices]
                scores += checked_scores(scorer.score(batch.pictures, shown), len(shown)).tolist()
            meter.add(len(batch.indices), 0)
        return np.concatenate(vectors) if vectors else np.zeros((0, 0)), scores


def frechet_distance(x: Floats, y: Floats) -> float:
    """Return the Fréchet distance of normal distributions fitted to features (n, d) and (m, d).

    ‖μ_x − μ_y‖² + tr(Σ_x + Σ_y − 2 (Σ_x Σ_y)^½) (Heusel et al., arXiv 1706.08500).
    """
    shift = x.mean(axis=0) - y.mean(axis=0)
    a, b = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (x, y))
    values, basis = np.linalg.eigh(a)
    root = (basis * np.sqrt(values.clip(0))) @ basis.T
    # Σ_x Σ_y has the eigenvalues of Σ_x^½ Σ_y Σ_x^½, which is symmetric.
    common = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    return float(max(shift @ shift + np.trace(a) + np.trace(b) - 2.0 * common, 0.0))
