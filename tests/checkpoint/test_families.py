"""Families of models in transformers: merged, live and loaded again, each as its files say."""

import numpy as np
import pytest
import torch
import transformers as T  # noqa: N812
from helpers.merges import weights

from m2n2lab import CheckpointSpace
from m2n2lab.checkpoint import Checkpoint

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
HEADED = {**GROUPED, "head_dim": 8}
GPT = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1}
GPT |= {"eos_token_id": 2}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
QWEN_EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "decoder_sparse_step": 1,
}
T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
BART = {"vocab_size": 64, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1}
BART |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48}
BART |= {"decoder_ffn_dim": 48, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
VISION |= {"num_attention_heads": 4, "image_size": 16, "patch_size": 8}


def llava():
    vision = T.CLIPVisionConfig(**VISION, projection_dim=16)
    return T.LlavaConfig(vision_config=vision, text_config=T.LlamaConfig(**GROUPED))


def gemma3():
    return T.Gemma3Config(text_config=dict(HEADED), vision_config=VISION, mm_tokens_per_image=4)


def qwen2_vl():
    return T.Qwen2VLConfig(
        text_config={
            **GROUPED,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]},
        },
        vision_config={"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 4},
    )


def qwen3_vl_moe():
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4}
    vision |= {"out_hidden_size": 32, "num_position_embeddings": 16}
    return T.Qwen3VLMoeConfig(
        text_config={
            **HEADED,
            **QWEN_EXPERTS,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]},
        },
        vision_config={**vision, "deepstack_visual_indexes": [0]},
    )


def mistral3():
    return T.Mistral3Config(
        text_config=T.MistralConfig(**HEADED),
        vision_config=T.PixtralVisionConfig(**VISION),
        spatial_merge_size=2,
    )


BERT = {key: SIZES[key] for key in SIZES if key not in ("bos_token_id", "eos_token_id")}
BERT |= {"head_dim": 8}

