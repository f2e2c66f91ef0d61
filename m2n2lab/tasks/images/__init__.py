"""Tasks for models that draw: pipelines, prompts, scorers, shapes."""
