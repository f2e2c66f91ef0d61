"""Tiny checkpoints with random weights, in the forms that libraries save."""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

WIDTHS = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}
"""Of the Llamas here, unless something else is asked for."""


_SAVED = tempfile.TemporaryDirectory(prefix="llamas")
"""Folders of the Llamas that were made, of which tests get copies: to make one takes longer."""


def llama(folder, seed=0, dtype=torch.bfloat16, tied=False, shards=None, **config):
    """Save a LlamaForCausalLM; ``shards`` is the largest size of a file, such as ``"20KB"``."""
    asked = repr((seed, dtype, tied, shards, sorted(config.items(), key=str)))
    saved = Path(_SAVED.name, hashlib.sha256(asked.encode()).hexdigest())
    if not saved.exists():
        _save_llama(saved, seed, dtype, tied, shards, config)
    shutil.copytree(saved, folder, copy_function=shutil.copy, dirs_exist_ok=True)
    return Path(folder)


def _save_llama(folder, seed, dtype, tied, shards, config):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**WIDTHS, "tie_word_embeddings": tied, **config}))
    # Fresh norms are all ones and would hide what is done to them.
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.02)
    options = {} if shards is None else {"max_shard_size": shards}
    model.to(dtype).save_pretrained(folder, **options)


def tokenizer(folder, tokens):
    """Save a word-level tokenizer whose ids are the places of ``tokens``."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({token: id for id, token in enumerate(tokens)}, tokens[0]))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, unk_token=tokens[0])
    fast.save_pretrained(folder)
    return Path(folder)


LETTERS = ("<pad>", "<s>", "</s>", "\n", *" #$,.:?[]0123456789", *"abcdefghijklmnopqrstuvwxyz")
"""Tokens of a tokenizer that reads letter by letter: fewer than the Llamas here have rows."""


def letters(folder, template=None):
    """Save a tokenizer with a token for each letter; capitals are read as small ones."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    each = Tokenizer(models.WordLevel({text: id for id, text in enumerate(LETTERS)}, "?"))
    each.normalizer = normalizers.Lowercase()
    each.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    each.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=each, unk_token="?", pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    return Path(folder)


def _unet(seed):
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )


def unet(folder, seed=0):
    """Save the denoiser of a diffusion model by itself, in float32."""
    _unet(seed).save_pretrained(folder)
    return Path(folder)


def pipeline(folder, seed=0):
    """Save a whole StableDiffusionPipeline, in float32."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    denoiser = _unet(seed)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, sample_size=8)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            projection_dim=16,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b", "ab</w>"]
    raw = Path(folder) / ".words"
    raw.mkdir(parents=True)
    (raw / "vocab.json").write_text(json.dumps({word: id for id, word in enumerate(words)}))
    (raw / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=CLIPTokenizer.from_pretrained(raw),
        unet=denoiser,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    shutil.rmtree(raw)
    pipe.save_pretrained(folder)
    return Path(folder)


def tensors(path, contents, metadata=None):
    """Save one safetensors file of tensors, or of NumPy arrays."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in contents.items()
    }
    save_file(made, path, metadata)
    return path


def change(path, changes):
    """Overwrite some of a safetensors file's tensors; ``None`` removes one."""
    found = {**load_file(path), **changes}
    return tensors(path, {k: v for k, v in found.items() if v is not None}, {"format": "pt"})


TEXT_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", *map(chr, range(33, 127)), " ", "\n")
TEXT_TOKENS = (*TEXT_TOKENS, *(f"w{k}" for k in range(128 - len(TEXT_TOKENS))))
"""128 tokens of a tokenizer that reads letter by letter."""


def reader(folder, added=(), pad=None, eos="</s>", template=None):
    """Save a tokenizer of 128 tokens and the added ones, as fine-tuned models have them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    each = Tokenizer(
        models.WordLevel({text: id for id, text in enumerate(TEXT_TOKENS)}, unk_token="<unk>")
    )
    each.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    each.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=each, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    if added:
        fast.add_special_tokens({"additional_special_tokens": list(added)})
    fast.pad_token, fast.eos_token = pad or "<pad>", eos
    fast.chat_template = template
    fast.save_pretrained(folder)
    return Path(folder)


def chatter(folder, seed=0, added=(), pad=None, eos="</s>", template=None, **config):
    """Save a Llama with a row for each of 128 tokens and the added ones, and its tokenizer."""
    ids = {text: id for id, text in enumerate((*TEXT_TOKENS, *added))}
    settings = {
        "vocab_size": len(ids),
        "bos_token_id": 1,
        "eos_token_id": ids[eos],
        "pad_token_id": ids[pad or "<pad>"],
        "initializer_range": 0.3,
        **config,
    }
    llama(folder, seed, **settings)
    return reader(folder, added, pad, eos, template)


def pickled(folder, shards=1, name="pytorch_model", nest=lambda tensors: tensors, **options):
    """Turn a folder's safetensors into what ``torch.save`` writes, in so many files."""
    found = sorted(Path(folder).glob("*.safetensors"))
    tensors = {name: tensor for path in found for name, tensor in load_file(path).items()}
    for path in Path(folder).glob("model*.safetensors*"):
        path.unlink()
    if shards == 1:
        torch.save(nest(tensors), Path(folder, f"{name}.bin"), **options)
        return Path(folder)
    places = {}
    for k, chosen in enumerate(np.array_split(list(tensors), shards)):
        file = f"{name}-{k + 1:05d}-of-{shards:05d}.bin"
        torch.save({str(each): tensors[each] for each in chosen}, Path(folder, file))
        places.update(dict.fromkeys(map(str, chosen), file))
    index = {"metadata": {}, "weight_map": places}
    Path(folder, f"{name}.bin.index.json").write_text(json.dumps(index))
    return Path(folder)
