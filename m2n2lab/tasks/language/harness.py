"""Any task of lm-evaluation-harness, with a score for each of its documents.

Gao et al., "The Language Model Evaluation Harness", doi:10.5281/zenodo.12608602. Prompts, answers,
filters and metrics are the harness's own; documents are scored one by one, so that each can be a
niche.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from m2n2lab.core.task import Sample, Task, Tasks
from m2n2lab.tasks.language.generation import (
    Generator,
    padding,
    rows_of,
    without_own_settings,
)
from m2n2lab.tasks.language.harness_source import load
from m2n2lab.tasks.language.task import LanguageTask
from m2n2lab.tasks.registry import records_origin
from m2n2lab.utils.arrays import Indices
from m2n2lab.utils.errors import InputError, choose, whole_number
from m2n2lab.utils.progress import Watch

BINARY_METRICS = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")
GROUP_AGGREGATIONS = ("f1_score", "matthews_corrcoef", "bypass_agg")
"""Aggregations that are undefined for one document."""

PERCENT_AGGREGATIONS = ("bleu", "chrf", "chrfpp")
LOSS_AGGREGATIONS = ("perplexity", "weighted_perplexity", "bits_per_byte", "ter", "brier_score")
"""Aggregations without an upper bound of 1, for which lower is better."""

SEED = 1234
"""Seed of the few-shot examples and of sampled answers, as in the harness."""


@dataclass(frozen=True)
class Outcome:
    """A member's result for one document.

    Attributes:
        score: in [0, 1].
        prompt: the prompt.
        answer: the generated text, or log-likelihoods.
        prediction: the answer in short.
    """

    score: float
    prompt: str
    answer: str
    prediction: str


class Harness(LanguageTask):
    """Documents of one task of the harness, with binary or graded scores.

    A document's score is the metric over this document alone, scaled to [0, 1]: percentages (BLEU,
    chrF) are divided by 100; where lower is better, a perplexity, bits per byte, TER, Brier score
    or ``loss`` x becomes 1 / (1 + x), and any other x in [0, 1] becomes 1 - x. A value that is not
    finite scores 0.

    Args:
        source: a name that the harness knows, or a YAML file.
        own: its name within ``source``, which may be a group.
        limit: number of documents to search on, from the front of the test split (or else the
            validation split); by default the first 80 %.
        held_out: number of held-out documents, which follow; by default the rest or, with a limit,
            a quarter of it.
        metric: one of the task's, such as ``"acc_norm"``, or with one of its filters
            ``"exact_match,flexible-extract"``; by default the first.
        loss: whether a metric for which lower is better has no upper bound.
        shots: examples in a prompt; by default those of the task.
        chat: whether prompts are written with the tokenizer's chat template.
        functions: whether a YAML file may contain Python code.
        batch: requests answered together.
        tokenizer: as for ``LanguageTask``.
        name: name of the task in views; by default the harness's name.
        loaded: the harness's task, if it is already loaded.

    Raises:
        InputError: as for ``load``; the metric is unknown, or undefined for one document.
    """

    def __init__(
        self,
        source: str | Path,
        own: str,
        *,
        limit: int | None = None,
        held_out: int | None = None,
        metric: str | None = None,
        loss: bool = False,
        shots: int | None = None,
        chat: bool = False,
        functions: bool = False,
        batch: int = 32,
        tokenizer: Any = None,
        name: str | None = None,
        loaded: Any = None,
    ) -> None:
        self._source, self._own_name, self._functions = source, own, functions
        self._shots = None if shots is None else whole_number("shots", shots, 0)
        self._task: Any = None
        self._requests: dict[str | None, list[list[Any]]] = {}
        self._use(loaded)
        total = len(self.task.eval_docs)
        if limit is None:
            count = max(int(total * 0.8), 1)
            tested = total - count
        else:
            count = whole_number("limit", limit, 1)
            tested = -(-count // 4)
        if held_out is not None:
            tested = whole_number("held_out", held_out, 0)
        # If there are too few documents for both, a fifth of them is held out.
        count = min(count, total - min(tested, total // 5))
        self._tested = range(count, min(count + tested, total))
        self._documents = [self.task.eval_docs[k] for k in range(self._tested.stop)]
        self.metric, self.filter = self._choose_metric(metric)
        self._scale = self._scaling(loss)
        own_results = self.task.get_config("process_results") is not None
        super().__init__(
            count,
            name=own if name is None else name,
            graded=self.metric not in BINARY_METRICS or own_results,
            generator=Generator(batch=batch),
            tokenizer=tokenizer,
            classes=(own if name is None else name,),
            names=[self._question(document) for document in self._documents[:count]],
        )
        self.chat = chat

    # -- the harness's task ------------------------------------------------------------------------

    @property
    def task(self) -> Any:
        """The harness's own task."""
        if self._task is None:
            self._use(load(self._source, self._functions)[self._own_name])
        return self._task

    def _use(self, task: Any) -> None:
        """Set the harness's task, with the requested number of examples in a prompt."""
        self._task = task
        unknown = task is not None and task.get_config("num_fewshot") is None
        if task is not None and (unknown or self._shots is not None):
            task.set_config(key="num_fewshot", value=self._shots or 0)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for another process, which loads the harness's task itself."""
        state = super().__getstate__()
        rebuilt = ("_task", "_requests", "_scale", "filter")
        kept = {k: v for k, v in state.items() if k not in rebuilt}
        return kept | {"filter_name": self.filter.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state; the harness's task is loaded on demand."""
        super().__setstate__(state)
        self._task, self._requests = None, {}
        filter_name = self.__dict__.pop("filter_name")
        self.metric, self.filter = self._choose_metric(f"{self.metric},{filter_name}")
        self._scale = self._scaling(self._loss)

    def _choose_metric(self, metric: str | None) -> tuple[str, Any]:
        """Return the metric to use, and the filter of answers before it."""
        aggregations = self.task.aggregation()
        alone = [m for m, f in aggregations.items() if _function_name(f) not in GROUP_AGGREGATIONS]
        filters = {each.name: each for each in self.task._filters}
        wanted, _, filtered = (metric or "").partition(",")
        if not alone or (wanted in aggregations and wanted not in alone):
            raise InputError(
                f"A metric of {self._own_name} must be defined for each document, but "
                f"{wanted or ', '.join(aggregations)} is defined only for all together; choose "
                f"{' or '.join(alone) or 'another task'}."
            )
        known = [*alone, *(f"{m},{f}" for m in alone for f in filters)]
        if metric is not None:
            choose(f"metric of {self._own_name}", metric, known)
        return wanted or alone[0], filters[filtered or next(iter(filters))]

    def _scaling(self, loss: bool) -> Callable[[float], float]:
        """Return the function that scales a metric to [0, 1]."""
        self._loss = loss
        aggregation = _function_name(self.task.aggregation()[self.metric])
        if self.task.higher_is_better().get(self.metric, True):
            return (lambda x: x / 100) if aggregation in PERCENT_AGGREGATIONS else (lambda x: x)
        if loss or aggregation in LOSS_AGGREGATIONS:
            return lambda x: 1 / (1 + x)
        return lambda x: 1 - x

    def _question(self, document: Any) -> str:
        text = self.task.doc_to_text(document)
        if isinstance(text, str) and text.strip():
            return text
        # The choices are part of the question, or a whole text is scored by its likelihood.
        choices = self._choices(document)
        return "\n".join(choices) if choices else self._truth(document)

    def _choices(self, document: Any) -> list[str]:
        if self.task.get_config("doc_to_choice") is None:
            return []
        return [str(choice) for choice in self.task.doc_to_choice(document)]

    def _truth(self, document: Any) -> str:
        choices = self._choices(document)
        several = choices and isinstance(self.task.doc_to_text(document), int)
        target = self.task.doc_to_text(document) if several else self.task.doc_to_target(document)
        listed = target if isinstance(target, list) else [target]
        inside = [t for t in listed if isinstance(t, int) and 0 <= t < len(choices)]
        return " | ".join(choices[t] for t in inside) or " | ".join(map(str, listed))

    # -- requests and results ----------------------------------------------------------------------

    def _requests_for(self, lm: Any) -> list[list[Any]]:
        """Return the harness's requests for each document, cached by chat template."""
        template = str(lm.tokenizer.chat_template) if self.chat else None
        if self.chat and not lm.tokenizer.chat_template:
            raise InputError(
                f"chat=True of {self.name} needs a tokenizer with a chat template, but this one "
                f"has none; leave chat out."
            )
        if template not in self._requests:
            self.task.set_fewshot_seed(SEED)
            with contextlib.redirect_stderr(io.StringIO()):  # hides its progress bar
                self.task.build_all_requests(
                    limit=len(self._documents),
                    apply_chat_template=self.chat,
                    fewshot_as_multiturn=self.chat,
                    chat_template=lm.apply_chat_template if self.chat else None,
                    tokenizer_name=lm.tokenizer_name if self.chat else "",
                )
            found: list[list[Any]] = [[] for _ in self._documents]
            for request in self.task.instances:
                found[request.doc_id].append(request)
            self._requests[template] = found
        return self._requests[template]

    def outcomes(self, model: Any, documents: Sequence[int]) -> list[Outcome]:
        """Return a model's results for documents (n,), where held-out ones follow the others.

        Raises:
            Halted: the evaluation was stopped; results so far are kept.
            InputError: the model is no causal language model, or a score is out of bounds.
        """
        tokenizer = self.tokenizer(model)
        known, meter = self._known(model), self.meter(len(documents))
        new = [number for number in dict.fromkeys(documents) if number not in known]
        meter.add(sum(number in known for number in documents), 0, known=True)
        lm = _harness_model(model, tokenizer, self.generator.batch, self._watch) if new else None
        for start in range(0, len(new), self.generator.batch):
            self._watch.check()
            part = new[start : start + self.generator.batch]
            known.update(zip(part, self._evaluate_documents(lm, part), strict=True))
            meter.add(sum(number in part for number in documents), 0)
        return [known[number] for number in documents]

    def _evaluate_documents(self, lm: Any, documents: Sequence[int]) -> list[Outcome]:
        requests_of = self._requests_for(lm)
        # Answers are written into the requests, which all members share: hence copies.
        fresh = [
            [replace(r, resps=[], filtered_resps={}) for r in requests_of[k]] for k in documents
        ]
        flat = [request for requests in fresh for request in requests]
        with torch.random.fork_rng():  # a task may sample its answers: reproducibly
            torch.manual_seed(SEED)
            for method in dict.fromkeys(request.request_type for request in flat):
                asked = [r for r in flat if r.request_type == method for _ in range(r.repeats or 1)]
                answers = getattr(lm, method)(asked, disable_tqdm=True)
                for request, answer in zip(asked, answers, strict=True):
                    request.resps.append(answer)
        self.filter.apply(flat)
        return [self._outcome(requests) for requests in fresh]

    def _outcome(self, requests: Sequence[Any]) -> Outcome:
        filtered = [request.filtered_resps[self.filter.name] for request in requests]
        document = requests[0].doc
        values = self.task.process_results(document, filtered)
        try:
            value = float(self.task.aggregation()[self.metric]([values[self.metric]]))
        except OverflowError:  # a perplexity too large for a float
            value = math.inf
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"The metric {self.metric} of {self.name} must be a number for each document, got "
                f"{str(values.get(self.metric))[:60]}; choose another of {', '.join(values)}."
            ) from error
        score = self._scale(value) if math.isfinite(value) else 0.0
        if not -1e-6 <= score <= 1 + 1e-6:
            raise InputError(
                f"The metric {self.metric} of {self.name} must give a score in [0, 1], got "
                f"{value:g}; choose another metric or, if lower is better, loss=True."
            )
        prompt = str(requests[0].args[0]) if len(requests[0].args) > 1 else ""
        answer, prediction = self._describe(requests, filtered)
        return Outcome(min(max(score, 0.0), 1.0), prompt, answer, prediction)

    def _describe(self, requests: Sequence[Any], filtered: Sequence[Any]) -> tuple[str, str]:
        """Return the answer in full and in short."""
        first = requests[0]
        if first.request_type == "generate_until":
            return str(first.resps[0]), str(filtered[0]).strip()
        if first.request_type == "loglikelihood_rolling":
            return f"log-likelihood {first.resps[0]:.3f}", f"log-likelihood {first.resps[0]:.3f}"
        likely = [float(request.resps[0][0]) for request in requests]
        choices = self._choices(first.doc) or [str(request.args[1]) for request in requests]
        lines = [f"{ll:.3f} {text.strip()}" for ll, text in zip(likely, choices, strict=False)]
        if len(choices) == 1:
            return lines[0], "just so" if first.resps[0][1] else f"log-likelihood {likely[0]:.3f}"
        lengths = {"acc_norm": map(len, choices), "acc_bytes": (len(c.encode()) for c in choices)}
        sizes = list(lengths.get(self.metric, (1 for _ in choices)))
        best = int(np.argmax([ll / max(n, 1) for ll, n in zip(likely, sizes, strict=False)]))
        return "\n".join(lines), choices[best].strip()

    # -- the task's interface ----------------------------------------------------------------------

    def _scores(self, model: Any, documents: Sequence[int]) -> NDArray[Any]:
        scores = np.array([outcome.score for outcome in self.outcomes(model, documents)], float)
        return scores if self.graded else scores > 0.5

    def score(self, model: Any, indices: Indices | None) -> NDArray[Any]:
        """Return the score of each document, (n,)."""
        return self._scores(model, range(self.points) if indices is None else indices.tolist())

    def held_out(self, model: Any) -> float:
        """Return the mean score of the held-out documents."""
        if not self._tested:
            return super().held_out(model)
        return float(np.mean(self._scores(model, self._tested)))

    def held_out_by_class(self, model: Any) -> dict[str, float]:
        """Return the held-out score under the task's name."""
        return {self.classes[0]: self.held_out(model)} if self._tested else {}

    def samples(self, model: Any, indices: ArrayLike) -> list[Sample]:
        """Return documents with prompts and answers, as far as the harness gives them."""
        where = self.checked_indices(indices).tolist()
        return [
            Sample(
                index,
                truth=self._truth(self._documents[index]),
                prediction=outcome.prediction,
                right=outcome.score >= 1.0,
                text=self.point_name(index),
                prompt=outcome.prompt or None,
                answer=outcome.answer,
            )
            for index, outcome in zip(where, self.outcomes(model, where), strict=True)
        ]


