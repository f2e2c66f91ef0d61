"""How fast checkpoints merge, as ratios within one run: against a copy, and against cat and cp.

Makes two bf16 Llamas with random weights (1.1B parameters each, three shards) in a temporary
folder: 7 GB of disk, and as much memory free for the system's file cache, or the disk is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from findings import Finding, at_least, at_most, unjudged
from torch import nn

from m2n2lab import CheckpointSpace
from m2n2lab.checkpoint.io.tensor_file import make_header

WIDTH, FEED, VOCAB, KEYS = 2048, 5632, 32_000, 256
LAYERS = 22  # with the sizes above: 1.1B parameters


def shapes(layers, vocab=VOCAB):
    table = {"model.embed_tokens.weight": (vocab, WIDTH)}
    for i in range(layers):
        for name, shape in {
            "input_layernorm": (WIDTH,),
            "mlp.down_proj": (WIDTH, FEED),
            "mlp.gate_proj": (FEED, WIDTH),
            "mlp.up_proj": (FEED, WIDTH),
            "post_attention_layernorm": (WIDTH,),
            "self_attn.k_proj": (KEYS, WIDTH),
            "self_attn.o_proj": (WIDTH, WIDTH),
            "self_attn.q_proj": (WIDTH, WIDTH),
            "self_attn.v_proj": (KEYS, WIDTH),
        }.items():
            table[f"model.layers.{i}.{name}.weight"] = shape
    return {**table, "model.norm.weight": (WIDTH,), "lm_head.weight": (vocab, WIDTH)}


def make(folder: Path, layers: int, seed: int, vocab: int = VOCAB) -> Path:
    """Write a Llama with random bf16 weights in three shards, and a row for each of its tokens."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    pool = (rng.standard_normal(1 << 25, dtype=np.float32) * 0.02).view(np.uint32) >> 16
    pool = np.concatenate([pool, pool]).astype(np.uint16)
    table, total, places, shards = shapes(layers, vocab), 0, {}, [{}, {}, {}]
    size = sum(int(np.prod(shape)) for shape in table.values())
    for name, shape in table.items():
        shards[min(2, 3 * total // size)][name] = shape
        total += int(np.prod(shape))
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05d}-of-00003.safetensors"
        places.update(dict.fromkeys(shard, file))
        with (folder / file).open("wb") as out:
            kinds = {name: ("BF16", shape) for name, shape in shard.items()}
            out.write(make_header(kinds, {"format": "pt"}))
            for shape in shard.values():
                left = int(np.prod(shape))
                while left:
                    part = min(left, 1 << 25)
                    start = int(rng.integers(1 << 25))
                    out.write(pool[start : start + part].tobytes())
                    left -= part
    index = {"metadata": {"total_size": 2 * size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        **{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16"},
        **{"hidden_size": WIDTH, "intermediate_size": FEED, "vocab_size": vocab},
        **{"num_attention_heads": 32, "num_key_value_heads": 4, "num_hidden_layers": layers},
        **{"tie_word_embeddings": False, "rms_norm_eps": 1e-5},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class Bare(nn.Module):
    """The tensors of a Llama, and nothing that could be run."""

    def __init__(self, layers: int, device: str) -> None:
        super().__init__()
        self.table = {
            name: torch.zeros(shape, dtype=torch.bfloat16, device=device)
            for name, shape in shapes(layers).items()
        }

    def state_dict(self):
        return self.table


def seconds(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def live(a: Path, b: Path, layers: int = LAYERS) -> Iterator[Finding]:
    """Materialise into a live bf16 module, against Tensor.copy_ into it."""
    for device, place in (("cpu", "the CPU"), ("cuda", "the GPU")):
        if device == "cuda" and not torch.cuda.is_available():
            continue
        module = Bare(layers, device)
        space = CheckpointSpace(a, b, module=module)
        recipe = space.merge(*space.seeds, split=int(0.4 * space.size), mix=0.3)
        space.materialise(recipe)
        source = {name: tensor.cpu().clone() for name, tensor in module.table.items()}
        ratio = against_copy(space, recipe, module, source, place)
        what = f"a merge into a live bf16 module on {place} ÷ Tensor.copy_, bytes a second"
        yield at_least(what, ratio, 0.7)
        if device == "cpu":
            yield from rounding(space, recipe, module)
            yield from archive(space)


def against_copy(space, recipe, module, source, place) -> float:
    """Return the bytes a second of a merge into a module over those of a copy into it."""
    merges, copies = [], []
    for _ in range(7):
        merges.append(seconds(lambda: space.materialise(recipe)))
        copies.append(seconds(lambda: [module.table[name].copy_(source[name]) for name in source]))
    merged = 3 * 2 * space.size / statistics.median(merges)
    copied = 2 * 2 * space.size / statistics.median(copies)
    print(f"into a live bf16 module on {place}")
    print(f"  materialise, read and written              {merged / 1e9:6.1f} GB/s")
    print(f"  Tensor.copy_, read and written             {copied / 1e9:6.1f} GB/s")
    print(f"  ratio materialise / copy_                  {merged / copied:6.2f}   target >= 0.7")
    return merged / copied


def nearest(exact):
    """Round doubles to bf16, once: PyTorch does it twice, over float32."""
    bits = exact.view(torch.int64)
    return ((bits + (1 << 44) - 1 + ((bits >> 45) & 1)) >> 45 << 45).view(torch.float64)


def rounding(space, recipe, module) -> Iterator[Finding]:
    """Compare with float64 arithmetic, rounded once."""
    space.materialise(recipe)
    equal = total = 0
    for name in space.plan.sizes:
        size = space.plan.sizes[name]
        sources = [
            torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16).double()
            for x in space.plan.sources(name, 0, size)
        ]
        base = space.plan.offsets[name]
        exact = torch.empty(size, dtype=torch.float64)
        for low, high, coef in recipe.pieces(base, base + size):
            part = slice(low - base, high - base)
            exact[part] = sum(c * x[part] for c, x in zip(coef.tolist(), sources, strict=True))
        equal += (nearest(exact) == module.table[name].view(-1).double()).sum().item()
        total += size
        if total > 3e8:
            break
    print(f"  equal to the rounding of float64           {equal / total:.5%}   target >= 99.99%")
    yield at_least("equal to the rounding of float64", 100 * equal / total, 99.99, " %", 5)


def archive(space) -> Iterator[Finding]:
    """A thousand members, and an angle after a thousand merges."""
    rng = np.random.default_rng(0)
    tracemalloc.start()
    members = list(space.seeds)
    start = time.perf_counter()
    for i in range(1000):
        a, b = rng.integers(len(members), size=2)
        child = space.merge(
            members[a], members[b], int(rng.integers(space.size)), float(rng.random())
        )
        members.append(child) if i < 998 else None
    each = (time.perf_counter() - start) / 1000
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    size += space._gram._sums.nbytes
    one, two = space.seeds
    for i in range(500):  # two lines of descent with a break for every merge
        one, two = (
            space.merge(
                parent, space.seeds[i % 2], int(rng.integers(space.size)), float(rng.random())
            )
            for parent in (one, two)
        )
    times = [seconds(lambda: space.angle(one, two)) for _ in range(50)]
    print("recipes instead of weights")
    print(f"  1,000 members of 1.1B parameters           {size / 1e6:6.1f} MB  target < 20")
    print(f"  one merge                                  {1e3 * each:6.2f} ms")
    print(
        f"  angle of members with {one.segments} and {two.segments} pieces     "
        f"{1e3 * statistics.median(times):6.2f} ms  target < 5"
    )
    billions = f"{space.size / 1e9:.1f}B parameters"
    yield at_most(f"a thousand members of {billions}", size / 1e6, 20, " MB", 1)
    yield at_most("the angle of two of them", 1e3 * statistics.median(times), 5, " ms")


def run(command, cache: Path) -> tuple[float, float]:
    """Return seconds, and the peak of memory beyond the file cache in bytes."""
    environment = {**os.environ, "M2N2LAB_CACHE": str(cache)}
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            try:
                text = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            if "RssAnon:" in text:
                peak = max(peak, 1024 * int(text.split("RssAnon:")[1].split()[0]))
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    if process.wait():
        raise SystemExit(f"{command} failed")
    took = time.perf_counter() - start
    thread.join()
    return took, peak


def have_memory(size: int) -> None:
    """Have the machine give ``size`` bytes of memory and leave them free.

    The host of a virtual machine takes back what has been free for two seconds, and gives it again
    so slowly that it takes longer than a merge: no command shall pay for how long another took.
    """
    held = np.ones(size, np.uint8)
    time.sleep(2.5)  # meanwhile all else that is free is taken back
    del held


def files(root: Path, a: Path, b: Path, label: str, rounds: int) -> Iterator[Finding]:
    """Merge from files to files, against reading both and copying one."""
    out = root / "out"
    merge = [sys.executable, "-m", "m2n2lab", "merge", str(a), str(b), "-o", str(out)]
    merge += ["--split", "0.4", "--mix", "0.3"]
    shell = f"cat {a}/*.safetensors {b}/*.safetensors > /dev/null; cp -r {a} {out}"
    base, first, again, peaks = [], [], [], []
    run([sys.executable, "-m", "m2n2lab", "inspect", str(a), str(b)], root / "warm")
    for i in range(rounds):
        for command, cache, times in (
            (["sh", "-c", shell], root / "none", base),
            (merge, root / f"cache{i}", first),
            (merge, root / f"cache{i}", again),
        ):
            shutil.rmtree(out, ignore_errors=True)
            os.sync()  # what the last one wrote shall not slow down this one
            have_memory(sum(file.stat().st_size for file in a.iterdir()) * 4 // 3)
            took, peak = run(command, cache)
            times.append(took)
            peaks.append(peak)
    shutil.rmtree(out, ignore_errors=True)
    reading = statistics.median(base)
    print(f"from files to files, {label} parameters, start-up included")
    print(f"  cat A B > /dev/null; cp A O                {reading:6.2f} s")
    for times, when, limit in (
        (first, "first time, SHA-256 of both", 3.5),
        (again, "again, SHA-256 known", 1.5),
    ):
        took = statistics.median(times)
        ratio = took / reading
        print(f"  m2n2lab merge, {when:<28}{took:6.2f} s")
        print(f"  ratio merge / cat and cp                   {ratio:6.2f}   target <= {limit}")
        what = f"{label} parameters merged, file to file ÷ cat and cp, {when}"
        yield at_most(what, ratio, limit)
    print(f"  peak memory beyond the file cache          {max(peaks) / 1e9:6.2f} GB  target <= 1.5")
    yield at_most("memory of that beyond the file cache", max(peaks) / 1e9, 1.5, " GB")


def measure(
    parent: Path | None, rounds: int, sizes: dict[str, int], judged: bool = True
) -> Iterator[Finding]:
    """Measure pairs of checkpoints, by label and layers; the last pair is merged live as well.

    Start-up is much of a merge of smaller ones: their files are not judged, nor is any if not
    ``judged``.
    """
    with tempfile.TemporaryDirectory(dir=parent, prefix="merge-speed-") as folder:
        root = Path(folder)
        os.environ["M2N2LAB_CACHE"] = str(root / "cache")
        *_, largest = sizes
        for label, layers in sizes.items():
            pair = [make(root / f"{layers}-{name}", layers, k) for k, name in enumerate("AB")]
            if label == largest:
                rows = files(root, *pair, label, rounds)
                yield from rows if judged else unjudged(rows)
                yield from live(*pair, layers)
            else:
                yield from unjudged(files(root, *pair, label, 1))
            for path in pair:
                shutil.rmtree(path)


def findings(quick: bool) -> Iterator[Finding]:
    if quick:
        yield from measure(None, 1, {"0.2B": 1}, judged=False)
    else:
        yield from measure(None, 5, {"half as many": LAYERS // 2 - 2, "1.1B": LAYERS})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sizes = {"half as many": LAYERS // 2 - 2, "1.1B": LAYERS}
    list(measure(options.folder, options.rounds, sizes))


if __name__ == "__main__":
    main()
