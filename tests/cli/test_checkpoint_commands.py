import json
import math
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkpoints import change, llama, pipeline, tensors
from helpers.merges import copy, run, same, weights
from safetensors.torch import load_file

import m2n2lab as lab
from m2n2lab.core.operators.parts import Parts, crossover_rng

HEAD = 17_568
"""Index at which the output head begins."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    for k, name in enumerate("ab"):
        llama(folder / name, k)
    return folder


@pytest.fixture
def workdir(pair, tmp_path, monkeypatch):
    """A folder to work in, with checkpoints ``a`` and ``b``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in "ab":
        shutil.copytree(pair / name, name)
    return tmp_path


def cosine(x, y):
    x, y = (value.double().numpy().ravel() for value in (x, y))
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def flat(state, space):
    return np.concatenate([state[name].double().numpy().ravel() for name in space.layout.shapes])


# -- inspect -----------------------------------------------------------------------------------


def test_inspect_lists_tensors_in_order_with_their_cosines(workdir):
    status, out, _ = run("inspect", "a", "b")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    rows = {line[0]: line[1:] for line in lines if line and line[0].endswith(".weight")}
    x, y = weights("a"), weights("b")
    assert rows.keys() == x.keys()
    names = list(rows)
    assert names[0] == "model.embed_tokens.weight"
    assert names[-1] == "lm_head.weight"
    for name, row in rows.items():
        shape = " × ".join(map(str, x[name].shape)).split()
        assert row[: 1 + len(shape)] == ["BF16", *shape]
        assert float(row[-1]) == pytest.approx(cosine(x[name], y[name]), abs=6e-8)
        degrees = math.degrees(math.acos(cosine(x[name], y[name])))
        assert float(row[-2].removesuffix("°")) == pytest.approx(degrees, rel=6e-3)
        a, b = x[name].double(), y[name].double()
        assert float(row[-3]) == pytest.approx(float((b - a).norm() / a.norm()), rel=6e-3)
    assert rows["lm_head.weight"][-5:-3] == ["2,048", "17,568"]
    assert "cosine with b" in out
    assert "19,616 parameters in 21 tensors" in out
    vector = [torch.cat([seed[name].flatten() for name in names]) for seed in (x, y)]
    degrees = math.degrees(math.acos(cosine(*vector)))
    assert f"angle ω between a and b: {degrees:.2f}°" in out
    assert "Note: The seeds' licences" in out
    assert out.splitlines()[-1] == "These can be merged."


def test_json_is_one_object_with_exact_cosines(workdir):
    llama("c", 2)
    status, out, _ = run("inspect", "a", "b", "c", "--json")
    assert status == 0
    output = json.loads(out)
    assert output["checkpoints"] == ["a", "b", "c"]
    assert output["parameters"] == 19_616
    assert output["problems"] == []
    assert output["angle_degrees"].keys() == {"b", "c"}
    first, others = weights("a"), {name: weights(name) for name in "bc"}
    offset = 0
    for row in output["tensors"]:
        tensor = first[row["tensor"]]
        assert (row["kind"], row["shape"]) == ("BF16", list(tensor.shape))
        assert (row["offset"], row["parameters"]) == (offset, tensor.numel())
        offset += tensor.numel()
        for name, other in others.items():
            expected = cosine(tensor, other[row["tensor"]])
            assert row["cosine"][name] == pytest.approx(expected, abs=1e-9)
    assert offset == 19_616


def test_headers_alone_show_no_cosines(workdir):
    status, out, _ = run("inspect", "a", "b", "--headers")
    assert status == 0
    assert "lm_head.weight" in out
    assert "cosine" not in out
    assert "ω" not in out
    assert "These can be merged." in out
    output = json.loads(run("inspect", "a", "b", "--headers", "--json")[1])
    assert output["angle_degrees"] is None
    assert all("cosine" not in row for row in output["tensors"])


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_one_checkpoint_is_listed_by_itself(options, workdir):
    status, out, _ = run("inspect", "a", *options)
    assert status == 0
    assert "lm_head.weight" in out
    assert "merged" not in out
    assert "cosine" not in out


