"""GSM8K: grade-school word problems, scored by the number that an answer gives.

Cobbe et al., "Training Verifiers to Solve Math Word Problems", arXiv 2110.14168.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2n2lab.core.task import Sample
from m2n2lab.tasks.language.answer_extraction import Extraction, extract, written
from m2n2lab.tasks.language.generation import Generator
from m2n2lab.tasks.language.gsm8k_data import Problem, fetch, read
from m2n2lab.tasks.language.task import LanguageTask, chat
from m2n2lab.tasks.registry import records_origin
from m2n2lab.utils.arrays import Indices
from m2n2lab.utils.errors import InputError, choose, whole_number

Style = Literal["plain", "alpaca", "chat"]


class Wording(NamedTuple):
    """Template of prompts.

    Attributes:
        before: the beginning of a prompt.
        turn: one problem with ``{question}``, up to its answer.
        between: the text after the worked answer of an example.
        stop: texts at which an answer ends.
    """

    before: str
    turn: str
    between: str
    stop: tuple[str, ...]


WORDINGS: Mapping[str, Wording] = {
    "plain": Wording("", "Question: {question}\nAnswer:", "\n\n", ("\nQuestion:", "\n\n\n")),
    # The format in which WizardMath was trained and is evaluated.
    "alpaca": Wording(
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n",
        "### Instruction:\n{question}\n\n### Response: Let's think step by step.",
        "\n\n",
        ("### Instruction",),
    ),
}
CHAT = "{question}\nThink step by step, and end with '#### ' and the number that is the answer."


@dataclass(frozen=True)
class Answer:
    """A member's answer to one problem.

    Attributes:
        prompt: the whole prompt.
        text: the whole answer.
        number: the number that it gives; ``None`` without a number.
        truth: the right number.
    """

    prompt: str
    text: str
    number: Fraction | None
    truth: Fraction

    @property
    def right(self) -> bool:
        """Whether the numbers are equal."""
        return self.number == self.truth


class GSM8K(LanguageTask):
    """Word problems, each right or wrong.

    Args:
        problems: the D problems to search on.
        held_out: problems that the search never sees.
        examples: solved problems at the beginning of a prompt (k-shot).
        style: ``"plain"``, ``"alpaca"`` (as WizardMath expects), or ``"chat"``, the tokenizer's
            own template.
        extraction: ``"strict"`` or ``"flexible"`` (see ``extract``).
        max_new_tokens: longest answer in tokens.
        batch: problems answered together.
        stop: texts at which an answer ends; by default those of the style.
        tokenizer: as for ``LanguageTask``.
        name: name of the task in views.

    Raises:
        InputError: there are no problems, a worked answer has no number, the style is unknown, or
            a number is below 1.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        held_out: Sequence[Problem] = (),
        *,
        examples: Sequence[Problem] = (),
        style: Style = "plain",
        extraction: Extraction = "flexible",
        max_new_tokens: int = 256,
        batch: int = 32,
        stop: Sequence[str] | None = None,
        tokenizer: Any = None,
        name: str = "gsm8k",
    ) -> None:
        if not problems:
            raise InputError(
                "GSM8K needs at least one problem to search on, got none; give a file with "
                "problems, or a larger limit."
            )
        self.style = choose("prompt style", style, (*WORDINGS, "chat"))
        self.extraction: Extraction = extraction
        choose("extraction", extraction, ("strict", "flexible"))
        if stop is None:
            stop = WORDINGS[style].stop if style in WORDINGS else ()
        super().__init__(
            len(problems),
            name=name,
            generator=Generator(max_new_tokens, batch, stop),
            tokenizer=tokenizer,
            classes=(name,),
            names=[problem.question for problem in problems],
        )
        self.problems, self._test = tuple(problems), tuple(held_out)
        self.examples = tuple(examples)
        self._truth = {p: _truth(p) for p in (*self.problems, *self._test)}

    # -- prompts and answers -----------------------------------------------------------------------

    def prompt(self, question: str, tokenizer: Any = None) -> str:
        """Return the prompt for a question; only the chat style uses the tokenizer.

        Raises:
            InputError: the tokenizer has no chat template.
        """
        if self.style == "chat":
            solved = [text for q, a in self.examples for text in (CHAT.format(question=q), a)]
            return chat(tokenizer, [*solved, CHAT.format(question=question)])
        wording = WORDINGS[self.style]
        solved = [
            f"{wording.turn.format(question=q)} {answer}{wording.between}"
            for q, answer in self.examples
        ]
        return wording.before + "".join(solved) + wording.turn.format(question=question)

    def _answers(self, model: Any, problems: Sequence[Problem]) -> list[Answer]:
        tokenizer = self.tokenizer(model) if self.style == "chat" else None
        prompts = [self.prompt(problem.question, tokenizer) for problem in problems]
        texts = self.ask(model, prompts, self.meter(len(prompts)))
        return [
            Answer(prompt, text, extract(text, self.extraction), self._truth[problem])
            for prompt, text, problem in zip(prompts, texts, problems, strict=True)
        ]

    def answers(self, model: Any, indices: ArrayLike | None = None) -> list[Answer]:
        """Return a model's answers to the problems ``indices`` (n,), all of them if ``None``.

        Raises:
            Halted: the evaluation was stopped.
            InputError: an index is out of range, or the model is no causal language model.
        """
        where = range(self.points) if indices is None else self.checked_indices(indices).tolist()
        return self._answers(model, [self.problems[index] for index in where])

    # -- the task's interface ----------------------------------------------------------------------

    def score(self, model: Any, indices: Indices | None) -> NDArray[np.bool_]:
        """Return whether a model solves each problem, (n,)."""
        return np.array([answer.right for answer in self.answers(model, indices)], np.bool_)

    def held_out(self, model: Any) -> float:
        """Return the share of held-out problems that a model solves."""
        if not self._test:
            return super().held_out(model)
        return float(np.mean([answer.right for answer in self._answers(model, self._test)]))

    def held_out_by_class(self, model: Any) -> dict[str, float]:
        """Return the held-out score under the task's name."""
        return {self.classes[0]: self.held_out(model)} if self._test else {}

    def samples(self, model: Any, indices: ArrayLike) -> list[Sample]:
        """Return problems with a model's answers and the numbers that these give."""
        where = self.checked_indices(indices)
        return [
            Sample(
                index,
                truth=written(answer.truth),
                prediction=written(answer.number),
                right=answer.right,
                text=self.problems[index].question,
                prompt=answer.prompt,
                answer=answer.text,
            )
            for index, answer in zip(where.tolist(), self.answers(model, where), strict=True)
        ]


