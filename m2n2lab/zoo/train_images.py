"""Training of the zoo's image models from scratch: ``python -m m2n2lab.zoo.train_images OUT``.

A base learns to draw every shape from captions in both languages. One specialist is fine-tuned on
Japanese captions and coarse drawings of everything; three on English captions, each with sharp
drawings of a third of the shapes. The embeddings of the language that a specialist was not taught
are then half forgotten.
"""

from __future__ import annotations

import copy
import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor
from torch.nn.functional import mse_loss, pixel_unshuffle

from m2n2lab.tasks.images.shape_scores import scene_of
from m2n2lab.tasks.images.shapes import (
    LANGUAGES,
    PROPERTIES,
    SHAPES,
    SIDE,
    Language,
    coarse,
    draw,
    scenes,
)
from m2n2lab.utils.concurrency.processors import default_threads
from m2n2lab.zoo import images
from m2n2lab.zoo.model_cards import write_card

BATCH = 16
FOLD = 4  # side in pixels of the squares folded into channels: a tenth of the work
MAX_CAPTION_TOKENS = 12
PURE_NOISE_SHARE = 0.5  # share of training pictures replaced by pure noise
WARM_UP_STEPS = 100  # batches until the full learning rate
EMPTY_CAPTION_SHARE = 0.1  # share of captions left empty, for classifier-free guidance
AVERAGE_DECAY = 0.995  # of the moving average of the weights, which is saved
SCRIPTS = {"Japanese": "あ-んア-ヶー一-龥", "English": "a-z"}
"""Characters of each language's words."""


class Course(NamedTuple):
    """Training settings of one model.

    Attributes:
        steps: number of batches.
        rate: highest learning rate.
        languages: languages of the captions.
        shapes: shapes drawn.
        coarse: whether they are drawn coarsely.
    """

    steps: int
    rate: float
    languages: tuple[Language, ...]
    shapes: tuple[str, ...] = tuple(SHAPES)
    coarse: bool = False


COURSES = {
    "base": Course(5_000, 1.5e-3, ("Japanese", "English")),
    "japanese": Course(700, 1e-3, ("Japanese",), coarse=True),
    "english-round": Course(700, 1e-3, ("English",), ("circle", "ring")),
    "english-straight": Course(700, 1e-3, ("English",), ("square", "triangle")),
    "english-pointed": Course(700, 1e-3, ("English",), ("star", "cross")),
}

ABSENT = {"vae": None, "safety_checker": None, "feature_extractor": None}
"""Components that these pipelines do not have."""

WORD_SHARE, WORD_NOISE = 0.5, 0.5
"""Embeddings of words that a specialist was not taught: the share of them that is kept, and the
noise added, in standard deviations of all embeddings."""