def test_a_single_number_and_a_pipeline_are_listed(workdir):
    tensors("x.safetensors", {"scale": torch.tensor(2.0)})
    assert "scalar" in run("inspect", "x.safetensors")[1]
    pipeline("p")
    out = run("inspect", "p", "--component", "unet", "--json")[1]
    assert {row["tensor"].partition("/")[0] for row in json.loads(out)["tensors"]} == {"unet"}


def damage(kind):
    if kind == "truncated":
        file = Path("b/model.safetensors")
        file.write_bytes(file.read_bytes()[:-2])
        return "b/model.safetensors", None, "truncated"
    if kind == "NaN":
        change(
            "b/model.safetensors", {"lm_head.weight": torch.full((64, 32), torch.nan).bfloat16()}
        )
        return "b/model.safetensors", "lm_head.weight", "NaN or infinity at element 0"
    change("b/model.safetensors", {"lm_head.weight": torch.ones(80, 32).bfloat16()})
    return "b/model.safetensors", "lm_head.weight", "80 rows"


@pytest.mark.parametrize("kind", ["truncated", "NaN", "vocabulary"])
def test_problems_are_listed_and_end_with_status_1(kind, workdir):
    file, tensor, found = damage(kind)
    status, out, err = run("inspect", "a", "b")
    assert status == 1
    assert err.strip() == ""
    (line,) = (line for line in out.splitlines() if line.startswith("Problem: "))
    assert file in line
    assert (tensor or "") in line
    assert found in line
    assert "can be merged" not in out
    status, out, _ = run("inspect", "a", "b", "--json")
    assert status == 1
    (problem,) = json.loads(out)["problems"]
    assert problem.keys() == {"file", "tensor", "expected", "found", "fix"}
    assert (problem["file"], problem["tensor"]) == (file, tensor)
    assert found in problem["found"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_one_bad_checkpoint_ends_with_status_1(options, workdir):
    damage("truncated")
    status, out, _ = run("inspect", "b", *options)
    assert status == 1
    assert "truncated" in out
    assert not options or len(json.loads(out)["problems"]) == 1


def test_vocabularies_can_be_compared_on_common_rows(workdir):
    llama("c", 1, vocab_size=80)
    status, out, _ = run("inspect", "c", "a", "--vocab", "common")
    assert status == 0
    assert "64 × 32" in out
    assert "80 × 32" not in out
    assert "the 64 common rows are merged" in out


# -- merge -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "at"),
    [
        ("0", 0),
        ("0.4", 7846),
        ("1", 19_616),
        ("lm_head.weight", HEAD),
        ("lm_head", HEAD),
        ("model.layers.1", 9792),
    ],
)
def test_a_split_is_a_share_or_the_name_of_a_tensor(split, at, workdir):
    status, out, err = run("merge", "a", "b", "--split", split, "--mix", 0, "-o", "out")
    assert status == 0
    assert out == ""
    assert f"19,616 parameters; split at {at:,} (" in err
    assert "mix 0;" in err
    assert "about 39.2 kB to write, 0 s on a disk of 1 GB/s, " in err
    assert "MB of memory" in err
    assert "out: " in err
    # With mix 0 the child is A before the split and B from it on.
    x, y, z = (weights(name) for name in ("a", "b", "out"))
    names = [row["tensor"] for row in json.loads(run("inspect", "a", "--json")[1])["tensors"]]
    x, y, z = (torch.cat([seed[name].flatten() for name in names]) for seed in (x, y, z))
    assert torch.equal(z, torch.cat([x[:at], y[at:]]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--split", "1.5"], "split must be a number in [0, 1], got 1.5"),
        (["--split", "-0.1"], "split must be a number in [0, 1], got -0.1"),
        (["--split", "nan"], "split must be a number in [0, 1], got nan"),
        (["--split", "lm_haed"], "must be a number in [0, 1] or the beginning of a tensor's name"),
        (["--split", ""], "must be a number in [0, 1] or the beginning of a tensor's name, got ''"),
        (["--mix", "1.01"], "mix must be a number in [0, 1], got 1.01"),
        (["--mix", "-1"], "mix must be a number in [0, 1], got -1.0"),
        (["--mix", "nan"], "mix must be a number in [0, 1], got nan"),
        (["--granularity", "layer"], "no granularity named 'layer'; choose one of: model, tensor"),
        (["--dtype", "bf61"], "There is no dtype for weights named 'bf61'; did you mean 'bf16'?"),
        (["--vocab", "comon"], "no way to treat vocabularies named 'comon'; did you mean 'common'"),
        (["--tokenizer", "C"], "There is no seed named 'C'; choose one of: A, B."),
        (["c"], "A merge takes two checkpoints, A and B, got 3; merge further ones into the"),
        (["--crossover", "tie"], "There is no crossover named 'tie'; did you mean 'ties'?"),
        (["--crossover", "ties:density=2"], "density must be a number in"),
        (["--crossover", "ties:base=2"], "takes 3 checkpoints, A and B, and those up to its base"),
        (["c", "--crossover", "dare"], "takes 2 checkpoints"),
        (["c", "--crossover", "lerp"], "A merge takes two checkpoints, A and B, got 3"),
        (["--include", "*atention*"], "include must fit a tensor, but '*atention*' fits none"),
        (["--groups", "*attn*"], "--groups must be NAME=PATTERN, got '*attn*'"),
        (["--groups", "attn=*attn*"], "is in none of attn; add a group such as rest='*'"),
        (["--exclude", "*"], "At least one of the 21 tensors must be merged"),
        (["--rng", "-1"], "rng must be an integer >= 0, got -1"),
    ],
)
def test_bad_options_are_one_sentence_and_nothing_is_written(options, sentence, workdir):
    before = sorted(Path().rglob("*"))
    status, out, err = run("merge", "a", "b", *options, "-o", "out")
    assert status == 2
    assert out == ""
    assert sentence in err
    assert len(err.partition("Error: ")[2].strip().splitlines()) == 1
    assert sorted(Path().rglob("*")) == before


