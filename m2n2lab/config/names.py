"""Names: tasks and prompt styles of a search by name, and the parameters of a link."""

from __future__ import annotations

NETWORK_TASKS = ("digits", "mnist")
"""Tasks whose seeds are small networks, which are made when a search begins."""

LANGUAGE_TASKS = ("gsm8k", "webshop", "gsm8k+webshop")
"""Tasks whose seeds are checkpoints of language models: the user's, or those of the zoo."""

IMAGE_TASKS = ("text2image",)
"""Tasks whose seeds are pipelines of diffusers: the user's, or those of the zoo."""

CHECKPOINT_TASKS = (*LANGUAGE_TASKS, *IMAGE_TASKS)
"""Tasks whose seeds are checkpoints."""

TASKS = (*NETWORK_TASKS, *CHECKPOINT_TASKS)
"""All tasks with a name."""

PROMPT_STYLES = ("plain", "alpaca", "chat")
"""Prompt styles of language models; ``plain`` is ReAct in the shop."""

DTYPE_NAMES = (
    *("bf16", "fp16", "fp32", "fp8", "fp8_e5m2"),
    *("bfloat16", "float16", "float32", "float8_e4m3fn", "float8_e5m2"),
)
"""Dtypes of merged weights."""

VOCABULARIES = ("refuse", "common", "union", "first")
"""What to do with language models whose vocabularies differ."""

DEFAULT_VOCAB = "union"
"""What a search does with them: nothing that any model knows is lost."""

LINK_OPTIONS = ("archive_size", "alpha", "mutation")
"""Options of a method that a link may set."""

LINK_PARAMETERS = ("task", "method", "seed", "pretrained", *LINK_OPTIONS)
"""All parameters that a link may set."""

LANGUAGE_LIBRARIES = ("bm25s", "rapidfuzz", "tokenizers", "transformers")
"""Packages of the extra 'llm' that language tasks need."""

IMAGE_LIBRARIES = ("diffusers", "transformers")
"""Packages of the extra 'images' that image tasks need."""