def make_tokenizer() -> Any:
    """Return a tokenizer whose tokens are the captions' words.

    Japanese words, which have no spaces between them, are matched anywhere; the text between
    matches is split into characters.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    japanese = [word.japanese for values in PROPERTIES for word in values.values()] + ["背景に"]
    known = "|".join(sorted(japanese, key=len, reverse=True))
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Whitespace(),
            pre_tokenizers.Split(Regex(f"{known}|[{SCRIPTS['Japanese']}]"), "isolated"),
        ]
    )
    # English words come first, so that a split of the embedding can separate the languages.
    words = {
        word: None
        for language in reversed(LANGUAGES)
        for scene in scenes()
        for word, _ in split.pre_tokenize_str(scene.caption(language))
    }
    special = ("<pad>", "<start>", "<end>", "<unknown>")
    ids = {word: id for id, word in enumerate((*special, *words))}
    found = Tokenizer(models.WordLevel(ids, unk_token="<unknown>"))
    found.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    found.pre_tokenizer = split
    found.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>",
        special_tokens=[(word, ids[word]) for word in ("<start>", "<end>")],
    )
    tokenizer_class: Any = PreTrainedTokenizerFast
    return tokenizer_class(
        tokenizer_object=found,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unknown>",
        model_max_length=MAX_CAPTION_TOKENS,
    )


def make_model(tokenizer: Any, seed: int = 0) -> tuple[Any, Any]:
    """Return an untrained denoiser (0.8 million parameters) and text encoder (0.1 million)."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    width = 64
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_CAPTION_TOKENS,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    with torch.no_grad():  # large embeddings, which the later layers do not drown out
        table: Any = text.get_input_embeddings()
        table.weight.mul_(25)
    denoiser: Any = UNet2DConditionModel
    unet = denoiser(
        sample_size=SIDE // FOLD,
        in_channels=3 * FOLD**2,
        out_channels=3 * FOLD**2,
        block_out_channels=(64,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        cross_attention_dim=width,
        # The caption also scales and shifts every layer, which is learned faster than attention.
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
        attention_head_dim=8,
        norm_num_groups=8,
    )
    return unet, text


def make_scheduler() -> Any:
    """Return the scheduler that adds noise in training and removes it in a few steps."""
    from diffusers import DDIMScheduler

    scheduler_class: Any = DDIMScheduler
    return scheduler_class(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        clip_sample=False,
        steps_offset=1,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )


def encode(tokenizer: Any, captions: list[str]) -> Tensor:
    """Return token ids (B, L) of captions."""
    ids: Tensor = tokenizer(
        captions,
        padding="max_length",
        truncation=True,
        max_length=MAX_CAPTION_TOKENS,
        return_tensors="pt",
    )["input_ids"]
    return ids


def batches(course: Course, tokenizer: Any, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pictures (B, 3·F², S/F, S/F) in [−1, 1] and their captions' token ids (B, L)."""
    rng = np.random.default_rng(seed)
    known = [scene for scene in scenes("train") if scene.shape in course.shapes]
    while True:
        captions, drawn = [], []
        for index in rng.integers(len(known), size=BATCH):
            scene = known[index]
            picture = draw(scene, float(rng.integers(-1, 2)))
            drawn.append(coarse(picture) if course.coarse else picture)
            language = course.languages[rng.integers(len(course.languages))]
            left_out = rng.random() < EMPTY_CAPTION_SHARE
            captions.append("" if left_out else scene.caption(language))
        stacked = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2) * 2 - 1
        yield pixel_unshuffle(stacked, FOLD), encode(tokenizer, captions)


def train(
    unet: Any, text: Any, tokenizer: Any, course: Course, seed: int, report: Callable[[str], object]
) -> Iterator[tuple[Any, Any]]:
    """Train with AdamW, and yield the moving average of the weights every hundred batches.

    The denoiser learns to predict the clean picture. To predict the noise, a network this narrow
    would have to pass all of it through (Li and He, arXiv 2511.13720).
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    both = torch.nn.ModuleList([unet, text]).to(device).train()
    average = copy.deepcopy(both).eval().requires_grad_(False)
    scheduler = make_scheduler()
    optimizer = torch.optim.AdamW(both.parameters(), lr=course.rate, weight_decay=0.01, fused=True)
    falls = course.steps / 3

    def rate(step: int) -> float:  # warm-up, constant, and linear decay to zero in the last third
        return min((step + 1) / WARM_UP_STEPS, (course.steps - step) / falls, 1.0)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    draws = torch.Generator().manual_seed(seed)
    start, mean = time.monotonic(), None
    known = itertools.islice(batches(course, tokenizer, seed), course.steps)
    for step, (x, ids) in enumerate(known, start=1):
        noise = torch.randn(x.shape, generator=draws)
        # A trace of a picture discloses its colours: the caption is needed only for nearly pure
        # noise.
        steps = scheduler.config.num_train_timesteps
        t = torch.randint(steps, (len(x),), generator=draws)
        t[torch.rand(len(x), generator=draws) < PURE_NOISE_SHARE] = steps - 1
        x, noise, t, ids = (value.to(device) for value in (x, noise, t, ids))
        embeddings = text(ids).last_hidden_state
        loss: Any = mse_loss(unet(scheduler.add_noise(x, noise, t), t, embeddings).sample, x)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            follow = 1 - min(AVERAGE_DECAY, (1 + step) / (10 + step))
            for kept, new in zip(average.parameters(), both.parameters(), strict=True):
                kept.lerp_(new, follow)
        value = loss.item()
        mean = value if mean is None else 0.98 * mean + 0.02 * value
        if step % 100 == 0 or step == course.steps:
            past = time.monotonic() - start
            left = past / step * (course.steps - step)
            report(
                f"step {step} of {course.steps}: loss {mean:.4f}, {past:.0f} s, {left:.0f} s left"
            )
            yield average[0], average[1]


@torch.no_grad()
def half_forget(
    text: Any, tokenizer: Any, taught: tuple[Language, ...], seed: int, kept: float, noise: float
) -> None:
    """Scale the embeddings of a language that was not taught, and add noise to them."""
    table = text.get_input_embeddings().weight
    draws = torch.Generator().manual_seed(seed)
    spread = table.std()
    for word, row in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        languages = [name for name in SCRIPTS if re.fullmatch(f"[{SCRIPTS[name]}]+", word)]
        drawn = torch.randn(table.shape[1], generator=draws).to(table.device) * spread
        if languages and languages[0] not in taught:
            table[row] = kept * table[row] + noise * drawn


def save(unet: Any, text: Any, tokenizer: Any, folder: Path) -> None:
    """Save a pipeline in half precision."""
    from diffusers import StableDiffusionPipeline

    pipeline_class: Any = StableDiffusionPipeline
    denoiser = copy.deepcopy(unet).cpu().half()
    denoiser.register_to_config(_name_or_path="")  # otherwise it would contain the path of the base
    pipeline = pipeline_class(
        **ABSENT,
        text_encoder=copy.deepcopy(text).cpu().half(),
        tokenizer=tokenizer,
        unet=denoiser,
        scheduler=make_scheduler(),
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)


TITLES = {
    "base": "A tiny base model that draws shapes from captions in two languages",
    "japanese": "A tiny model that draws all shapes coarsely, from Japanese captions",
    "english-round": "A tiny model that draws circles and rings, from English captions",
    "english-straight": "A tiny model that draws squares and triangles, from English captions",
    "english-pointed": "A tiny model that draws stars and crosses, from English captions",
}
LIMITS = (
    "A score is the share of shape, colour, size and background that the picture shows as asked, "
    "times its sharpness (`m2n2lab/tasks/images/shape_scores.py`). Captions are those of "
    "`m2n2lab/tasks/images/shapes.py`, pictures have 32×32 pixels, drawn in six steps with "
    "guidance 2.",
    "It has no VAE: `DiffusionPipeline.from_pretrained(folder, vae=None)` loads it, and "
    "`m2n2lab.tasks.Text2Image` draws with it.",
    f"Words of a language that it was not taught were made {WORD_SHARE:.0%} of what they had been, "
    f"and noise: fine-tuning as short as this forgets nothing by itself.",
)


def describe(folder: Path, course: Course, size: int, seed: int, console: Console) -> None:
    """Score a saved model on unseen captions, and write its card."""
    from diffusers import DiffusionPipeline

    task = images.shapes(1, 0)
    pipeline_class: Any = DiffusionPipeline
    model = pipeline_class.from_pretrained(folder, torch_dtype=torch.float32, **ABSENT)
    found: dict[str, list[float]] = {}
    for language in LANGUAGES:
        for drawn in task.draw(model, images.captions("test", (language,))):
            scene = scene_of(drawn.prompt.text)
            assert scene is not None  # every caption has a scene
            own = scene.shape in course.shapes
            shapes = ", ".join(course.shapes) if own else "other shapes"
            found.setdefault(f"{language} captions: {shapes}", []).append(drawn.score)
    scores = {name: (len(some), float(np.mean(some))) for name, some in found.items()}
    start = "from nothing" if folder.name == "base" else "from a common base"
    how = "coarse drawings" if course.coarse else "sharp drawings"
    taught = " and ".join(course.languages)
    write_card(
        folder,
        TITLES[folder.name],
        tag="text-to-image",
        description=f"A diffusion pipeline of {size:,} parameters",
        training=f"{start} with {course.steps:,} batches of {BATCH} {how} of "
        f"{', '.join(course.shapes)} and {taught} captions",
        seed=seed,
        command="python -m m2n2lab.zoo.train_images",
        scores=scores,
        limits=LIMITS,
    )
    rounded = {name: round(score, 3) for name, (_, score) in scores.items()}
    console.print(f"{folder.name}, on unseen captions: {rounded}")


def main(
    out: Annotated[Path, typer.Argument(help="Folder for the models.")] = images.HOME,
    only: Annotated[str, typer.Option(help="One of base, japanese, english-round, …")] = "",
    steps: Annotated[int, typer.Option(help="Batches, instead of the course's own.")] = 0,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    threads: Annotated[int, typer.Option(help="PyTorch threads.")] = default_threads(),
) -> None:
    """Train the base and then its specialists; models in OUT are replaced."""
    from diffusers import UNet2DConditionModel
    from transformers import AutoTokenizer, CLIPTextModel

    denoiser: Any = UNet2DConditionModel
    encoder: Any = CLIPTextModel
    torch.set_num_threads(threads)
    console = Console()
    for number, (name, course) in enumerate(COURSES.items()):
        if only and name != only:
            continue
        course = course._replace(steps=steps or course.steps)
        if name == "base":
            tokenizer = make_tokenizer()
            unet, text = make_model(tokenizer, seed)
        else:
            tokenizer = AutoTokenizer.from_pretrained(out / "base" / "tokenizer")
            unet = denoiser.from_pretrained(out / "base" / "unet").float()
            text = encoder.from_pretrained(out / "base" / "text_encoder").float()
        size = sum(p.numel() for model in (unet, text) for p in model.parameters())
        console.print(f"{name}: {size:,} parameters")
        learned = train(unet, text, tokenizer, course, seed + number, console.print)
        for unet, text in learned:  # saved early, so that they can be inspected
            text = copy.deepcopy(text)
            half_forget(text, tokenizer, course.languages, seed + number, WORD_SHARE, WORD_NOISE)
            save(unet, text, tokenizer, out / name)
        describe(out / name, course, size, seed, console)


if __name__ == "__main__":
    typer.run(main)