LIMITS = {
    "whole": {},
    "groups": {"groups": {"attention": "*attn*", "rest": "*"}},
    "limits": {"exclude": ["*norm*", "lm_head*"], "freeze": ["re:.*layers[.]1[.].*"]},
    "include": {"include": ["*mlp*"]},
}


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize(
    "rule",
    [
        "slerp",
        "slerp:reach=0.5",
        "lerp",
        "splits:splits=2",
        "per-layer",
        "task-arithmetic:base=2",
        "ties:base=2,density=0.3",
        "dare:base=2",
    ],
)
def test_every_crossover_is_that_of_vectors_and_made_again(rule, limits, workdir):
    seeds = ["a", "b"]
    for name in "ab":
        llama(name, "ab".index(name), dtype=torch.float32)
    if "base" in rule:
        seeds.append(str(llama("c", 2, dtype=torch.float32)))
    given = {
        name: [f"{k}={v}" for k, v in value.items()] if name == "groups" else value
        for name, value in LIMITS[limits].items()
    }
    options = [
        text for name, values in given.items() for value in values for text in (f"--{name}", value)
    ]
    options += ["--crossover", rule, "--split", 0.4, "--mix", 0.3, "--rng", 7]
    status, out, err = run("merge", *seeds, "-o", "out", *options)
    assert (status, out) == (0, ""), err
    space = lab.CheckpointSpace(*seeds)
    states = [weights(seed) for seed in seeds]
    vectors = [flat(state, space) for state in states]
    dense = lab.DenseSpace(vectors, space.layout, dtype="float64")
    parts = Parts(space.layout, **LIMITS[limits])
    proposal = lab.Proposal((0, 1), 7846, 0.3, 7)
    crossover, (a, b, *_) = lab.Crossover.of(rule), dense.seeds
    if limits == "whole":
        expected = crossover(a, b, proposal, dense, crossover_rng(proposal))
    else:
        expected = parts.cross(crossover, a, b, proposal, dense)
    found = flat(weights("out"), space)
    np.testing.assert_allclose(found, expected.values, rtol=1e-6, atol=1e-7)
    assert not np.array_equal(found, vectors[0])
    card = Path("out/README.md").read_text()
    record = json.loads(Path("out/recipe.json").read_text())
    what = "SLERP of A and B" if rule == "slerp" else f"{crossover!r} of A and B"
    assert what in record["made"]
    assert what in card
    if limits == "groups":
        for group, cut in zip(parts.groups, parts.cuts(proposal), strict=True):
            line = f"{group.name}: {group.size:,} in {len(group.layout.shapes)} tensors"
            assert line in err
            assert line in card
            assert f"split at {cut.split:,} of them" in err
            assert f"mix {cut.mix:g}" in card
    for name, patterns in given.items():
        shown = f"{name} {' '.join(patterns)}"
        assert shown in record["made"] or name == "groups"
    if rule.startswith(("ties", "dare")):
        parameters = ", ".join(f"{k}={v!r}" for k, v in crossover.parameters.items())
        assert f"V0: {crossover.name}({parameters}) of A, B, C" in card
    assert run("rebuild", "out/recipe.json", "-o", "again")[0] == 0
    assert same("out", "again")


