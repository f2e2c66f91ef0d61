"""Checkpoints of very many files, with few open files and little memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import llama
from helpers.merges import weights
from safetensors.numpy import load_file, save_file

FEW = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"


def scattered(folder, shards, seed):
    """Write a Llama of one tensor a shard, and further files beside; return its tensors."""
    llama(folder, seed, num_hidden_layers=-(-shards // 9))
    path = Path(folder, "model.safetensors")
    tensors = {name: value.float().numpy() for name, value in weights(folder).items()}
    path.unlink()
    places = {}
    for k, (name, value) in enumerate(tensors.items()):
        number = k % shards + 1
        places.setdefault(f"model-{number:05d}-of-{shards:05d}.safetensors", {})[name] = value
    for file, held in places.items():
        save_file(held, Path(folder, file), {"format": "pt"})
    index = {name: file for file, held in places.items() for name in held}
    listed = {"metadata": {}, "weight_map": index}
    Path(folder, "model.safetensors.index.json").write_text(json.dumps(listed))
    return tensors


@pytest.mark.slow
@pytest.mark.parametrize("shards", [163, 350])
def test_very_many_shards_need_few_open_files(shards, here):
    a, b = scattered("a", shards, 0), scattered("b", shards, 1)
    assert len(list(Path("a").glob("*.safetensors"))) == shards
    for k in range(187):
        Path("a", f"further_{k}.json").write_text("{}")
    code = (
        f"{FEW}from m2n2lab import CheckpointSpace, rebuild\n"
        "s = CheckpointSpace('a', 'b'); c = s.merge(*s.seeds, s.size // 2, 0.3)\n"
        "s.save(c, 'out'); rebuild('out/recipe.json', 'again')\n"
        f"{'s.materialise(c); ' if shards < 256 else ''}print('done')"  # transformers opens all
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "done", done.stderr
    merged = {}
    for path in Path("out").glob("*.safetensors"):
        merged |= load_file(path)
        assert path.read_bytes() == Path("again", path.name).read_bytes()
    assert merged.keys() == a.keys() == b.keys()
    assert len(list(Path("out").glob("further_*.json"))) == 187


MEMORY = """
import sys, threading
from m2n2lab import CheckpointSpace

def anonymous():
    text = open("/proc/self/status").read()
    return 1024 * int(text.split("RssAnon:")[1].split()[0])

def merged(before, out):
    space = CheckpointSpace(*(before + name.replace("+", "+" + before) for name in sys.argv[1:]))
    space.save(space.merge(*space.seeds, space.size // 3, 0.3), out)

merged("small ", "small")  # libraries, compiled loops and threads are there then
before, most, ended = anonymous(), 0, threading.Event()

def watch():
    global most
    while not ended.wait(0.005):
        most = max(most, anonymous())

thread = threading.Thread(target=watch)
thread.start()
merged("", "out")
ended.set()
thread.join()
print(most - before)
"""


def memory_of_a_merge(*names):
    """Return the bytes that a merge of two seeds takes beyond one of their small namesakes."""
    command = [sys.executable, "-c", MEMORY, *names]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory as Linux tells it")
@pytest.mark.parametrize("elements", [1 << 25, 1 << 27])
def test_a_merge_takes_a_tenth_of_a_gigabyte_beyond_the_file_cache(elements, here):
    rng = np.random.default_rng(0)
    for k, name in enumerate("ab"):
        values = rng.standard_normal(elements, np.float32)
        for folder, size in ((name, None), (f"small {name}", 100)):
            Path(folder).mkdir()
            parts = [np.array(part[:size]) + k for part in np.split(values, 4)]
            held = {f"{i}.weight": part for i, part in enumerate(parts)}
            save_file(held, Path(folder, "model.safetensors"), {"format": "pt"})
    assert memory_of_a_merge("a", "b") < 100_000_000


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory as Linux tells it")
@pytest.mark.parametrize("form", ["lora", "dora"])
@pytest.mark.parametrize("rank", [64, 256])
def test_adapters_take_no_more(form, rank, here):
    """Matrices are as large as in models of 7B parameters."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape, np.float32).astype(np.float16)

    for before, count, rows in (("", 4, 11_008), ("small ", 1, 8)):
        names = [f"layers.{i}.mlp.up_proj" for i in range(count)]
        held = {f"{name}.weight": normal(rows, 4096) for name in names}
        save_file(held, f"{before}base.safetensors", {"format": "pt"})
        for adapter in "ab":
            low = {f"{name}.lora_down.weight": normal(rank, 4096) for name in names}
            low |= {f"{name}.lora_up.weight": normal(rows, rank) for name in names}
            if form == "dora":
                low |= {f"{name}.dora_scale": normal(rows, 1) for name in names}
            save_file(low, f"{before}{adapter}.safetensors")
    seeds = (f"base.safetensors+{adapter}.safetensors" for adapter in "ab")
    assert memory_of_a_merge(*seeds) < 100_000_000
