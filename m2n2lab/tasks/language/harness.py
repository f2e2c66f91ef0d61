"""Any task of lm-evaluation-harness, with a score for each of its documents.

Gao et al., "The Language Model Evaluation Harness", doi:10.5281/zenodo.12608602. Prompts, answers,
filters and metrics are the harness's own; documents are asked by themselves, so that each can be a
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
from m2n2lab.tasks.language.generation import Generator
from m2n2lab.tasks.language.harness_source import load
from m2n2lab.tasks.language.task import LanguageTask
from m2n2lab.tasks.registry import records_origin
from m2n2lab.utils.arrays import Indices
from m2n2lab.utils.errors import InputError, choose, whole_number
from m2n2lab.utils.progress import Watch

BINARY_METRICS = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")
GROUP_AGGREGATIONS = ("f1_score", "matthews_corrcoef", "bypass_agg")
"""Aggregations that say nothing of one document."""

PERCENT_AGGREGATIONS = ("bleu", "chrf", "chrfpp")
LOSS_AGGREGATIONS = ("perplexity", "weighted_perplexity", "bits_per_byte", "ter", "brier_score")
"""Aggregations without an upper bound of 1, for which less is better."""

SEED = 1234
"""Of the examples in prompts, as in the harness."""


@dataclass(frozen=True)
class Outcome:
    """What a member made of one document.

    Attributes:
        score: in [0, 1].
        prompt: what it was asked.
        answer: what it wrote, or how likely it found what it was asked about.
        prediction: its answer in short.
    """

    score: float
    prompt: str
    answer: str
    prediction: str


class Harness(LanguageTask):
    """Documents of one task of the harness, each right or wrong or graded.

    A document's score is the metric over this document alone, brought into [0, 1]: what is given
    in percent (BLEU, chrF) is divided by 100; where less is better, a perplexity, bits per byte,
    TER, Brier score or ``loss`` x becomes 1 / (1 + x), and any other x in [0, 1] becomes 1 - x. A
    number that is not finite scores 0.

    Args:
        source: a name that the harness knows, or a YAML file.
        own: its name within ``source``, which may be a group.
        limit: documents to search on, from the front of the test split (or else the validation
            split); by default the first 80 %.
        held_out: documents after them that are held out; by default the rest or, with a limit, a
            quarter as many as that.
        metric: one of the task's, such as ``"acc_norm"``, or with one of its filters
            ``"exact_match,flexible-extract"``; by default the first.
        loss: whether a metric for which less is better has no upper bound.
        shots: examples in a prompt; by default what the task says.
        chat: whether prompts are written with the tokenizer's chat template.
        functions: whether a YAML file may bring Python code.
        batch: requests answered together.
        tokenizer: as for ``LanguageTask``.
        name: what views call the task; by default the harness's name.
        loaded: the harness's task, where it is loaded already.

    Raises:
        InputError: as ``load`` says; an unknown metric, or one that says nothing of a document.
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
            many = max(int(total * 0.8), 1)
            tested = total - many
        else:
            many = whole_number("limit", limit, 1)
            tested = -(-many // 4)
        if held_out is not None:
            tested = whole_number("held_out", held_out, 0)
        # Where there are fewer, a fifth of them is held out.
        many = min(many, total - min(tested, total // 5))
        self._tested = range(many, min(many + tested, total))
        self._documents = [self.task.eval_docs[k] for k in range(self._tested.stop)]
        self.metric, self.filter = self._choose_metric(metric)
        self._scale = self._scaling(loss)
        own_results = self.task.get_config("process_results") is not None
        super().__init__(
            many,
            name=own if name is None else name,
            graded=self.metric not in BINARY_METRICS or own_results,
            generator=Generator(batch=batch),
            tokenizer=tokenizer,
            classes=(own if name is None else name,),
            names=[self._question(document) for document in self._documents[:many]],
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
        """Take the harness's task, with as many examples in a prompt as were asked for."""
        self._task = task
        unknown = task is not None and task.get_config("num_fewshot") is None
        if task is not None and (unknown or self._shots is not None):
            task.set_config(key="num_fewshot", value=self._shots or 0)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs; it loads the harness's task, which may hold code."""
        state = super().__getstate__()
        made = ("_task", "_requests", "_scale", "filter")
        return {k: v for k, v in state.items() if k not in made} | {"chosen": self.filter.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start without the harness's task."""
        super().__setstate__(state)
        self._task, self._requests = None, {}
        filtered = self.__dict__.pop("chosen")
        self.metric, self.filter = self._choose_metric(f"{self.metric},{filtered}")
        self._scale = self._scaling(self._loss)

    def _choose_metric(self, metric: str | None) -> tuple[str, Any]:
        """Return the metric that counts, and the filter of answers before it."""
        aggregations = self.task.aggregation()
        alone = [m for m, f in aggregations.items() if _function_name(f) not in GROUP_AGGREGATIONS]
        filters = {each.name: each for each in self.task._filters}
        wanted, _, filtered = (metric or "").partition(",")
        if not alone or (wanted in aggregations and wanted not in alone):
            raise InputError(
                f"A metric of {self._own_name} must say something of each document, but "
                f"{wanted or ', '.join(aggregations)} does so only of all together; choose "
                f"{' or '.join(alone) or 'another task'}."
            )
        known = [*alone, *(f"{m},{f}" for m in alone for f in filters)]
        if metric is not None:
            choose(f"metric of {self._own_name}", metric, known)
        return wanted or alone[0], filters[filtered or next(iter(filters))]

    def _scaling(self, loss: bool) -> Callable[[float], float]:
        """Return what brings a metric into [0, 1]."""
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
        # Choices are put into the question, or a whole text is to be found likely.
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

    # -- asking ------------------------------------------------------------------------------------

    def _requests_for(self, lm: Any) -> list[list[Any]]:
        """Return the harness's requests for each document, which are the same whatever is asked."""
        template = str(lm.tokenizer.chat_template) if self.chat else None
        if self.chat and not lm.tokenizer.chat_template:
            raise InputError(
                f"chat=True of {self.name} needs a tokenizer with a chat template, but this one "
                f"has none; leave it out."
            )
        if template not in self._requests:
            self.task.set_fewshot_seed(SEED)
            with contextlib.redirect_stderr(io.StringIO()):  # it draws a progress bar
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
        """Return what a model makes of documents (n,), the held-out ones after the others.

        Raises:
            Halted: somebody asked to stop; what was answered until then is kept.
            InputError: a model that cannot be asked, a metric outside its bounds.
        """
        tokenizer = self.tokenizer(model)
        known, meter = self._known(model), self.meter(len(documents))
        new = [number for number in dict.fromkeys(documents) if number not in known]
        meter.add(sum(number in known for number in documents), 0)
        lm = _harness_model(model, tokenizer, self.generator.batch, self._watch) if new else None
        for start in range(0, len(new), self.generator.batch):
            self._watch.check()
            part = new[start : start + self.generator.batch]
            known.update(zip(part, self._evaluate_documents(lm, part), strict=True))
            meter.add(sum(number in part for number in documents), 0)
        return [known[number] for number in documents]

    def _evaluate_documents(self, lm: Any, documents: Sequence[int]) -> list[Outcome]:
        asked = self._requests_for(lm)
        # Answers are written into the requests, and these are everybody's.
        fresh = [[replace(r, resps=[], filtered_resps={}) for r in asked[k]] for k in documents]
        flat = [request for requests in fresh for request in requests]
        with torch.random.fork_rng():  # a task may sample its answers: always the same ones
            torch.manual_seed(SEED)
            for kind in dict.fromkeys(request.request_type for request in flat):
                those = [r for r in flat if r.request_type == kind for _ in range(r.repeats or 1)]
                answers = getattr(lm, kind)(those, disable_tqdm=True)
                for request, answer in zip(those, answers, strict=True):
                    request.resps.append(answer)
        self.filter.apply(flat)
        return [self._outcome(requests) for requests in fresh]

    def _outcome(self, requests: Sequence[Any]) -> Outcome:
        filtered = [request.filtered_resps[self.filter.name] for request in requests]
        document = requests[0].doc
        values = self.task.process_results(document, filtered)
        try:
            value = float(self.task.aggregation()[self.metric]([values[self.metric]]))
        except OverflowError:  # a perplexity beyond all numbers
            value = math.inf
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"The metric {self.metric} of {self.name} must be a number for each document, but "
                f"{str(values.get(self.metric))[:60]} came; choose another of "
                f"{', '.join(values)}."
            ) from error
        score = self._scale(value) if math.isfinite(value) else 0.0
        if not -1e-6 <= score <= 1 + 1e-6:
            raise InputError(
                f"The metric {self.metric} of {self.name} must come to a score in [0, 1], but "
                f"{value:g} came; choose another metric or, where less is better, loss=True."
            )
        prompt = str(requests[0].args[0]) if len(requests[0].args) > 1 else ""
        answer, prediction = self._describe(requests, filtered)
        return Outcome(min(max(score, 0.0), 1.0), prompt, answer, prediction)

    def _describe(self, requests: Sequence[Any], filtered: Sequence[Any]) -> tuple[str, str]:
        """Return what was answered, in full and in short."""
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

    # -- what a task does --------------------------------------------------------------------------

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
        """Return documents with what was asked and answered, as far as the harness tells."""
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
    """Return a live model as the harness asks it; ``watch`` may stop it before each batch."""
    from lm_eval.models.huggingface import HFLM

    # It gives the tokenizer a padding token, which is not ours to change.
    lm = HFLM(
        pretrained=model, tokenizer=copy.deepcopy(tokenizer), backend="causal", batch_size=batch
    )

    def watched(call: Callable[..., Any], **always: Any) -> Callable[..., Any]:
        def checked(*args: Any, **options: Any) -> Any:
            watch.check()
            return call(*args, **{**options, **always})

        return checked

    lm._model_call = watched(lm._model_call)
    lm._model_generate = watched(lm._model_generate)
    # Texts that are read in windows would draw a bar for each batch.
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
    """Return a task of lm-evaluation-harness, or several as one where ``task`` is a group.

    Args:
        task: a name that the harness knows, such as ``"arc_easy"``, or a YAML file of one's own
            (which is offline with ``dataset_path: json`` and ``data_files`` beside it).
        limit: documents to search on, of each task; by default the first 80 %.
        held_out: documents held out; by default the rest or, with a limit, a quarter as many.
        metric: by default the first of the task's.
        functions: whether a YAML file may bring Python code (``!function`` and the like).
        options: ``loss``, ``shots``, ``chat``, ``batch``, ``tokenizer`` and ``name``, as for
            ``Harness``, which also says how a metric becomes a score.

    Raises:
        InputError: the harness is not installed or does not know the task; data that cannot be
            loaded or are empty; a file that brings code; a metric that says nothing of a document.
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
