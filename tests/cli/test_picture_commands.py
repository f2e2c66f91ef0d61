"""Commands for models that draw: merges by blocks, and sheets of them."""

import json
import re
import signal

import numpy as np
import pytest
import torch
from helpers.pictures import clip
from helpers.sdxl import _single, sdxl, single_file
from PIL import Image
from safetensors.numpy import load_file
from typer.testing import CliRunner

from m2n2lab import CheckpointSpace
from m2n2lab.cli import app
from m2n2lab.core.operators.blocks import blocks_of
from m2n2lab.store import resume
from m2n2lab.tasks import Prompt, scorer_of
from m2n2lab.tasks.images.diffusion import Painter
from m2n2lab.utils.errors import InputError
from m2n2lab.viz.xyz_sheet import LABEL, PROMPT, SIDE, TITLE, Axis, Sheet

UNET = "unet/diffusion_pytorch_model.safetensors"
BLOCKS = "IN00-IN11=0.3,MID=0.5,OUT00-OUT11=0.7"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("pipelines")
    for seed, name in enumerate("ab"):
        sdxl(folder / name, seed)
        single_file(folder / name, folder / f"{name}.safetensors")
    (folder / "prompts.txt").write_text("a\nab\n")
    return folder


@pytest.fixture
def run(home, monkeypatch):
    monkeypatch.chdir(home)

    def invoke(*arguments):
        found = CliRunner().invoke(app, [str(each) for each in arguments])
        if found.exception and not isinstance(found.exception, SystemExit | InputError):
            raise found.exception
        error = found.exception if isinstance(found.exception, InputError) else ""
        return found.exit_code, found.stderr + str(error)

    return invoke


def linear(a, b, shares):
    """Return the weighted means of tensors with a share of B each, in double precision."""
    return {
        name: (1 - shares[name]) * a[name].astype(float) + shares[name] * b[name].astype(float)
        for name in a
    }


def close(file, expected):
    found = load_file(file)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6, err_msg=name)


def test_blocks_are_merged_alike_in_folders_and_files_and_rebuilt(home, run, tmp_path):
    options = ("--blocks", BLOCKS, "--crossover", "lerp")
    for end, out, more in (
        ("", "folder", ("--component", "unet")),
        (".safetensors", "one.safetensors", ()),
    ):
        status, error = run("merge", f"a{end}", f"b{end}", *options, *more, "-o", tmp_path / out)
        assert status == 0, error
    assert "blocks IN00-IN03 0.3, MID 0.5, OUT00-OUT03 0.7" in error
    a, b = (load_file(home / name / UNET) for name in "ab")
    # As A1111's "merge block weighted" does: by the names in files, with what lies before and
    # after the blocks in the first and the last one.
    shares = {
        name: 0.3 if "input" in _single(name) or "_emb" in _single(name)
        else 0.5 if "middle" in _single(name) else 0.7
        for name in a
    }  # fmt: skip
    close(tmp_path / "folder" / UNET, linear(a, b, shares))
    prefix = "model.diffusion_model."
    close(
        tmp_path / "one.safetensors",
        {prefix + _single(name): values for name, values in linear(a, b, shares).items()},
    )
    recipe = json.loads((tmp_path / "folder" / "recipe.json").read_text())
    assert "IN00-IN03 0.3, MID 0.5, OUT00-OUT03 0.7" in recipe["made"]
    assert recipe["made"] in (tmp_path / "folder" / "README.md").read_text()
    for place in ("folder", "one"):
        one = tmp_path / "again" / ("one.safetensors" if place == "one" else place)
        given = tmp_path / ("one.recipe.json" if place == "one" else "folder/recipe.json")
        one.parent.mkdir(exist_ok=True)
        assert run("rebuild", given, "-o", one)[0] == 0
        before = tmp_path / (f"{place}.safetensors" if place == "one" else f"folder/{UNET}")
        after = one if place == "one" else one / UNET
        assert before.read_bytes() == after.read_bytes()