FAMILIES = {
    "llama": ("LlamaForCausalLM", lambda: T.LlamaConfig(**GROUPED)),
    "llama tied": ("LlamaForCausalLM", lambda: T.LlamaConfig(**GROUPED, tie_word_embeddings=True)),
    "mistral": ("MistralForCausalLM", lambda: T.MistralConfig(**GROUPED)),
    "mixtral": ("MixtralForCausalLM", lambda: T.MixtralConfig(**GROUPED, **EXPERTS)),
    "qwen2": ("Qwen2ForCausalLM", lambda: T.Qwen2Config(**GROUPED)),
    "qwen3": ("Qwen3ForCausalLM", lambda: T.Qwen3Config(**HEADED)),
    "qwen2-moe": ("Qwen2MoeForCausalLM", lambda: T.Qwen2MoeConfig(**GROUPED, **QWEN_EXPERTS)),
    "qwen3-moe": ("Qwen3MoeForCausalLM", lambda: T.Qwen3MoeConfig(**HEADED, **QWEN_EXPERTS)),
    "gemma": ("GemmaForCausalLM", lambda: T.GemmaConfig(**HEADED)),
    "gemma2": ("Gemma2ForCausalLM", lambda: T.Gemma2Config(**HEADED)),
    "gemma3 text": ("Gemma3ForCausalLM", lambda: T.Gemma3TextConfig(**HEADED)),
    "gemma3": ("Gemma3ForConditionalGeneration", gemma3),
    "phi": ("PhiForCausalLM", lambda: T.PhiConfig(**SIZES)),
    "phi3": ("Phi3ForCausalLM", lambda: T.Phi3Config(**GROUPED)),
    "olmo2": ("Olmo2ForCausalLM", lambda: T.Olmo2Config(**GROUPED)),
    "olmoe": (
        "OlmoeForCausalLM",
        lambda: T.OlmoeConfig(**GROUPED, num_experts=4, num_experts_per_tok=2),
    ),
    "granite": ("GraniteForCausalLM", lambda: T.GraniteConfig(**GROUPED)),
    "cohere": ("CohereForCausalLM", lambda: T.CohereConfig(**GROUPED)),
    "stablelm": ("StableLmForCausalLM", lambda: T.StableLmConfig(**GROUPED)),
    "starcoder2": ("Starcoder2ForCausalLM", lambda: T.Starcoder2Config(**GROUPED)),
    "gpt2": ("GPT2LMHeadModel", lambda: T.GPT2Config(**GPT)),
    "gpt-j": ("GPTJForCausalLM", lambda: T.GPTJConfig(**GPT, rotary_dim=4)),
    "gpt-neox": ("GPTNeoXForCausalLM", lambda: T.GPTNeoXConfig(**SIZES)),
    "opt": (
        "OPTForCausalLM",
        lambda: T.OPTConfig(
            vocab_size=64,
            hidden_size=32,
            ffn_dim=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            word_embed_proj_dim=32,
            max_position_embeddings=64,
        ),
    ),
    "bloom": ("BloomForCausalLM", lambda: T.BloomConfig(vocab_size=64, hidden_size=32, n_head=4)),
    "falcon": ("FalconForCausalLM", lambda: T.FalconConfig(**SIZES)),
    "gpt-oss": ("GptOssForCausalLM", lambda: T.GptOssConfig(**HEADED, **EXPERTS)),
    "deepseek-v3": (
        "DeepseekV3ForCausalLM",
        lambda: T.DeepseekV3Config(
            **{**SIZES, "num_key_value_heads": 4},
            moe_intermediate_size=16,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_group=2,
            topk_group=1,
            n_shared_experts=1,
            first_k_dense_replace=1,
            q_lora_rank=8,
            kv_lora_rank=8,
            qk_rope_head_dim=4,
            qk_nope_head_dim=4,
            v_head_dim=8,
        ),
    ),
    "mamba": (
        "MambaForCausalLM",
        lambda: T.MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4),
    ),
    "llava": ("LlavaForConditionalGeneration", llava),
    "qwen2-vl": ("Qwen2VLForConditionalGeneration", qwen2_vl),
    "mistral3": ("Mistral3ForConditionalGeneration", mistral3),
    # Files with tensors that a module has in several, or rearranged.
    "hrm": (
        "HrmTextForCausalLM",
        lambda: T.HrmTextConfig(**HEADED, num_layers_per_stack=1, H_cycles=1, L_cycles=1),
    ),
    "molmo2": ("Molmo2TextModel", lambda: T.Molmo2TextConfig(**HEADED, additional_vocab_size=8)),
    "nomic-bert": ("NomicBertForMaskedLM", lambda: T.NomicBertConfig(**BERT)),
    "qwen3-vl-moe": ("Qwen3VLMoeForConditionalGeneration", qwen3_vl_moe),
    "dinov2": (
        "Dinov2ForImageClassification",
        lambda: T.Dinov2Config(**VISION, mlp_ratio=2, use_swiglu_ffn=True),
    ),
    "t5": ("T5ForConditionalGeneration", lambda: T.T5Config(**T5)),
    "bart": ("BartForConditionalGeneration", lambda: T.BartConfig(**BART)),
    "bert": ("BertForMaskedLM", lambda: T.BertConfig(**SIZES)),
    "bert classifier": ("BertForSequenceClassification", lambda: T.BertConfig(**SIZES)),
    "roberta": ("RobertaForMaskedLM", lambda: T.RobertaConfig(**SIZES)),
    "vit": ("ViTForImageClassification", lambda: T.ViTConfig(**VISION)),
    "clip": (
        "CLIPModel",
        lambda: T.CLIPConfig(
            text_config={**SIZES, "max_position_embeddings": 16},
            vision_config=VISION,
            projection_dim=16,
        ),
    ),
    "resnet": (
        "ResNetForImageClassification",
        lambda: T.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1]),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_live_saved_and_loaded_are_one(family, here):
    name, config = FAMILIES[family]
    model_class = getattr(T, name)
    for k, folder in enumerate("ab"):
        torch.manual_seed(k)
        model = model_class(config())
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.1)
        model.save_pretrained(folder)
    space = CheckpointSpace("a", "b")
    child = space.merge(*space.seeds, space.size // 3, 0.3)
    space.save(child, "out")
    a, b = Checkpoint.open("a"), Checkpoint.open("b")
    flat = [np.concatenate([x.array(n).astype(float) for n in x.merged]) for x in (a, b)]
    starts = np.searchsorted(child.breaks, np.arange(space.size), side="right") - 1
    wanted = (child.coef[starts] * np.stack(flat, axis=1)).sum(axis=1)
    saved = Checkpoint.open("out")
    found = np.concatenate([saved.array(n) for n in saved.merged])
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)
    with torch.no_grad():
        live = space.materialise(child)
    again, info = model_class.from_pretrained("out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ours, theirs = live.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        if tensor.is_floating_point() and not key.endswith(("running_mean", "running_var")):
            assert torch.equal(ours[key], tensor), key
    assert weights("out").keys() == weights("a").keys()