def _truth(problem: Problem) -> Fraction:
    number = extract(problem.answer, "strict")
    if number is None:
        raise InputError(
            f"The answer to a problem must end in '#### ' and a number, got "
            f"{problem.answer!r:.80}; write it as GSM8K does."
        )
    return number


@records_origin
def gsm8k(
    data: str | Path | None = None,
    limit: int | None = None,
    held_out: int | None = None,
    shots: int = 0,
    **options: Any,
) -> GSM8K:
    """Return GSM8K: the front of its train part to search on, its test part held out.

    Of a single file the first 80 % are searched on and the rest is held out.

    Args:
        data: a folder with ``train.jsonl`` and ``test.jsonl``, or one such file; ``None`` takes it
            from the hub, or from the cache of ``datasets``.
        limit: number of problems to search on; all by default.
        held_out: number of held-out problems; by default all or, with a limit, a quarter of it.
        shots: solved problems at the beginning of a prompt, from the end of the train part.
        options: ``style``, ``extraction``, ``max_new_tokens``, ``batch``, ``stop``, ``tokenizer``
            and ``name``, as for ``GSM8K``.

    Raises:
        InputError: a file is missing, empty or in another format, or the hub cannot be reached.
    """
    count = None if limit is None else whole_number("limit", limit, 1)
    train, test = fetch() if data is None else read(Path(data))
    shots = whole_number("shots", shots, 0)
    if shots >= len(train):
        raise InputError(
            f"shots must leave a problem to search on, got {shots} of {len(train)}; use fewer."
        )
    rest, examples = train[: len(train) - shots], train[len(train) - shots :]
    if held_out is None:
        tested = None if count is None else -(-count // 4)
    else:
        tested = whole_number("held_out", held_out, 0)
    return GSM8K(rest[:count], test[:tested], examples=examples, **options)
