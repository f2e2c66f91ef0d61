"""Tasks for language models: answers in batches, GSM8K, lm-evaluation-harness."""