def test_several_splits_exchange_the_shares(home, run, tmp_path):
    status, error = run(
        *("merge", "a", "b", "--split", "0.25,unet/mid_block,0.75", "--mix", "0.2"),
        *("--component", "unet", "-o", tmp_path / "merged"),
    )
    assert status == 0, error
    space = CheckpointSpace(home / "a", home / "b", components=["unet"])
    names = space.layout.shapes
    middle = next(i for n, i in zip(names, space.layout.offsets, strict=False) if "mid" in n)
    cuts = sorted([0, round(0.25 * space.size), middle, round(0.75 * space.size), space.size])
    child = space.merge_stretches(*space.seeds, cuts, [0.2, 0.8, 0.2, 0.8])
    space.save(child, tmp_path / "other")
    assert (tmp_path / "merged" / UNET).read_bytes() != (home / "a" / UNET).read_bytes()
    ours, other = (load_file(tmp_path / name / UNET) for name in ("merged", "other"))
    assert all((ours[name] == other[name]).all() for name in other)
    made = json.loads((tmp_path / "merged" / "recipe.json").read_text())["made"]
    assert made.count(" (unet/") == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--blocks", "D00=0.5"), "IN00-IN03, MID, OUT00-OUT03, got 'D00'"),
        (("--blocks", "MID=0.5", "--crossover", "ties"), "slerp and lerp, got Ties"),
        (("--split", "0.2,0.4", "--blocks", "MID=0.5"), "Several splits are for SLERP"),
        (("--split", "0.2,up"), "beginning of a tensor's name, got 'up'"),
    ],
)
def test_merges_that_cannot_be_meant_are_refused(run, tmp_path, options, words):
    status, error = run(
        "merge", "a", "b", "--component", "unet", *options, "-o", tmp_path / "merged"
    )
    assert status != 0
    assert words in error
    assert not (tmp_path / "merged").exists()


def cell_of(sheet, column, row, side=96, gap=8):
    x, y = SIDE + column * (side + gap), TITLE + PROMPT + LABEL + row * (side + gap)
    return np.asarray(sheet.convert("RGB"))[y + 1 : y + side : 3, x + 1 : x + side : 3].astype(int)


DRAWN = ("--component", "unet", "--size", "32", "--steps-per-picture", "1", "--threads", "1")


def test_a_sheet_has_the_same_noise_in_every_cell_and_what_a_merge_draws(home, run, tmp_path):
    status, error = run(
        *("sheet", "a", "b", "--x", "mix=0:1:3", "--y", "OUT00-OUT03=0,1"),
        *("--prompts", "prompts.txt", "-o", tmp_path / "sheet.png", *DRAWN),
    )
    assert status == 0, error
    assert "6 of 6 cells" in error
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (SIDE + 3 * 104, TITLE + 2 * (PROMPT + LABEL + 2 * 104))
    space = CheckpointSpace(home / "a", home / "b", components=["unet"])
    painter, blocks = Painter(steps=1, size=32), np.array(blocks_of(list(space.layout.shapes)))
    for column, mix in enumerate((0.0, 0.5, 1.0)):
        for row, share in enumerate((0.0, 1.0)):
            mixes = np.where(np.char.startswith(blocks, "OUT"), share, mix)
            child = space.merge_stretches(*space.seeds, space.layout.offsets, mixes.tolist())
            drawn = next(painter.batches(space.materialise(child), [Prompt("a")])).pictures[0]
            whole = np.asarray(Image.fromarray(drawn).resize((96, 96), Image.Resampling.NEAREST))
            assert abs(cell_of(sheet, column, row) - whole[1:96:3, 1:96:3]).max() <= 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a", "b", "-o", "sheet.jpg"), r"written to a .png file .* got sheet.jpg"),
        (("a", "b", "-o", "lost/sheet.png"), "in a folder that exists"),
        (("a", "-o", "sheet.png"), "two models, A and B, got 1"),
        (("a", "b", "--x", "IN09=0,1", "-o", "sheet.png"), "IN00-IN03, MID, .* got 'IN09'"),
    ],
)
def test_sheets_that_cannot_be_drawn_are_refused(home, run, arguments, words):
    status, error = run(*("sheet", *arguments, "--prompts", "prompts.txt"), *DRAWN)
    assert status != 0
    assert re.search(words, error)
    assert not (home / "sheet.png").exists()


