"""Tokenizers and vocabularies of language models, compared and merged."""
