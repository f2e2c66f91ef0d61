"""Adapters: LoRA and its kin as changes of a model's tensors, computed piece by piece."""
