"""Single files of picture models, as A1111 and ComfyUI keep them."""

import numpy as np
from safetensors import safe_open

from helpers.checkpoints import tensors

UNET = {
    "input_blocks.0.0.weight": (4, 4, 3, 3),
    "middle_block.0.in_layers.2.weight": (8, 4),
    "out.2.weight": (4, 8),
}
TEXT = {
    "embeddings.token_embedding.weight": (9, 4),
    "encoder.layers.0.self_attn.q_proj.weight": (4, 4),
    "final_layer_norm.weight": (4,),
}
PREFIX, CLIP = "model.diffusion_model.", "cond_stage_model.transformer."
METADATA = {
    "format": "pt",
    "modelspec.title": "A",
    "modelspec.thumbnail": "data:image/jpeg;base64,xyz",
    "modelspec.hash_sha256": "0xstale",
    "config": '{"transformer": 1}',
}


def weights(seed, shapes, prefix, dtype=np.float16):
    draws = np.random.default_rng(seed)
    return {
        f"{prefix}{name}": draws.normal(size=shape).astype(dtype) for name, shape in shapes.items()
    }


def a1111(seed, **more):
    """Return the tensors of an SD1.5 file in the layout of A1111."""
    return {
        "alphas_cumprod": np.linspace(1.0, 0.01, 10, dtype=np.float32),
        "betas": np.linspace(0.01, 0.1, 10, dtype=np.float32),
        **weights(seed, UNET, PREFIX),
        **weights(seed + 50, TEXT, f"{CLIP}text_model."),
        f"{CLIP}text_model.embeddings.position_ids": np.arange(4)[None],
        "first_stage_model.decoder.conv_out.weight": np.full((3, 3), 0.5, np.float16),
        **more,
    }


def single(tmp_path, seed, contents=None, name=None, metadata=None):
    name = name or f"{'AB'[seed]}.safetensors"
    return tensors(tmp_path / name, a1111(seed) if contents is None else contents, metadata)


def read(path):
    with safe_open(path, "np") as file:
        names = list(file.keys())  # it is no mapping
        return {name: file.get_tensor(name) for name in names}, file.metadata()


# -- whole models, in the shape of each family ---------------------------------------------------

FAMILIES = ("sd1", "sdxl", "sd3", "flux")


def _clip(kind, width, act="quick_gelu"):
    from transformers import CLIPTextConfig

    return kind(
        CLIPTextConfig(
            vocab_size=32,
            hidden_size=width,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=16,
            projection_dim=width,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
            hidden_act=act,
        )
    )


def _vae(channels, quantised):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        sample_size=16,
        latent_channels=channels,
        shift_factor=0.1 if channels == 16 else None,
        layers_per_block=2,
        use_quant_conv=quantised,
        use_post_quant_conv=quantised,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )


def _t5(width):
    from transformers import T5Config, T5EncoderModel

    shape = {"d_model": width, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    return T5EncoderModel(T5Config(vocab_size=32, **shape))


def modules(family, seed=0):
    """Return tiny random modules of a family, by component."""
    import torch
    from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    if family == "sd1":
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16, 16),
            layers_per_block=2,
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        )
        return {"unet": unet, "text_encoder": _clip(CLIPTextModel, 16), "vae": _vae(4, True)}
    if family == "sdxl":
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=2,
            cross_attention_dim=40,
            attention_head_dim=4,
            norm_num_groups=4,
            use_linear_projection=True,
            transformer_layers_per_block=(1, 2),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24 + 6 * 8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )
        second = _clip(CLIPTextModelWithProjection, 24, "gelu")
        texts = {"text_encoder": _clip(CLIPTextModel, 16), "text_encoder_2": second}
        return {"unet": unet, **texts, "vae": _vae(4, True)}
    if family == "sd3":
        transformer = SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=16,
            num_layers=3,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=40,
            caption_projection_dim=16,
            pooled_projection_dim=40,
            out_channels=16,
            pos_embed_max_size=8,
            dual_attention_layers=(0, 1),
            qk_norm="rms_norm",
        )
        texts = {
            "text_encoder": _clip(CLIPTextModelWithProjection, 16),
            "text_encoder_2": _clip(CLIPTextModelWithProjection, 24, "gelu"),
            "text_encoder_3": _t5(40),
        }
        return {"transformer": transformer, **texts, "vae": _vae(16, False)}
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=16,
        guidance_embeds=True,
        axes_dims_rope=(2, 2, 4),
    )
    texts = {"text_encoder": _clip(CLIPTextModel, 16), "text_encoder_2": _t5(24)}
    return {"transformer": transformer, **texts, "vae": _vae(16, False)}


def tokenizer_files(folder):
    """Write the vocabulary of a CLIP; return its folder."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b", "ab</w>"]
    (folder / "vocab.json").write_text(json.dumps({word: id for id, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    return folder


def pipeline(family, folder, seed=0, dtype="float32"):
    """Save a tiny random pipeline of a family; return its folder."""
    import diffusers
    import torch
    from tokenizers import Tokenizer, models
    from transformers import CLIPTokenizer, T5TokenizerFast

    clip = CLIPTokenizer.from_pretrained(
        tokenizer_files(folder.with_name(f"{folder.name}-words")), model_max_length=16
    )
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("▁b", -1.0)]
    t5 = T5TokenizerFast(
        tokenizer_object=Tokenizer(models.Unigram(pieces, 2)), extra_ids=0, model_max_length=16
    )
    own = modules(family, seed)
    with torch.no_grad():
        for module in own.values():
            for weight in module.parameters():  # norms too, which begin as ones and zeros
                weight.add_(0.05 * torch.randn_like(weight))
            module.to(getattr(torch, dtype))
    tokenizers = {
        name.replace("text_encoder", "tokenizer"): t5
        if type(module).__name__ == "T5EncoderModel"
        else clip
        for name, module in own.items()
        if name.startswith("text_encoder")
    }
    kind, scheduler, options = {
        "sd1": (
            diffusers.StableDiffusionPipeline,
            diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
            {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
        ),
        "sdxl": (
            diffusers.StableDiffusionXLPipeline,
            diffusers.EulerDiscreteScheduler(),
            {"add_watermarker": False},
        ),
        "sd3": (
            diffusers.StableDiffusion3Pipeline,
            diffusers.FlowMatchEulerDiscreteScheduler(),
            {},
        ),
        "flux": (diffusers.FluxPipeline, diffusers.FlowMatchEulerDiscreteScheduler(), {}),
    }[family]
    kind(scheduler=scheduler, **own, **tokenizers, **options).save_pretrained(folder)
    return folder
