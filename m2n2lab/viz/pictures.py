"""Pictures made of numbers, as data URIs: nothing is fetched, and no text is included."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """Return a picture (H, W) or (H, W, 3) as a data URI."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def sample_pixels(image: NDArray[np.float32], dark: bool = False) -> NDArray[np.uint8]:
    """Return a picture in [0, 1] as pixels; grey ones as dark ink on light paper."""
    ink = image if dark or image.ndim == 3 else 1.0 - image
    pixels: NDArray[np.uint8] = (np.clip(ink, 0.0, 1.0) * 255).astype(np.uint8)
    return pixels


def sample_uri(image: NDArray[np.float32], dark: bool) -> str:
    """Return a picture in [0, 1] as a data URI; grey ones as dark ink on light paper."""
    return png_uri(sample_pixels(image, dark))
