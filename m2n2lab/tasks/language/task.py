"""Language task: a base class with tokenizers, and answers that are generated once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2n2lab.tasks.answer_cache import CachingTask
from m2n2lab.tasks.language.generation import Generator
from m2n2lab.utils.concurrency.loading import loading
from m2n2lab.utils.errors import InputError, first_line
from m2n2lab.utils.extras import missing
from m2n2lab.utils.progress import Meter

if TYPE_CHECKING:
    from m2n2lab.checkpoint import CheckpointSpace
    from m2n2lab.core.spaces.space import Space

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)


class LanguageTask(CachingTask):
    """A task whose models answer prompts with text.

    Args:
        points: D, number of data points.
        generator: the generator of answers.
        tokenizer: a folder, a hub id or a tokenizer; by default that of the space's checkpoints,
            or the one in the model's folder.
        known: ``name``, ``graded``, ``classes``, ``groups``, ``names``, as for ``Task``.

    Raises:
        InputError: lengths do not match, or the tokenizer cannot be loaded.
    """

    def __init__(
        self, points: int, *, generator: Generator, tokenizer: Any = None, **known: Any
    ) -> None:
        super().__init__(points, **known)
        self.generator = generator
        self._given = load_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
        self._tokenizers: dict[str, Any] = {}  # by the folder that the model is loaded from

    # -- models and their tokenizers ---------------------------------------------------------------

    def check_space(self, space: Space) -> None:
        """Check that the seeds can go on with a prompt and have one tokenizer.

        Raises:
            InputError: they do not.
        """
        from m2n2lab.checkpoint import CheckpointSpace

        if isinstance(space, CheckpointSpace):
            check_answers(space)
            check_tokenizers(space)
            if self._given is None:
                folder = space.tokenizer_folder
                self._tokenizers[str(space.plan.base.path)] = load_tokenizer(
                    folder, space.plan.trust_remote_code
                )

    def tokenizer(self, model: Any) -> Any:
        """Return the tokenizer for a model.

        Raises:
            InputError: none was given and the model's folder has none, or the model is no causal
                language model.
        """
        if not hasattr(model, "generate") or not hasattr(model, "config"):
            raise InputError(
                f"The model for {self.name} must be a causal language model of transformers, got "
                f"{type(model).__name__}; use seeds that are such models."
            )
        if self._given is not None:
            return self._given
        folder = str(getattr(model, "name_or_path", ""))
        if folder not in self._tokenizers:
            self._tokenizers[folder] = load_tokenizer(folder)
        return self._tokenizers[folder]

    # -- answers -----------------------------------------------------------------------------------

    def ask(self, model: Any, prompts: Sequence[str], meter: Meter, count: int = 1) -> list[str]:
        """Return a model's answers to prompts (n,), generating those that are not cached.

        Args:
            model: a causal language model.
            prompts: (n,) the prompts.
            meter: the counter of answers.
            count: what one answer adds to it; 0 if several make up one question.

        Raises:
            Halted: the evaluation was stopped; answers so far are kept.
            InputError: there is no tokenizer, or it does not match the model.
        """
        tokenizer = self.tokenizer(model)
        known = self._known(model)
        digests = [sha256(prompt.encode(errors="surrogatepass")).digest() for prompt in prompts]
        new = {d: p for d, p in zip(digests, prompts, strict=True) if d not in known}
        meter.add(count * sum(digest in known for digest in digests), 0, known=True)
        keys, asked = list(new), list(new.values())
        for batch in self.generator.batches(model, tokenizer, asked, self._watch):
            known.update(
                (keys[p], text) for p, text in zip(batch.indices, batch.texts, strict=True)
            )
            fresh = {keys[index] for index in batch.indices}
            meter.add(count * sum(digest in fresh for digest in digests), batch.tokens)
        return [known[digest] for digest in digests]


def load_tokenizer(source: str | Path, trusted: bool = False) -> Any:
    """Load the tokenizer of a folder or hub id.

    Args:
        source: the folder or id.
        trusted: whether code that comes with it may be run.

    Raises:
        InputError: there is none, or transformers cannot load it.
    """
    folder = Path(source)
    # Without such a file transformers would make an empty tokenizer from the model's config.
    bare = folder.is_dir() and not any((folder / name).is_file() for name in TOKENIZER_FILES)
    if not str(source) or bare:
        where = str(source) or "The folder of this model"
        raise InputError(
            f"{where} must hold a tokenizer, such as tokenizer.json, for prompts in text, but it "
            f"has none; copy it from the model's base, or give tokenizer=…."
        )
    pieces = folder.is_dir() and not (folder / "tokenizer.json").is_file()
    if pieces and any(folder.glob("*.model")) and find_spec("sentencepiece") is None:
        raise missing(f"The tokenizer of {source}", "sentencepiece", "llm")
    try:
        with loading("loading the tokenizer"):
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(str(source), trust_remote_code=trusted)
    except ImportError as error:
        raise missing("A tokenizer", error.name or "transformers", "llm") from error
    except Exception as error:  # files and the hub raise many classes
        reason = first_line(error)
        raise InputError(
            f"The tokenizer of {source} could not be loaded ({type(error).__name__}: {reason}); "
            f"give a folder with a tokenizer that transformers knows."
        ) from error


def chat(tokenizer: Any, messages: Sequence[str]) -> str:
    """Format a conversation with the tokenizer's chat template, up to the next answer.

    Args:
        tokenizer: the tokenizer with the template.
        messages: alternating messages of the user and the model, the user's first and last.

    Raises:
        InputError: the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            "The chat style needs a tokenizer with a chat template, but this one has none; choose "
            "another style."
        )
    roles = ("user", "assistant")
    turns = [{"role": roles[k % 2], "content": text} for k, text in enumerate(messages)]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def check_answers(space: CheckpointSpace) -> None:
    """Check that the seeds are causal language models, before any of them is loaded.

    Raises:
        InputError: they are not: encoders, classifiers, or models that read a prompt by itself.
    """
    base = space.plan.base
    if space.given_module or base.kind != "transformers":
        return
    try:
        import transformers
    except ImportError as error:
        raise missing("A language model", error.name or "transformers", "llm") from error
    name, config = base.parts[0].architecture, base.parts[0].config
    model_class = getattr(transformers, name, None)
    if model_class is None:  # of the checkpoint's own, which loading it refuses
        return
    pair = config.get("is_encoder_decoder", False) or _is_encoder_decoder(config)
    if pair or not (hasattr(model_class, "can_generate") and model_class.can_generate()):
        kind = "an encoder with a decoder" if pair else "a model that generates no text"
        raise InputError(
            f"The seeds must be causal language models, which go on with a prompt, got {name}, "
            f"{kind}; choose seeds such as LlamaForCausalLM, or merge these without a search."
        )


def _is_encoder_decoder(config: Mapping[str, Any]) -> bool:
    from transformers import AutoConfig

    try:
        return bool(AutoConfig.for_model(**config).is_encoder_decoder)
    except Exception:  # a config that transformers does not know
        return False


def check_tokenizers(space: CheckpointSpace) -> None:
    """Check that all seeds have the same tokenizer.

    Raises:
        InputError: two of them disagree on a token.
    """
    from m2n2lab.checkpoint.checks.preflight import tokenizers_clash

    if clash := tokenizers_clash(space.plan):
        raise InputError(
            f"The seeds must have one tokenizer for prompts in text, but {clash}; "
            f"merge models that were fine-tuned from one base, or, where they differ in added "
            f"tokens, choose vocab='union'."
        )