def test_one_angle_a_tensor_is_another_merge(workdir):
    for granularity in ("model", "tensor"):
        options = ["--granularity", granularity, "--mix", 0.3, "-o", granularity]
        assert run("merge", "a", "b", *options)[0] == 0
    a, b, whole, each = (weights(name) for name in ("a", "b", "model", "tensor"))
    assert not torch.equal(whole["lm_head.weight"], each["lm_head.weight"])
    assert "an angle for each tensor" in Path("tensor/README.md").read_text()
    for name, tensor in each.items():
        x, y = a[name].double(), b[name].double()
        omega = math.acos(cosine(x, y))
        f, g = (math.sin(t * omega) / math.sin(omega) for t in (0.7, 0.3))
        assert torch.equal(tensor, (f * x + g * y).bfloat16())


def test_dtype_and_tokenizer_are_chosen(workdir):
    for name in "ab":
        Path(name, "tokenizer.json").write_text(json.dumps({"of": name}))
    assert run("merge", "a", "b", "--dtype", "fp32", "--tokenizer", "B", "-o", "out")[0] == 0
    assert {tensor.dtype for tensor in weights("out").values()} == {torch.float32}
    assert json.loads(Path("out/tokenizer.json").read_text()) == {"of": "b"}


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(workdir):
    before = sorted(Path().rglob("*"))
    status, out, err = run("merge", "a", "b", "--split", 0.5, "--dry-run", "-o", "out")
    assert status == 0
    assert out == ""
    assert "19,616 parameters; split at 9,808 (model.layers.1." in err
    assert sorted(Path().rglob("*")) == before
    status, _, err = run("merge", "a", "nowhere", "--dry-run", "-o", "a")
    assert status == 2
    assert "2 problems were found" in err


def test_a_result_can_be_merged_further_and_made_again(workdir):
    llama("c", 2)
    assert run("merge", "a", "b", "-o", "ab")[0] == 0
    assert run("merge", "ab", "c", "-o", "abc")[0] == 0
    status, out, err = run("rebuild", "abc/recipe.json", "--out", "again")
    assert status == 0
    assert out == ""
    assert "again: " in err
    for path in Path("abc").iterdir():
        assert path.read_bytes() == Path("again", path.name).read_bytes()
    assert json.loads(Path("abc/recipe.json").read_text())["seeds"][0]["id"] == "ab"


def test_ctrl_c_under_a_progress_bar_ends_it_cleanly(workdir):
    # Each piece is made to take its time, so that the signal comes while they are written.
    code = (
        "import time\n"
        "from m2n2lab.checkpoint import save\n"
        "from m2n2lab.cli import main\n"
        "write = save._write\n"
        "save._write = lambda *piece: (time.sleep(0.5), write(*piece))[1]\n"
        "main()\n"
    )
    before = sorted(Path().rglob("*"))
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, "merge", "a", "b", "-o", "deep/out"],
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(terminal)
    seen = ""
    while "merging" not in seen or "B/s" not in seen.partition("merging")[2]:
        seen += os.read(screen, 4096).decode(errors="replace")
    assert sorted(Path().rglob("*")) != before
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    os.close(screen)
    assert "Traceback" not in seen
    assert sorted(Path().rglob("*")) == before