def _function_name(function: Any) -> str:
    return str(getattr(function, "__name__", ""))


def _harness_model(model: Any, tokenizer: Any, batch: int, watch: Watch) -> Any:
    """Wrap a live model for the harness; ``watch`` may stop it before each batch."""
    from lm_eval.models.huggingface import HFLM

    # A copy, since the harness sets the tokenizer's padding token.
    own = copy.deepcopy(tokenizer)
    if own.pad_token_id is not None and own.pad_token_id >= rows_of(model):
        own.pad_token = own.convert_ids_to_tokens(padding(model, tokenizer))
    lm = HFLM(pretrained=model, tokenizer=own, backend="causal", batch_size=batch)

    def watched(call: Callable[..., Any], **always: Any) -> Callable[..., Any]:
        def checked(*args: Any, **options: Any) -> Any:
            watch.check()
            with without_own_settings(model):
                return call(*args, **{**options, **always})

        return checked

    lm._model_call = watched(lm._model_call)
    lm._model_generate = watched(lm._model_generate)
    # Texts that are scored in windows would show a progress bar for each batch.
    lm._loglikelihood_tokens = watched(lm._loglikelihood_tokens, disable_tqdm=True)
    return lm


@records_origin
def harness(
    task: str | Path,
    limit: int | None = None,
    held_out: int | None = None,
    metric: str | None = None,
    functions: bool = False,
    **options: Any,
) -> Task:
    """Return a task of lm-evaluation-harness; several as one if ``task`` is a group.

    Args:
        task: a name that the harness knows, such as ``"arc_easy"``, or your own YAML file (which
            works offline with ``dataset_path: json`` and ``data_files`` beside it).
        limit: number of documents to search on, of each task; by default the first 80 %.
        held_out: number of held-out documents; by default the rest or, with a limit, a quarter of
            it.
        metric: the metric; by default the first of the task's.
        functions: whether a YAML file may contain Python code (``!function`` and the like).
        options: ``loss``, ``shots``, ``chat``, ``batch``, ``tokenizer`` and ``name``, as for
            ``Harness``, which also explains how a metric becomes a score.

    Raises:
        InputError: the harness is not installed or does not know the task, its data are empty or
            cannot be loaded, a file contains code, or the metric is undefined for one document.
    """
    known: dict[str, Any] = {
        "limit": limit,
        "held_out": held_out,
        "metric": metric,
        "functions": functions,
    }
    found = [
        Harness(task, own, loaded=loaded, **known, **options)
        for own, loaded in load(task, functions).items()
    ]
    return found[0] if len(found) == 1 else Tasks(found)
