"""Adapters for tests: trained by PEFT on the small models here, and in other programs' forms."""

from pathlib import Path

import torch

TARGETS = {"llama": ["q_proj", "v_proj", "down_proj"], "gpt2": ["c_attn", "c_proj"]}


def peft(folder, base, seed=0, form="LoraConfig", rows=None, **options):
    """Save an adapter for a language model, all of whose trainable weights are random.

    With ``rows``, the tables of tokens are resized first, as for added tokens.
    """
    import peft
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    started = "init_lora_weights" if form == "LoraConfig" else "init_weights"
    alpha = "lora_alpha" if form == "LoraConfig" else "alpha"
    config = getattr(peft, form)(
        **{
            **{"r": 4, alpha: 8, "task_type": "CAUSAL_LM", started: False},
            "target_modules": TARGETS[model.config.model_type],
            **options,
        }
    )
    adapted = peft.get_peft_model(model, config)
    for name, value in adapted.named_parameters():
        if value.requires_grad and ("lora_" not in name or "magnitude" in name):
            value.data += 0.05 * torch.randn_like(value)
    adapted.save_pretrained(folder)
    return Path(folder)


def unloaded(base, *adapters):
    """Return the tensors of a language model that PEFT merged adapters into."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.state_dict()


def factors(module, rows, columns, rank=3, seed=0, alpha=None, conv=None, mid=False):
    """Return a module's tensors of a LoRA in kohya's form; ``conv`` is the size of a kernel."""
    draws = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=draws)

    kernel = () if conv is None else (conv, conv)
    ones = () if conv is None else (1, 1)
    found = {f"{module}.lora_up.weight": draw(rows, rank, *ones)}
    if mid:
        found[f"{module}.lora_mid.weight"] = draw(rank, rank, *kernel)
    found[f"{module}.lora_down.weight"] = draw(rank, columns, *(ones if mid else kernel))
    if alpha is not None:
        found[f"{module}.alpha"] = torch.tensor(float(alpha))
    return found
