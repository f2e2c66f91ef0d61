"""Checkpoints of very many files, with few open files and little memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import llama
from safetensors.numpy import load_file, save_file

FEW = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"


def scattered(folder, shards, seed):
    """Write a Llama of one tensor a shard, and further files beside; return its tensors."""
    llama(folder, seed, num_hidden_layers=-(-shards // 9))
    path = Path(folder, "model.safetensors")
    tensors = {name: value.astype(np.float32) for name, value in load_numpy(path).items()}
    path.unlink()
    places = {}
    for k, (name, value) in enumerate(tensors.items()):
        number = k % shards + 1
        places.setdefault(f"model-{number:05d}-of-{shards:05d}.safetensors", {})[name] = value
    for file, held in places.items():
        save_file(held, Path(folder, file), {"format": "pt"})
    index = {name: file for file, held in places.items() for name in held}
    Path(folder, "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return tensors


def load_numpy(path):
    from safetensors.torch import load_file as load

    return {name: value.float().numpy() for name, value in load(path).items()}


@pytest.mark.parametrize("shards", [163, 350])
def test_very_many_shards_need_few_open_files(shards, here):
    a, b = scattered("a", shards, 0), scattered("b", shards, 1)
    assert len(list(Path("a").glob("*.safetensors"))) == shards
    for k in range(187):  # as deep folders of tokenizers and modules have
        Path("a", f"further_{k}.json").write_text("{}")
    code = (
        f"{FEW}from m2n2lab import CheckpointSpace, rebuild\n"
        "s = CheckpointSpace('a', 'b'); c = s.merge(*s.seeds, s.size // 2, 0.3)\n"
        "s.save(c, 'out'); rebuild('out/recipe.json', 'again'); s.materialise(c)\n"
        "print(len(open('/proc/self/maps').readlines()) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
    merged = {}
    for path in Path("out").glob("*.safetensors"):
        merged |= load_file(path)
        assert path.read_bytes() == Path("again", path.name).read_bytes()
    assert merged.keys() == a.keys() == b.keys()
    assert len(list(Path("out").glob("further_*.json"))) == 187


MEMORY = """
import resource, sys
from m2n2lab.cli import main

def private():
    text = open("/proc/self/smaps_rollup").read()
    kilobytes = {line.split()[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    return 1024 * (kilobytes["Private_Dirty:"] + kilobytes["Shared_Dirty:"])
"""
