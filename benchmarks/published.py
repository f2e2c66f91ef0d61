"""The two specialists that every pre-trained run of the paper's published code starts from.

That code (github.com/SakanaAI/natural_niches) draws two networks from JAX's generator with seed 42,
trains each on half of the classes, and starts all its pre-trained runs from this one pair. How good
a merge can be is decided by the pair more than by anything else, so a comparison with the paper's
values needs the same two. JAX's generator, as it was up to version 0.4, is Threefry-2x32 (Salmon et
al. 2011, doi:10.1145/2063384.2063405), a few lines of NumPy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfinv

from m2n2lab.tasks.classify import SCALE, Classify

SEED = 42
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
HALVES = (range(5), range(5, 10))

Words = NDArray[np.uint32]


def threefry(key: Words, counts: Words) -> Words:
    """Return a random word for each of an even number of counts."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(PARITY))
    x, y = (half.copy() for half in np.split(counts, 2))
    x += keys[0]
    y += keys[1]
    for group in range(5):
        for turn in ROTATIONS[group % 2]:
            x += y
            y = (y << np.uint32(turn)) | (y >> np.uint32(32 - turn))
            y ^= x
        x += keys[(group + 1) % 3]
        y += keys[(group + 2) % 3] + np.uint32(group + 1)
    return np.concatenate([x, y])


def normals(key: Words, count: int) -> NDArray[np.float32]:
    """Return standard normals (count,), as ``jax.random.normal`` draws them."""
    words = threefry(key, np.arange(count, dtype=np.uint32))
    low = np.nextafter(np.float32(-1), np.float32(0))
    unit = ((words >> np.uint32(9)) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)
    uniform = np.maximum(low, unit * (np.float32(1) - low) + low)
    drawn: NDArray[np.float32] = np.float32(2**0.5) * erfinv(uniform)
    return drawn


def specialists(task: Classify) -> NDArray[np.float32]:
    """Return the published code's pair (2, N) for the digits: of 0–4 and of 5–9."""
    with np.errstate(over="ignore"):  # words wrap around
        keys = threefry(np.array([0, SEED], np.uint32), np.arange(4, dtype=np.uint32)).reshape(2, 2)
        start = [np.float32(SCALE) * normals(key, task.layout.size) for key in keys]
    return task.trained_seeds(HALVES, start=start)
