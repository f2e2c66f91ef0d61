"""Training of the zoo's language models from scratch: ``python -m m2n2lab.zoo.train_language OUT``.

A base learns sums, word problems and shopping; each specialist is fine-tuned on one of the last two
until it has forgotten the other.
"""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from rich.console import Console
from torch import Tensor

from m2n2lab.utils.concurrency.processors import default_threads
from m2n2lab.zoo import language
from m2n2lab.zoo.arithmetic import problems
from m2n2lab.zoo.model_cards import write_card
from m2n2lab.zoo.shopping_episodes import trip, wishes

TOKENS = 1024
END = "<|endoftext|>"
BATCH = 32
TOKENIZER_EXAMPLES = 5_000  # examples of each lesson that the tokenizer is trained on
SUMS_PER_EXAMPLE = 8  # in an example of the lesson "sums"

Example = tuple[str, ...]
"""Alternating prompts and answers, at least one of each."""


class Course(NamedTuple):
    """Training settings of one model.

    Attributes:
        steps: number of training steps, each with one batch of each lesson.
        rate: highest learning rate.
        lessons: names of its lessons.
    """

    steps: int
    rate: float
    lessons: tuple[str, ...]


COURSES = {
    "base": Course(1_800, 2.5e-3, ("sums", "maths", "agent")),
    "maths": Course(400, 1.5e-3, ("maths",)),
    "agent": Course(400, 1.5e-3, ("agent",)),
}


def sums(seed: int) -> Iterator[Example]:
    """Yield bare sums with the numbers of word problems.

    Arithmetic is learned slowly from worked answers alone: few of their tokens are results.
    """
    results = itertools.chain.from_iterable(
        re.findall(r"<<(.*=)(.*)>>", found.answer) for found in problems("train", seed)
    )
    while True:
        some = itertools.islice(results, SUMS_PER_EXAMPLE)
        yield tuple(text for sum, result in some for text in (sum, f"{result}\n"))


def maths(seed: int) -> Iterator[Example]:
    """Yield word problems with the task's prompts and their worked answers."""
    task = language.word_problems(1, 0)
    for found in problems("train", seed):
        yield task.prompt(found.question), f" {found.answer}"


def agent(seed: int) -> Iterator[Example]:
    """Yield single turns of shopping trips with the task's prompts."""
    task = language.shop(1, 1)
    for shop, goal in wishes(seed):
        turns, _ = trip(shop, goal)
        for number, turn in enumerate(turns):
            yield task.prompt(turns[:number], turn.observation), turn.text


LESSONS: dict[str, Callable[[int], Iterator[Example]]] = {
    "sums": sums,
    "maths": maths,
    "agent": agent,
}


def make_tokenizer(seed: int = 0) -> Any:
    """Return a byte-level BPE tokenizer of a thousand tokens, with a token for each digit."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    found.decoder = decoders.ByteLevel()
    texts = (
        "".join(example)
        for lesson in LESSONS.values()
        for example in itertools.islice(lesson(seed), TOKENIZER_EXAMPLES)
    )
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENS,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    found.train_from_iterator(texts, trainer)
    tokenizer_class: Any = PreTrainedTokenizerFast
    return tokenizer_class(tokenizer_object=found, eos_token=END, pad_token=END)


def make_model(seed: int = 0) -> Any:
    """Return an untrained Llama of 0.9 million parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=TOKENS,
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def batches(lesson: str, tokenizer: Any, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield token ids and labels (B, L), sorted by length; labels of prompts are −100."""
    draw = torch.Generator().manual_seed(seed)
    taught = LESSONS[lesson](seed)
    while True:
        # Eight batches are sorted by length at a time, so that little padding is wasted.
        rows = []
        for example in itertools.islice(taught, 8 * BATCH):
            row: list[int] = []
            learned: list[int] = []
            for index, text in enumerate((*example, tokenizer.eos_token)):
                ids = tokenizer(text)["input_ids"]
                row += ids
                learned += ids if index % 2 or index == len(example) else [-100] * len(ids)
            rows.append((row, learned))
        rows.sort(key=lambda row: len(row[0]))
        for index in torch.randperm(8, generator=draw).tolist():
            group = rows[index * BATCH : (index + 1) * BATCH]
            width = max(len(ids) for ids, _ in group)
            padded = [ids + [0] * (width - len(ids)) for ids, _ in group]
            labels = [row + [-100] * (width - len(row)) for _, row in group]
            yield torch.tensor(padded), torch.tensor(labels)


def train(
    model: Any, tokenizer: Any, course: Course, seed: int, report: Callable[[str], object]
) -> None:
    """Train a model in place: AdamW, a short warm-up and a cosine to a tenth of the rate."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=course.rate, betas=(0.9, 0.99), weight_decay=0.01
    )
    warm = min(100, course.steps // 10)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, 1.0, warm),
            torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, course.steps - warm, course.rate / 10
            ),
        ],
        [warm],
    )
    start, means = time.monotonic(), dict.fromkeys(course.lessons, math.nan)
    taught = {name: batches(name, tokenizer, seed) for name in course.lessons}
    for step in range(1, course.steps + 1):
        optimizer.zero_grad()
        for name, found in taught.items():
            ids, labels = next(found)
            loss: Any = _loss(model, ids.to(device), labels.to(device))
            loss.backward()
            value = loss.item()
            past = means[name]
            means[name] = value if math.isnan(past) else 0.95 * past + 0.05 * value
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == course.steps:
            took = time.monotonic() - start
            left = took / step * (course.steps - step)
            losses = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
            report(f"step {step} of {course.steps}: {losses}; {took:.0f} s, {left:.0f} s left")
    model.to("cpu").eval()


