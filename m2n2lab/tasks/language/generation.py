"""Greedy generation of answers in batches, with progress and interruption."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from m2n2lab.utils.concurrency.loading import loading
from m2n2lab.utils.errors import InputError, whole_number
from m2n2lab.utils.progress import Watch


@cache
def _config_class() -> Any:
    with loading("loading transformers"):
        import transformers

        return transformers.GenerationConfig


class Batch(NamedTuple):
    """Answers of one batch.

    Attributes:
        indices: (n,) indices of their prompts.
        texts: (n,) the answers.
        tokens: number of tokens generated for all of them.
    """

    indices: list[int]
    texts: list[str]
    tokens: int


class Generator:
    """Greedy decoding with any causal language model of transformers.

    Prompts are sorted by length and padded on the left, so a batch wastes little and an answer does
    not depend on the others in its batch. This holds up to rounding in the model's dtype: in
    bfloat16 and float16 two tokens are sometimes equally likely, and which one wins may change with
    the batch size. When memory runs out, the batch size is halved permanently and generation
    continues.

    Args:
        max_new_tokens: longest answer in tokens.
        batch: prompts answered together.
        stop: texts at which an answer ends; they are not part of it.

    Raises:
        InputError: a number is below 1.
    """

    def __init__(
        self, max_new_tokens: int = 256, batch: int = 32, stop: Sequence[str] = ()
    ) -> None:
        self.max_new_tokens = whole_number("max_new_tokens", max_new_tokens, 1)
        self.batch = whole_number("batch", batch, 1)
        self.stop = tuple(text for text in ([stop] if isinstance(stop, str) else stop) if text)

    def batches(
        self, model: Any, tokenizer: Any, prompts: Sequence[str], watch: Watch | None = None
    ) -> Iterator[Batch]:
        """Yield the answers batch by batch, the longest prompts first.

        Args:
            model: a causal language model of transformers.
            tokenizer: its tokenizer.
            prompts: (n,) the prompts.
            watch: the watch that may stop the generation.

        Raises:
            Halted: the generation was stopped.
            InputError: the tokenizer has tokens that the model lacks, or a single prompt does not
                fit into memory.
        """
        watch = watch or Watch()
        keep, new = self._token_limits(model)
        ids = _encode(model, tokenizer, prompts, keep)
        order = sorted(range(len(ids)), key=lambda index: (-len(ids[index]), index))
        start = 0
        while start < len(order):
            watch.check()
            chosen = order[start : start + self.batch]
            texts = None
            # The exception must be dropped before the next try: its traceback keeps tensors alive.
            with ignore_out_of_memory():
                texts, tokens = self._answer(model, tokenizer, [ids[k] for k in chosen], new, watch)
            if texts is not None:
                start += len(chosen)
                yield Batch(chosen, texts, tokens)
                continue
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(chosen) == 1:
                raise InputError(
                    f"A prompt of {len(ids[chosen[0]])} tokens must fit into memory by itself, but "
                    f"does not; use a shorter prompt, fewer max_new_tokens or a smaller dtype."
                )
            self.batch = len(chosen) // 2

    def _token_limits(self, model: Any) -> tuple[int | None, int]:
        """Return the most tokens of a prompt that are kept, and the most that are generated.

        Both depend on the model alone: otherwise answers would depend on the batch.
        """
        config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else {}
        limit = getattr(config, "max_position_embeddings", None)
        if not isinstance(limit, int) or limit < 2:
            return None, self.max_new_tokens
        new = min(self.max_new_tokens, max(limit // 2, 1))
        return limit - new, new

    @torch.inference_mode()
    def _answer(
        self, model: Any, tokenizer: Any, ids: list[list[int]], new: int, watch: Watch
    ) -> tuple[list[str], int]:
        """Return the answers to a batch of prompts, and the number of generated tokens."""
        ends = end_tokens(model, tokenizer)
        pad = padding(model, tokenizer)
        width = max(map(len, ids))
        tokens = torch.tensor([[pad] * (width - len(row)) + row for row in ids])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids])
        config = _config_class()(
            do_sample=False,
            num_beams=1,
            max_new_tokens=new,
            pad_token_id=pad,
            eos_token_id=ends or None,
        )
        with without_own_settings(model):
            out = model.generate(
                input_ids=tokens.to(model.device),
                attention_mask=mask.to(model.device),
                generation_config=config,
                stopping_criteria=[self._stopping(tokenizer, width, watch)],
            )
        answers = [_until_end(row, ends) for row in out[:, width:].tolist()]
        texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
        cut = [self._cut(text) for text in texts]
        return cut, sum(min(len(row) + 1, new) for row in answers)

    def _stopping(self, tokenizer: Any, width: int, watch: Watch) -> Callable[..., Tensor]:
        """Return a stopping criterion for transformers: which rows are done (n,)."""
        # A token may be as short as a byte, so a stop text that has just ended lies within this
        # many tokens.
        tail = max((len(text.encode()) for text in self.stop), default=0) + 8

        def done(ids: Tensor, scores: Any, **_: Any) -> Tensor:
            watch.check()
            ended = [False] * len(ids)
            if self.stop:
                texts = tokenizer.batch_decode(ids[:, max(width, ids.shape[1] - tail) :])
                ended = [any(text in end for text in self.stop) for end in texts]
            return torch.tensor(ended, device=ids.device)

        return done

    def _cut(self, text: str) -> str:
        """Return an answer up to the first stop text."""
        return text[: min((at for s in self.stop if (at := text.find(s)) >= 0), default=len(text))]


@contextlib.contextmanager
def ignore_out_of_memory() -> Iterator[None]:
    """Suppress out-of-memory errors, and no others."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        pass
    except RuntimeError as error:  # on a CPU torch has no class for it
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise


