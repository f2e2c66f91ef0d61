"""Features of pictures of shapes: a small network that tells what is drawn, and how well.

CLIP, by whose features the paper compares pictures (arXiv 2508.16204, §4.3), says little about
drawings of 32 × 32 pixels. This network was trained on drawings of all scenes, moved, blurred, pale
and noisy, to name shape, colour, size and background, and to say how blurred, pale and noisy they
are; the features are the last layer before the answers, less their mean over all drawings, so that
the cosine of two unlike pictures is near 0. No picture model was trained with it.

    python benchmarks/picture_features.py       # trains it anew, a minute of one core
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from curves import RESULTS
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from m2n2lab.tasks.images.diffusion import Prompt
from m2n2lab.tasks.images.scorers import PictureScorer
from m2n2lab.tasks.images.shape_scores import scene_of
from m2n2lab.tasks.images.shapes import PROPERTIES, Scene, coarse, draw, scenes
from m2n2lab.utils.arrays import Bytes, Floats

FILE = RESULTS / "images" / "features.safetensors"
WIDTH = 64
STEPS, BATCH, RATE = 1_000, 64, 2e-3
DEGREES = 2.0
"""Weight of the degrees in training, beside the names of a property."""


class Network(nn.Module):
    """Convolutions, then features (n, 64), then the names of each property and three degrees."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, WIDTH)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * WIDTH, WIDTH))
        self.heads = nn.ModuleList(nn.Linear(WIDTH, len(values)) for values in PROPERTIES)
        self.degrees = nn.Linear(WIDTH, 3)
        self.register_buffer("centre", torch.zeros(WIDTH))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return features (n, 64) of pictures (n, 3, 32, 32) in [0, 1]."""
        found: Tensor = self.body(pictures - 0.5)
        return found

    @torch.inference_mode()
    def embed(self, pictures: Sequence[Bytes] | Bytes) -> Floats:
        """Return centred features (n, 64) of length 1 of pictures (n, 32, 32, 3) in 0..255."""
        found = torch.from_numpy(self.raw(pictures)) - self.centre.double()
        return np.asarray(nn.functional.normalize(found).numpy())

    @torch.inference_mode()
    def raw(self, pictures: Sequence[Bytes] | Bytes) -> Floats:
        """Return features (n, 64) of pictures (n, 32, 32, 3) in 0..255."""
        given = torch.from_numpy(np.stack(list(pictures)).astype(np.float32) / 255)
        return np.asarray(self(given.permute(0, 3, 1, 2)).double().numpy())


def drawn(scene: Scene) -> Bytes:
    """Return the drawing of a scene, (32, 32, 3) in 0..255: what photographs are to the paper."""
    return np.asarray((draw(scene) * 255).round(), np.uint8)


def _examples(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return pictures (B, 3, 32, 32), the numbers of their properties (B, 4) and degrees (B, 3)."""
    known = scenes()
    names = [list(values) for values in PROPERTIES]
    pictures, labels, degrees = [], [], []
    for index in rng.integers(len(known), size=BATCH):
        scene = known[index]
        picture = draw(scene, *rng.integers(-2, 3, size=2).astype(float))
        # Blur in pixels, contrast lost, and standard deviation of noise; often none of them.
        blur, pale, noise = rng.uniform(0.0, (2.5, 0.5, 0.15)) * (rng.random(3) < 0.5)
        picture = coarse(picture, blur, 1.0 - pale) + rng.normal(0.0, noise, picture.shape)
        pictures.append(picture.clip(0.0, 1.0).astype(np.float32))
        labels.append([values.index(value) for values, value in zip(names, scene, strict=True)])
        degrees.append([blur, 4 * pale, 10 * noise])
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return stacked, torch.tensor(labels), torch.tensor(degrees, dtype=torch.float32)


def trained(seed: int = 0) -> Network:
    """Return the network, trained from nothing."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng, network = np.random.default_rng(seed), Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        pictures, labels, degrees = _examples(rng)
        features = network(pictures)
        loss: Any = DEGREES * nn.functional.mse_loss(network.degrees(features), degrees) + sum(
            nn.functional.cross_entropy(head(features), labels[:, number])
            for number, head in enumerate(network.heads)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        every = torch.from_numpy(np.stack([draw(scene) for scene in scenes()]))
        network.centre = network(every.float().permute(0, 3, 1, 2)).mean(dim=0)
    return network.eval()


def accuracy(network: Network, seed: int = 1) -> float:
    """Return the share of properties that it names rightly in new examples."""
    rng = np.random.default_rng(seed)
    right = []
    with torch.no_grad():
        for _ in range(8):
            pictures, labels, _ = _examples(rng)
            features = network(pictures)
            for number, head in enumerate(network.heads):
                right.append((head(features).argmax(dim=1) == labels[:, number]).float().mean())
    return float(torch.stack(right).mean())


@cache
def features() -> Network:
    """Return the network that was trained and kept."""
    network = Network()
    network.load_state_dict(load_file(FILE))
    return network.eval()


class Likeness(PictureScorer):
    """Likeness of pictures and the drawings of what their captions say, (1 + cos) / 2.

    The paper's NCS: the cosine of the features of both, scaled to [0, 1].
    """

    def score(self, pictures: Bytes, prompts: Sequence[Prompt]) -> Floats:
        """Return scores (n,)."""
        found = [scene_of(prompt.text) for prompt in prompts]
        true = features().embed([drawn(scene) for scene in found if scene is not None])
        cosines = np.einsum("nd,nd->n", features().embed(pictures), true)
        return np.asarray(((1.0 + cosines) / 2.0).clip(0.0, 1.0))


def main() -> None:
    """Train the network, keep it, and print what it knows."""
    network = trained()
    FILE.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, FILE)
    every = network.embed([drawn(scene) for scene in scenes()])
    cosines = every @ every.T
    others = cosines[~np.eye(len(every), dtype=bool)]
    print(
        f"names {accuracy(network):.1%} of the properties of new drawings; cosines of unlike "
        f"drawings {others.mean():.2f} on average, {np.quantile(others, 0.99):.2f} at most but "
        f"for one in a hundred; {FILE.stat().st_size / 1e3:.0f} kB"
    )


if __name__ == "__main__":
    main()
