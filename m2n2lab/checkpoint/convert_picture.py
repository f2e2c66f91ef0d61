"""Conversion of a picture model, as a whole or not at all: into one file, or into a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from m2n2lab.checkpoint.checks.preflight import is_one_file
from m2n2lab.checkpoint.io.checkpoint import Checkpoint
from m2n2lab.checkpoint.io.parallel import Progress, no_progress
from m2n2lab.checkpoint.io.pickles import as_safetensors
from m2n2lab.checkpoint.picture_conversion import write_file, write_folder
from m2n2lab.checkpoint.save import atomic_folder


def convert_picture(
    source: str | Path,
    out: str | Path,
    config: str | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Convert a pipeline's folder into one file, or one file into a pipeline's folder.

    Args:
        source: a pipeline's folder, or a single file; pickles are converted into safetensors.
        out: the file, whose name ends in ``.safetensors`` or ``.sft``, or the folder to make.
        config: of a single file, the pipeline whose configs and tokenizers the folder gets; by
            default the first of its family on the hub.
        progress: called with the number of bytes read and written since the last call.

    Raises:
        InputError: the source is of no known family, or ``out`` exists or cannot be written.
        Problems: the source's weights cannot be read.
    """
    out, to_file = Path(out), is_one_file(Path(out))
    place = as_safetensors(Path(source), progress)
    with atomic_folder(out, to_file) as folder:
        if not to_file:
            write_folder(Checkpoint.open(place), config, folder, progress)
        elif place.is_dir():
            write_file(place, folder / out.name, {}, progress)
        else:  # a pickle that is one file too
            shutil.copyfile(place, folder / out.name)
    return out
