"""Tasks for text-to-image models: pipelines, prompts, scorers, shapes."""