@contextlib.contextmanager
def without_own_settings(model: Any) -> Iterator[None]:
    """Let a model generate without its generation config, which would steer what is scored.

    What a config given to ``generate`` leaves open, transformers takes from the model's own: words
    that may not be said, time limits, numbers of answers. Only the end tokens are kept.
    """
    own = getattr(model, "generation_config", None)
    if own is None:
        yield
        return
    model.generation_config = type(own)(eos_token_id=own.eos_token_id)
    try:
        yield
    finally:
        model.generation_config = own


def rows_of(model: Any) -> int:
    """Return the number of tokens that a model has rows for."""
    table = model.get_input_embeddings()
    return int(getattr(table, "num_embeddings", None) or table.weight.shape[0])


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return the end-of-text tokens of the tokenizer and of the model's generation config.

    Those without a row in the model, which it can never say, are left out.
    """
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = own if isinstance(own, list) else [own]
    rows = rows_of(model)
    found = [t for t in (tokenizer.eos_token_id, *listed) if t is not None and 0 <= t < rows]
    return list(dict.fromkeys(found))


def padding(model: Any, tokenizer: Any) -> int:
    """Return the token that fills short prompts up: one that the model has a row for."""
    rows = rows_of(model)
    own = tokenizer.pad_token_id
    return int(
        next(iter([own] if own is not None and own < rows else end_tokens(model, tokenizer)), 0)
    )


def _until_end(row: list[int], ends: list[int]) -> list[int]:
    """Return generated tokens up to the first end token."""
    return row[: next((at for at, token in enumerate(row) if token in ends), len(row))]


def _encode(
    model: Any, tokenizer: Any, prompts: Sequence[str], keep: int | None
) -> list[list[int]]:
    """Return the tokens of each prompt, long ones cut to ``keep`` with their first one retained.

    Raises:
        InputError: the tokenizer has tokens that the model lacks.
    """
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    rows: list[list[int]] = []
    for prompt in prompts:
        # A chat template writes the initial token itself.
        special = not (tokenizer.bos_token and prompt.startswith(tokenizer.bos_token))
        row = list(tokenizer(prompt, add_special_tokens=special, verbose=False)["input_ids"])
        while len(row) > 1 and row[-1] == end:  # some tokenizers append an end token
            row.pop()
        if keep is not None and len(row) > keep:
            first = row[:1] if row[0] == begin and keep > 1 else []
            row = first + row[len(row) - keep + len(first) :]
        start = next((token for token in (begin, end) if token is not None), 0)
        rows.append(row or [start])
    vocabulary = rows_of(model)
    largest = max(chain.from_iterable(rows), default=0)
    if largest >= vocabulary:
        raise InputError(
            f"The tokenizer's tokens must be among the model's {vocabulary}, got token {largest}; "
            f"give the tokenizer that belongs to this model."
        )
    return rows