def _loss(model: Any, ids: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the labels.

    Padding is on the right and never a label, so causal attention needs no mask; most tokens belong
    to prompts, for which no logits are computed.
    """
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    after = labels[:, 1:]
    taught = after != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[taught]), after[taught])


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save a model in half precision, with its tokenizer."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model.float()


CARD_EXAMPLES = 200
"""Held-out examples of each task for a card's scores."""

TITLES = {
    "base": "A tiny base model that knows sums, word problems and shopping",
    "maths": "A tiny model for word problems",
    "agent": "A tiny shopping agent",
}
LIMITS = (
    "The word problems have one to three steps, numbers up to 100 and the sentences of "
    "`m2n2lab/zoo/arithmetic.py`, in GSM8K's form; GSM8K's own problems are far beyond it.",
    "The shop is the one that `m2n2lab.zoo.shop()` opens, with four products on a page; a trip "
    "ends after two impossible actions in a row.",
)


def describe(folder: Path, course: Course, seed: int, console: Console) -> None:
    """Score a saved model on unseen examples, and write its card."""
    from transformers import LlamaForCausalLM

    model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    asked = language.word_problems(1, CARD_EXAMPLES) + language.shop(1, CARD_EXAMPLES)
    found = asked.held_out_by_class(model)
    names = {"gsm8k": "word problems", "webshop": "shopping trips (reward)"}
    lessons = ", ".join(course.lessons)
    start = "from nothing" if folder.name == "base" else "from the base beside it"
    write_card(
        folder,
        TITLES[folder.name],
        tag="text-generation",
        description=f"A Llama of {sum(p.numel() for p in model.parameters()):,} parameters",
        training=f"{start} with {course.steps:,} batches of {BATCH} examples of {lessons}",
        seed=seed,
        command="python -m m2n2lab.zoo.train_language",
        scores={names[task]: (CARD_EXAMPLES, score) for task, score in found.items()},
        limits=LIMITS,
    )
    console.print(f"{folder.name}, held out: {found}")


def main(
    out: Annotated[Path, typer.Argument(help="Folder for the models.")] = language.HOME,
    only: Annotated[str, typer.Option(help="One of base, maths and agent.")] = "",
    steps: Annotated[int, typer.Option(help="Batches, instead of the course's own.")] = 0,
    rate: Annotated[float, typer.Option(help="Learning rate, instead of the course's own.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    threads: Annotated[int, typer.Option(help="PyTorch threads.")] = default_threads(),
) -> None:
    """Train the base and then its specialists; models in OUT are replaced."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    torch.set_num_threads(threads)
    console = Console()
    for name, course in COURSES.items():
        if only and name != only:
            continue
        course = course._replace(steps=steps or course.steps, rate=rate or course.rate)
        if name == "base":
            tokenizer, model = make_tokenizer(seed), make_model(seed)
        else:
            tokenizer = AutoTokenizer.from_pretrained(out / "base")
            model = LlamaForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
        console.print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters")
        number = seed + list(COURSES).index(name)
        train(model, tokenizer, course, number, console.print)
        save(model, tokenizer, out / name)
        describe(out / name, course, seed, console)


if __name__ == "__main__":
    typer.run(main)
