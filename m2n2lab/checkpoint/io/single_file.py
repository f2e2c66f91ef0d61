"""Single-file models, as ComfyUI and A1111 keep them: their denoisers converted to folders."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from m2n2lab.checkpoint.io.folder import read_json
from m2n2lab.checkpoint.io.problems import Collector
from m2n2lab.utils.errors import InputError, first_line
from m2n2lab.utils.extras import missing
from m2n2lab.utils.loading import loading

DENOISER = "unet"


def unpack_single_files(
    sources: Sequence[str | Path], components: Sequence[str] | None
) -> Sequence[str | Path]:
    """Convert single files among the folders of pipelines to folders, with diffusers' own loader.

    The first source must be a folder: its config says how the denoiser is built, and it provides
    everything that is not merged.

    Returns:
        The sources, with the paths of these folders instead of the files.

    Raises:
        InputError: the first source is a file, more than the denoiser of a file is to be merged, or
            diffusers cannot read a file.
    """
    files = [Path(s).suffix in (".safetensors", ".sft") and Path(s).is_file() for s in sources]
    like = Path(sources[0]) if sources else Path()
    pipelines = any((Path(source) / "model_index.json").is_file() for source in sources)
    if not any(files) or not pipelines:
        return sources
    if files[0]:
        raise InputError(
            f"The first of several pipelines must be a diffusers folder, which provides all that "
            f"is not merged, got the single file {like}; name a folder first."
        )
    if list(components or ()) != [DENOISER]:
        raise InputError(
            f"Only the denoiser of a single file such as {sources[files.index(True)]} can be "
            f"merged; choose it with components=['{DENOISER}'] (--components {DENOISER})."
        )
    return [
        _folder(Path(source), like) if file else source
        for source, file in zip(sources, files, strict=True)
    ]


def _folder(file: Path, like: Path) -> Path:
    """Return a folder in the user's cache that holds the denoiser of a file."""
    about = file.stat()
    config = read_json(like / DENOISER / "config.json", Collector())
    key = f"{file.resolve()} {about.st_size} {about.st_mtime_ns} {sorted(config.items())}"
    home = user_cache_path("m2n2lab") / "single_files"
    place = home / f"{file.stem}-{sha256(key.encode()).hexdigest()[:16]}"
    if place.is_dir():
        return place
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as temporary:
        made = Path(temporary) / "made"
        _load(file, like).save_pretrained(made / DENOISER)
        shutil.copy(like / "model_index.json", made)
        made.rename(place)
    return place


def _load(file: Path, like: Path) -> Any:
    try:
        with loading(f"loading {file.name}"):
            from diffusers import UNet2DConditionModel

            model_class: Any = UNet2DConditionModel
            with tempfile.TemporaryDirectory() as temporary:
                # diffusers takes files with other suffixes, such as .sft, for pickles.
                named = Path(temporary, f"{file.stem}.safetensors")
                named.symlink_to(file.resolve())
                return model_class.from_single_file(
                    str(named), config=str(like), subfolder=DENOISER, local_files_only=True
                )
    except ImportError as error:
        raise missing(str(file), error.name or "diffusers", "images") from error
    except Exception as error:  # diffusers raises many classes for wrong keys and shapes
        reason = first_line(error)
        raise InputError(
            f"{file} must hold a denoiser like that of {like}, but diffusers cannot load it as one "
            f"({type(error).__name__}: {reason:.200}); give models of one architecture."
        ) from error
