"""Four pipelines in the shape of SDXL, random, in half precision: three steps of a search.

Measures the time of a picture and of a step, and the most memory. The shape of the quick version is
SDXL's with a fiftieth of its width; the real one (``--full``) has 2.6B parameters a denoiser, needs
22 GB of disk, 6 GB of memory beyond what a pipeline takes, and is meant for a GPU.

    python benchmarks/sdxl_shape.py [--full] [--device cuda] [--steps-per-picture 20] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from findings import Finding
from numpy.typing import NDArray

from m2n2lab.config.builders import build_evolver
from m2n2lab.config.settings import Settings
from m2n2lab.tasks import Progress, Watch, text2image
from m2n2lab.utils.concurrency.processors import default_threads

SEEDS, STEPS, PROMPTS = 4, 3, 2
NOISE = 0.05
"""Differences of the seeds to the first one, as a share of the spread of each tensor."""

FULL: dict[str, Any] = {
    "channels": (320, 640, 1280),
    "layers": (1, 2, 10),
    "heads": (5, 10, 20),
    "texts": ((768, 3072, 12, 12), (1280, 5120, 20, 32)),
    "vae": (128, 256, 512, 512),
    "groups": 32,
    "time": 256,
    "sample": 128,
    "vocabulary": 49_408,
}
"""SDXL 1.0: channels, transformer layers and heads of each level; width, feed-forward width, heads
and layers of both text encoders."""

TINY: dict[str, Any] = {
    "channels": (8, 16, 32),
    "layers": (1, 1, 2),
    "heads": (2, 2, 4),
    "texts": ((16, 32, 2, 2), (24, 48, 2, 2)),
    "vae": (8, 8, 8, 8),
    "groups": 4,
    "time": 8,
    "sample": 8,
    "vocabulary": 64,
}


def pipeline(folder: Path, shape: dict[str, Any]) -> Any:
    """Return a random pipeline of a shape in float16."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
    )

    torch.manual_seed(0)
    widths = [text[0] for text in shape["texts"]]
    unet = UNet2DConditionModel(
        sample_size=shape["sample"],
        block_out_channels=shape["channels"],
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=shape["layers"],
        attention_head_dim=shape["heads"],
        cross_attention_dim=sum(widths),
        norm_num_groups=shape["groups"],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=shape["time"],
        projection_class_embeddings_input_dim=widths[1] + 6 * shape["time"],
    )
    vae = AutoencoderKL(
        block_out_channels=shape["vae"],
        layers_per_block=2,
        norm_num_groups=shape["groups"],
        sample_size=8 * shape["sample"],
        scaling_factor=0.13025,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    encoders = [
        kind(
            CLIPTextConfig(
                vocab_size=shape["vocabulary"],
                hidden_size=width,
                intermediate_size=inner,
                num_attention_heads=heads,
                num_hidden_layers=layers,
                projection_dim=width,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
        for kind, (width, inner, heads, layers) in zip(
            (CLIPTextModel, CLIPTextModelWithProjection), shape["texts"], strict=True
        )
    ]
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b", "ab</w>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: id for id, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    made = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    )
    return made.to(torch.float16)


def make(folder: Path, shape: dict[str, Any]) -> list[Path]:
    """Save four pipelines, whose denoisers differ from the first one's by noise."""
    made = pipeline(folder / "words", shape)
    seeds = [folder / name for name in "abcd"[:SEEDS]]
    rng = torch.Generator().manual_seed(1)
    made.save_pretrained(seeds[0])
    for seed in seeds[1:]:  # repositories of a denoiser alone, as SDXL-DPO
        with torch.no_grad():
            for value in made.unet.parameters():
                spread = NOISE * float(value.float().std(correction=0))
                value += spread * torch.randn(value.shape, generator=rng).to(value.dtype)
        made.unet.save_pretrained(seed / "unet")
    return seeds


def brightness(pictures: NDArray[np.uint8], prompts: Any) -> NDArray[np.float64]:
    """Score pictures at once, so that drawing alone is measured."""
    return np.asarray(pictures.mean(axis=(1, 2, 3)) / 255)


def show(progress: Progress) -> None:
    """Show the progress of a picture in a terminal."""
    print(f"\r{progress.words:<60}", end="", file=sys.stderr, flush=True)


def measure(
    full: bool, device: str, steps_per_picture: int, folder: Path | None = None
) -> Iterator[Finding]:
    """Make the models, search, and yield what a picture, a step and the memory took."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        home = Path(name)
        began = time.perf_counter()
        seeds = make(home, FULL if full else TINY)
        print(f"made {len(seeds)} seeds in {time.perf_counter() - began:.0f} s", flush=True)
        (home / "prompts.txt").write_text("a b\nab\n")
        settings = Settings(
            "text2image",
            models=tuple(map(str, seeds)),
            components=("unet",),
            device=device,
            data=home / "prompts.txt",
            options={"archive_size": SEEDS},
        )
        task = text2image(
            home / "prompts.txt", PROMPTS, 0, scorer=brightness, steps=steps_per_picture
        )
        evolver = build_evolver(settings, task)
        end = task.watch(Watch(show) if sys.stderr.isatty() else Watch())
        if device.startswith("cuda"):
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        evolver.run(STEPS)
        took = time.perf_counter() - began
        end()
        assert evolver.generation == STEPS
        # Before a step's pictures its weights are written, which the time of a picture leaves out.
        one = time.perf_counter()
        model = evolver.space.materialise(evolver.best.genome)
        written = time.perf_counter() - one
        assert model.recipe == evolver.best.genome
        what = "SDXL" if full else "SDXL's shape, tiny"
        per_step = took / STEPS
        yield Finding(f"{what}, a step of {PROMPTS} pictures on {device}", f"{per_step:.2f} s")
        picture = max(per_step - written, 0.0) / PROMPTS
        yield Finding(f"a picture of {steps_per_picture} denoising steps", f"{picture:.2f} s")
        yield Finding("writing a child into the pipeline", f"{written:.2f} s")
        if device.startswith("cuda"):
            most = torch.cuda.max_memory_allocated() / 1e9
            yield Finding("memory of the GPU at most", f"{most:.1f} GB")
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        yield Finding(
            "memory of the process at most, mapped files too", f"{kilobytes / 1e6:.1f} GB"
        )


def findings(quick: bool) -> Iterator[Finding]:
    torch.set_num_threads(default_threads())
    if quick or torch.cuda.is_available():
        device = "cpu" if quick else "cuda"
        yield from measure(not quick, device, 2 if quick else 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="SDXL's real size")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--steps-per-picture", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    given = parser.parse_args()
    torch.set_num_threads(default_threads())
    for finding in measure(given.full, given.device, given.steps_per_picture, given.folder):
        print(f"{finding.what}: {finding.figure}")


if __name__ == "__main__":
    main()
