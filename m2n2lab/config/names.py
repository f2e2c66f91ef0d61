"""Names that a search can be chosen by: tasks, prompt styles, and what a link may set."""

from __future__ import annotations

NETWORKS = ("digits", "mnist")
"""Tasks whose seeds are small networks, made at once."""

LANGUAGE = ("gsm8k", "webshop", "gsm8k+webshop")
"""Tasks whose seeds are checkpoints of language models: given ones, or those of the zoo."""

PICTURES = ("text2image",)
"""Tasks whose seeds are pipelines of diffusers: given ones, or those of the zoo."""

CHECKPOINTS = (*LANGUAGE, *PICTURES)
"""Tasks whose seeds are checkpoints."""

TASKS = (*NETWORKS, *CHECKPOINTS)
"""All tasks that have a name."""

STYLES = ("plain", "alpaca", "chat")
"""Prompt styles of language models; ``plain`` is ReAct in the shop."""

ADJUSTABLE = ("archive_size", "alpha", "mutation")
"""Options of a method that a link may set."""

QUERY = ("task", "method", "seed", "pretrained", *ADJUSTABLE)
"""Everything that a link may set."""

LANGUAGE_LIBRARIES = ("bm25s", "rapidfuzz", "tokenizers", "transformers")
"""Packages of the extra 'llm' that language tasks need."""

PICTURE_LIBRARIES = ("diffusers", "transformers")
"""Packages of the extra 'images' that tasks with pictures need."""