def test_axes_of_a_sheet_are_those_of_practice():
    assert Axis.of("mix=0:1:5") == Axis("mix", (0.0, 0.25, 0.5, 0.75, 1.0))
    assert Axis.of("Split=0,0.3").label(1) == "split 0.3"
    assert Axis.of("IN00-IN11=0,0.5").label(1) == "IN00-IN11 0.5"
    assert Axis.of("seed=1:3:3").values == (1.0, 2.0, 3.0)
    for text, words in [
        ("mix", "NAME=FIRST:LAST:COUNT"),
        ("mix=0:1", "NAME=FIRST:LAST:COUNT"),
        ("mix=0:2:3", r"mix must be a number in \[0, 1\], got 2"),
        ("seed=1.5", "seed must be an integer"),
        ("guidance=-1", "guidance must be"),
        ("steps=1", "got 'steps'"),
        ("mix=0:1:1000", "1 to 100 values, got 1000"),
    ]:
        with pytest.raises(InputError, match=words):
            Axis.of(text)
    with pytest.raises(InputError, match="different things, got MID twice"):
        Sheet(Axis.of("MID=0,1"), Axis.of("mid=0,1"), [Prompt("a")])


def test_guidance_and_seed_change_the_drawing_and_not_the_weights(home):
    space = CheckpointSpace(home / "a", home / "b", components=["unet"])
    made = []
    materialise = space.materialise
    space.materialise = lambda genome: made.append(genome) or materialise(genome)
    sheet = Sheet(
        Axis.of("guidance=1,9"),
        Axis.of("seed=4,5"),
        [Prompt("a")],
        painter=Painter(steps=1, size=16),
    )
    cells = {(cell.column, cell.row): cell.pictures[0] for cell in sheet.cells(space)}
    assert len(made) == 1
    assert len({picture.tobytes() for picture in cells.values()}) == 4
    model = materialise(made[0])
    prompt = Prompt("a", noise=5)
    alone = next(Painter(steps=1, size=16, guidance=9).batches(model, [prompt])).pictures[0]
    assert abs(cells[1, 1].astype(int) - alone).max() <= 1


def test_a_stopped_sheet_has_the_cells_that_were_drawn(home, run, tmp_path, monkeypatch):
    drawn = []
    plain = Painter._draw

    def press_in_the_third(self, pipeline, prompts, watch, stepped):
        drawn.append(prompts)
        if len(drawn) == 3:
            signal.raise_signal(signal.SIGINT)
        return plain(self, pipeline, prompts, watch, stepped)

    monkeypatch.setattr(Painter, "_draw", press_in_the_third)
    status, error = run(
        *("sheet", "a", "b", "--x", "mix=0:1:4", "--prompts", "prompts.txt"),
        *("-o", tmp_path / "sheet.png", *DRAWN),
    )
    assert status == 130
    assert "2 of 4 cells, stopped by Ctrl-C" in error
    sheet = Image.open(tmp_path / "sheet.png")
    assert cell_of(sheet, 1, 0).std() > 1
    assert (cell_of(sheet, 2, 0) == 255).all()


def test_a_search_and_its_resumption_use_the_same_scorer_dtype_and_drawing(home, run, tmp_path):
    clip(tmp_path / "clip")
    (tmp_path / "photos").mkdir()
    for name in ("a", "ab"):
        Image.new("RGB", (20, 20), "navy").save(tmp_path / "photos" / f"{name}.png")
    spec = f"clip:{tmp_path}/clip=0.7,reference:{tmp_path}/photos@{tmp_path}/clip=0.3"
    status, error = run(
        *("evolve", "--task", "text2image", "--seeds", home / "a", home / "b", "--steps", "1"),
        *("--data", home / "prompts.txt", "--limit", "2", "--scorer", spec, "--dtype", "bf16"),
        *("--out", tmp_path / "out", "--store", tmp_path / "runs.db", *DRAWN),
    )
    assert status == 0, error
    resumed = resume(tmp_path / "runs.db")
    assert resumed.space.plan.dtype == "BF16"
    assert vars(resumed.task.painter)["size"] == 32
    resumed.run(1)
    scores = resumed.archive.scores_of(resumed.best.id)
    model = resumed.space.materialise(resumed.best.genome)
    pictures = next(resumed.task.painter.batches(model, resumed.task.prompts)).pictures
    np.testing.assert_allclose(
        scores, scorer_of(spec).score(pictures, resumed.task.prompts), atol=1e-6
    )
    assert model.unet.dtype == torch.bfloat16