# -- what is imported --------------------------------------------------------------------------


def imports(*arguments):
    """Run a command in a fresh process; returns the packages that it imported."""
    code = (
        "import atexit, json, sys\n"
        "path = sys.argv.pop()\n"
        "names = lambda: sorted({name.partition('.')[0] for name in sys.modules})\n"
        "atexit.register(lambda: open(path, 'w').write(json.dumps(names())))\n"
        "from m2n2lab.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "imported.json"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(Path("imported.json").read_text()))


HEAVY = {"torch", "transformers", "diffusers", "pandas", "sklearn", "panel", "bokeh", "cma"}


def test_headers_are_read_without_torch_transformers_or_numba(workdir):
    loaded = imports("inspect", "--headers", "a", "b")
    assert "rich" in loaded
    assert not loaded & {*HEAVY, "numba", "scipy"}


def test_a_merge_is_done_without_torch(workdir):
    loaded = imports("merge", "a", "b", "-o", "out")
    assert "numba" in loaded
    assert not loaded & HEAVY


def test_a_process_can_import_scipy_and_collects_garbage_after_a_merge(workdir):
    # diffusers imports that module of SciPy, and fails where it is missing.
    code = (
        "import gc\n"
        "from m2n2lab.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    import scipy.linalg.cython_blas\n"
        "    print(gc.isenabled())\n"
    )
    command = [sys.executable, "-c", code, "merge", "a", "b", "-o", "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True"


def test_small_differences_are_told_and_sorted(here, models):
    copy(models, "a", "a")
    file = copy(models, "a", "b") / "model.safetensors"
    tensors = load_file(file)
    changes = {"model.norm.weight": 1e-2, "lm_head.weight": 2e-2, "model.embed_tokens.weight": 0.3}
    for name, share in changes.items():
        noise = torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(0))
        noise *= share * tensors[name].float().norm() / noise.norm()
        changes[name] = (tensors[name].float() + noise).to(tensors[name].dtype)
    change(file, changes)
    status, out, _ = run("inspect", "a", "b", "--json", "--top", 4)
    assert status == 0
    rows = json.loads(out)["tensors"]
    names = ["model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"]
    assert [row["tensor"] for row in rows[:3]] == names
    assert len(rows) == 4
    for row in rows[:3]:
        a, b = tensors[row["tensor"]].double(), changes[row["tensor"]].double()
        assert row["difference"]["b"] == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-6)
        expected = math.degrees(math.acos(cosine(a, b)))
        assert row["angle_degrees"]["b"] == pytest.approx(expected, rel=1e-4)
    assert rows[3]["difference"]["b"] == pytest.approx(0, abs=1e-7)
    _, out, _ = run("inspect", "a", "b", "--json", "--sort", "parameters")
    sizes = [row["parameters"] for row in json.loads(out)["tensors"]]
    assert sizes == sorted(sizes, reverse=True)
    status, _, error = run("inspect", "a", "b", "--sort", "size")
    assert (status, "no order of tensors named 'size'" in error) == (2, True)


def test_unrelated_and_opposite_models_are_told(here, models):
    copy(models, "a", "a")
    file = copy(models, "a", "opposite") / "model.safetensors"
    change(file, {name: -tensor for name, tensor in load_file(file).items()})
    for command in (("inspect", "a", "opposite"), ("merge", "a", "opposite", "-o", "out")):
        status, out, error = run(*command)
        assert status == 0
        assert "a and opposite are opposite (ω = 180.0°), so a merge cancels" in out + error
    for kind, (name, spread) in {"unrelated": ("far", 1e3), "": ("near", 0.0)}.items():
        file = copy(models, "a", name) / "model.safetensors"
        draw = torch.Generator().manual_seed(1)
        tensors = {
            key: (tensor.float() + spread * torch.randn(tensor.shape, generator=draw)).bfloat16()
            for key, tensor in load_file(file).items()
        }
        change(file, tensors)
        _, out, _ = run("inspect", "a", name)
        assert ("unrelated (ω = " in out) == bool(kind)
