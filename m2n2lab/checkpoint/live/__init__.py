"""Children as models that run: modules and pipelines whose weights are set from the seeds."""
