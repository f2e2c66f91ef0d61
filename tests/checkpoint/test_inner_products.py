import math
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkpoints import tensors
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from m2n2lab import CheckpointSpace, InputError
from m2n2lab.checkpoint import Problems
from m2n2lab.checkpoint.inner_products import Gram
from m2n2lab.checkpoint.io import hashes as identity
from m2n2lab.checkpoint.io.hashes import Hashes
from m2n2lab.checkpoint.plan import Plan
from m2n2lab.core.spaces.recipe import Recipe

BLOCK = 8
SHAPES = {"a": (3,), "b": (5, 8), "c": (), "d": (8,), "e": (2, 8), "f": (17,), "g": (1,)}
OFFSETS = [0, 3, 43, 44, 52, 68, 85, 86]  # 3 + 40 + 1 + 8 + 16 + 17 + 1 = 86
SIZE = 86
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float32)

shares = st.floats(0.0, 1.0)


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Take sums over blocks of 8 elements, two blocks at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("m2n2lab.checkpoint.inner_products.BLOCK_ELEMENTS", BLOCK)
        for module in ("inner_products", "io.parallel"):
            patch.setattr(f"m2n2lab.checkpoint.{module}.CHUNK_ELEMENTS", 2 * BLOCK)
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("M2N2LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(folder, count, draw=0):
    """Write seeds, each in another dtype; return their files."""
    rng = np.random.default_rng(draw)
    files = []
    for k in range(count):
        contents = {
            name: torch.from_numpy(np.asarray(rng.normal(size=shape))).to(DTYPES[k])
            for name, shape in SHAPES.items()
        }
        files.append(tensors(Path(folder) / f"{k}.safetensors", contents))
    return files


def vectors(space):
    """Return the seeds' flat vectors in float64, (K, N), as PyTorch reads them."""
    states = [load_file(seed.path) for seed in space.plan.seeds]
    return np.array(
        [np.concatenate([s[name].double().numpy().ravel() for name in SHAPES]) for s in states]
    )


@pytest.fixture(scope="module")
def spaces(tmp_path_factory):
    """Spaces of 2, 3 and 5 seeds, for either granularity, and their flat vectors."""
    made = {}
    for count in (2, 3, 5):
        files = write(tmp_path_factory.mktemp("seeds"), count)
        for granularity in ("model", "tensor"):
            space = CheckpointSpace(*files, granularity=granularity)
            made[count, granularity] = space, vectors(space)
    return made


@pytest.fixture(scope="module")
def grams(spaces):
    """Inner products of 2, 3 and 5 seeds, and their flat vectors."""
    found = {count: spaces[count, "model"] for count in (2, 3, 5)}
    return {count: (Gram.build(space.plan), dense) for count, (space, dense) in found.items()}


def weigh(recipe, dense):
    """Make the weights (N,) of a recipe of ``dense`` (K, N)."""
    rows = np.repeat(recipe.coef, np.diff(recipe.breaks), axis=0)
    return (rows * dense.T).sum(axis=1)


def dense_angle(a, b):
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return math.acos(np.clip(a @ b / lengths, -1.0, 1.0)) if lengths else 0.0


def dense_merge(a, b, split, mix, granularity):
    """Merge as the paper has it, on whole vectors or on each tensor."""

    def between(x, y, t):
        omega = dense_angle(x, y)
        if math.sin(omega) <= 1e-6:
            return (1 - t) * x + t * y
        return (math.sin((1 - t) * omega) * x + math.sin(t * omega) * y) / math.sin(omega)

    ends = [0, SIZE] if granularity == "model" else OFFSETS
    at = [
        np.concatenate([between(a[i:j], b[i:j], t) for i, j in pairwise(ends)])
        for t in (mix, 1.0 - mix)
    ]
    return np.where(np.arange(SIZE) < split, *at)


@st.composite
def recipes(draw, seeds):
    inner = draw(st.sets(st.integers(1, SIZE - 1) | st.sampled_from([11, 19, 60, 76]), max_size=8))
    row = st.lists(st.floats(-2, 2), min_size=seeds, max_size=seeds)
    breaks = [0, *sorted(inner), SIZE]
    return Recipe(breaks, [draw(row) for _ in breaks[1:]])


def settle():
    """Wait for what is kept in the background."""
    for thread in threading.enumerate():
        if thread.name == "m2n2lab-hash":
            thread.join(10)


@pytest.fixture
def read(monkeypatch):
    """Return a list that grows by (name, start, stop) whenever weights of the seeds are read."""
    seen, sources = [], Plan.sources

    def watched(self, name, start, stop):
        seen.append((name, start, stop))
        return sources(self, name, start, stop)

    monkeypatch.setattr(Plan, "sources", watched)
    return seen


def every(step):
    """Return breaks at every ``step`` elements of each tensor."""
    return np.array([i for o, e in pairwise(OFFSETS) for i in range(o, e, step)] + [SIZE])


# -- inner products -------------------------------------------------------------------------------


@given(st.sampled_from([2, 3, 5]), st.sets(st.integers(0, SIZE)))
def test_inner_products_between_any_breaks_are_the_dense_ones(grams, seeds, inner):
    gram, dense = grams[seeds]
    breaks = np.array(sorted({*OFFSETS, *inner}))
    sums = gram.between(breaks)
    assert sums.shape == (len(breaks) - 1, seeds, seeds)
    for start, stop, found in zip(breaks[:-1], breaks[1:], sums, strict=True):
        part = dense[:, start:stop]
        # A stretch is the difference of sums from its tensor's start.
        first = max(offset for offset in OFFSETS if offset <= start)
        scale = np.abs(dense[:, first:stop]) @ np.abs(dense[:, first:stop]).T
        assert (np.abs(found - part @ part.T) <= 1e-14 * scale).all()
        assert np.array_equal(found, found.T)


@pytest.mark.parametrize("step", [1, 2, 4, 8])
def test_breaks_may_lie_on_the_edges_of_blocks_and_tensors(grams, step):
    gram, dense = grams[3]
    breaks = every(step)
    sums = np.array([dense[:, i:j] @ dense[:, i:j].T for i, j in pairwise(breaks)])
    assert gram.between(breaks) == pytest.approx(sums, abs=1e-13)


def test_whole_blocks_are_not_read_again(grams, read):
    gram, _ = grams[2]
    gram.between(every(BLOCK))
    assert read == []


def test_more_breaks_than_are_remembered_change_nothing(spaces, monkeypatch):
    space, dense = spaces[2, "model"]
    monkeypatch.setattr("m2n2lab.checkpoint.inner_products.MAX_CACHED_BREAKS", 5)
    rng = np.random.default_rng(0)
    gram = Gram.build(space.plan)
    for _ in range(50):
        breaks = np.union1d(OFFSETS, rng.integers(0, SIZE, rng.integers(1, 12)))
        sums = [dense[:, i:j] @ dense[:, i:j].T for i, j in pairwise(breaks)]
        assert gram.between(breaks) == pytest.approx(np.array(sums), abs=1e-13)


def test_threads_may_ask_at_once(spaces):
    space, _ = spaces[2, "model"]
    gram, alone = Gram.build(space.plan), Gram.build(space.plan)
    rng = np.random.default_rng(1)
    asked = [np.union1d(OFFSETS, rng.integers(0, SIZE, 5)) for _ in range(60)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(gram.between, asked))
    for breaks, sums in zip(asked, found, strict=True):
        assert np.array_equal(sums, alone.between(breaks))


# -- angles ---------------------------------------------------------------------------------------


@given(st.sampled_from([2, 3, 5]), st.data())
def test_angles_are_those_of_the_dense_vectors(spaces, seeds, data):
    space, dense = spaces[seeds, "tensor"]
    a, b = data.draw(recipes(seeds)), data.draw(recipes(seeds))
    x, y = weigh(a, dense), weigh(b, dense)
    pairs = [(space.angle(a, b), dense_angle(x, y))]
    cuts = [*pairwise(OFFSETS)]
    pairs += zip(space.angles(a, b), (dense_angle(x[i:j], y[i:j]) for i, j in cuts), strict=True)
    for got, expected in pairs:
        # Near 0° and 180° a cosine that is right to the last bit leaves 1e-8 of angle open.
        assert math.cos(got) == pytest.approx(math.cos(expected), abs=1e-12)
        if 0.01 < expected < 3.13:
            assert got == pytest.approx(expected, abs=1e-12)


def test_seeds_by_hand(tmp_path):
    # (3, 4) and (4, -3): 90°; (1, 0) and (1, 1): 45°. Together (3, 4, 1, 0) and (4, -3, 1, 1):
    # 12 − 12 + 1 = 1 of lengths √26 and √27.
    a = tensors(tmp_path / "a.safetensors", {"x": np.array([3.0, 4.0]), "y": np.array([1.0, 0.0])})
    b = tensors(tmp_path / "b.safetensors", {"x": np.array([4.0, -3.0]), "y": np.array([1.0, 1.0])})
    space = CheckpointSpace(a, b)
    assert [math.degrees(w) for w in space.angles(*space.seeds)] == pytest.approx([90, 45])
    assert space.angle(*space.seeds) == pytest.approx(math.acos(1 / math.sqrt(26 * 27)), abs=1e-12)
    assert space.angle(space.seeds[0], space.seeds[0]) == pytest.approx(0.0, abs=1e-7)
    opposite = Recipe([0, 4], [[-2.0, 0.0]])
    assert space.angle(space.seeds[0], opposite) == pytest.approx(math.pi, abs=1e-7)
    zero = Recipe([0, 4], [[0.0, 0.0]])
    assert (space.angle(zero, opposite), space.angles(zero, zero)) == (0.0, [0.0, 0.0])


# -- merging --------------------------------------------------------------------------------------


@given(
    st.sampled_from([2, 3, 5]),
    st.sampled_from(["model", "tensor"]),
    st.lists(
        st.tuples(
            st.integers(0, 20),
            st.integers(0, 20),
            st.integers(0, SIZE) | st.sampled_from([*OFFSETS, 11, 60]),
            shares,
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_a_chain_of_merges_is_that_of_the_dense_vectors(spaces, seeds, granularity, merges):
    space, dense = spaces[seeds, granularity]
    members = [(recipe, dense[k]) for k, recipe in enumerate(space.seeds)]
    for i, j, split, mix in merges:
        (a, x), (b, y) = members[i % len(members)], members[j % len(members)]
        child = space.merge(a, b, split, mix)
        expected = dense_merge(x, y, split, mix, granularity)
        members.append((child, expected))
        scale = np.abs(dense).max()
        assert weigh(child, dense) == pytest.approx(expected, rel=0, abs=1e-9 * scale)


def test_each_tensor_has_its_own_angle(tmp_path):
    # x turns by 90°, y not at all: half way x is (a + b) / √2 and y is (a + b) / 2.
    a = tensors(tmp_path / "a.safetensors", {"x": np.array([2.0, 0.0]), "y": np.array([1.0, 1.0])})
    b = tensors(tmp_path / "b.safetensors", {"x": np.array([0.0, 2.0]), "y": np.array([3.0, 3.0])})
    space = CheckpointSpace(a, b, granularity="tensor")
    child = space.merge(*space.seeds, split=4, mix=0.5)
    assert child.breaks.tolist() == [0, 2, 4]
    half = math.sqrt(0.5)
    assert child.coef == pytest.approx(np.array([[half, half], [0.5, 0.5]]), abs=1e-12)


@pytest.mark.parametrize("granularity", ["model", "tensor"])
def test_many_stretches_have_their_own_mixes(spaces, granularity):
    space, dense = spaces[2, granularity]
    edges, mixes = [0, 20, 20, 44, SIZE], [0.2, 0.9, 0.5, 0.0]  # the second is empty
    child = space.merge_stretches(*space.seeds, edges, mixes)
    whole = {mix: dense_merge(*dense, SIZE, mix, granularity) for mix in mixes}
    expected = np.concatenate([whole[0.2][:20], whole[0.5][20:44], whole[0.0][44:]])
    assert weigh(child, dense) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("edges", "mixes"),
    [
        ([0, 50], [0.5]),
        ([1, SIZE], [0.5]),
        ([0, SIZE + 1], [0.5]),
        ([0, 50, 20, SIZE], [0.1, 0.2, 0.3]),
        ([0, SIZE + 5, SIZE], [0.1, 0.2]),
        ([0, -5, SIZE], [0.1, 0.2]),
        ([0, 10, SIZE], [0.5]),
        ([0, SIZE], [0.5, 0.5]),
    ],
)
@pytest.mark.parametrize("granularity", ["model", "tensor"])
def test_edges_that_make_no_sense_are_refused(spaces, granularity, edges, mixes):
    space, _ = spaces[2, granularity]
    with pytest.raises(InputError):
        space.merge_stretches(*space.seeds, edges, mixes)


# -- how much is read -----------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["model", "tensor"])
def test_an_angle_reads_part_of_a_block_for_each_new_break(spaces, read, granularity):
    opened, dense = spaces[3, granularity]
    space = CheckpointSpace.of(opened.plan, granularity)  # which knows no breaks yet
    rng = np.random.default_rng(7)
    members, known = [*space.seeds], {*OFFSETS}
    for _ in range(60):
        a, b = (members[i] for i in rng.integers(0, len(members), 2))
        new = {*a.breaks.tolist(), *b.breaks.tolist()} - known
        known |= new
        read.clear()
        space.angle(a, b)
        assert len(read) <= len(new)
        assert all(start % BLOCK == 0 and stop - start < BLOCK for _, start, stop in read)
        members.append(space.merge(a, b, int(rng.integers(0, SIZE + 1)), rng.uniform()))
    read.clear()
    for member in members[-5:]:
        space.angle(member, members[10])
        space.angle(members[10], member)
    assert len(read) <= len(members[-1].breaks)  # of the last child alone
    assert weigh(members[-1], dense).shape == (SIZE,)


def test_opening_reads_each_weight_once(tmp_path, read):
    done = []
    space = CheckpointSpace(*write(tmp_path, 2), progress=done.append)
    pieces = sorted({piece for piece in read if piece[2] - piece[1] <= BLOCK})
    ends = dict(zip(SHAPES, np.diff(OFFSETS).tolist(), strict=True))
    assert pieces == sorted(
        (name, start, min(start + BLOCK, size))
        for name, size in ends.items()
        for start in range(0, size, BLOCK)
    )
    # float32 and bfloat16: 4 and 2 bytes.
    assert sum(done) == space.plan.read == SIZE * (4 + 2)


# -- what is kept ---------------------------------------------------------------------------------


def kept(files, cache, monkeypatch):
    """Open a space and wait until its sums lie in the cache; return them and their file."""
    monkeypatch.setattr(identity, "SETTLED_SECONDS", -1.0)  # so that hashes are remembered at once
    space = CheckpointSpace(*files)
    settle()
    (path,) = (cache / "gram").iterdir()
    return space, path


def test_what_was_summed_before_is_not_read_again(tmp_path, cache, monkeypatch, read):
    files = write(tmp_path, 3)
    first, path = kept(files, cache, monkeypatch)
    before, done = path.stat(), []
    read.clear()
    again = CheckpointSpace(*files, progress=done.append)
    assert read == []
    assert sum(done) == again.plan.read
    # Of each of the 14 blocks one, and a zero before each of the 7 tensors.
    assert np.load(path).shape == (21, 3, 3)
    opened = Gram.open(again.plan, Hashes(files))
    assert read == []
    blocks = every(BLOCK)
    assert np.array_equal(opened.between(blocks), Gram.build(first.plan).between(blocks))
    a, b, _ = again.seeds
    assert again.angle(a, b) == first.angle(a, b)
    child = again.merge(a, b, 20, 0.3)
    assert child == first.merge(a, b, 20, 0.3)
    assert again.angle(child, a) == first.angle(child, a)
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_other_seeds_have_other_sums(tmp_path, cache, monkeypatch):
    files = write(tmp_path, 2)
    first, path = kept(files, cache, monkeypatch)
    files[1].write_bytes(write(tmp_path / "other", 2, draw=9)[1].read_bytes())
    second = CheckpointSpace(*files)
    swapped = CheckpointSpace(*files[::-1])
    settle()
    assert len([*path.parent.iterdir()]) == 3
    assert first.angle(*first.seeds) != second.angle(*second.seeds)
    assert second.angle(*second.seeds) == pytest.approx(dense_angle(*vectors(second)), abs=1e-12)
    assert swapped.angle(*swapped.seeds) == pytest.approx(second.angle(*second.seeds), abs=1e-12)


def header(content, old, new):
    assert old in content
    return content.replace(old, new)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: b"garbage",
        lambda content: content[:40],
        lambda content: content[:-8],
        lambda content: header(content, b"NUMPY", b"NUMPI"),
        lambda content: header(content, b"<f8", b"<f4"),
        lambda content: header(content, b"<f8", b"|O8"),
        lambda content: header(content, b", 2, 2)", b", 4, 1)"),
        lambda content: header(content, b"(", b"(1"),
        lambda content: content[:-8] + np.float64(np.nan).tobytes(),
        lambda content: header(content, b"}", b" "),
        lambda content: header(content, b"'descr'", b"b'escr'"),
        lambda content: b"PK\3\4" + content,
        lambda content: b"PK\5\6" + bytes(18),
    ],
)
def test_a_broken_file_of_sums_is_replaced(tmp_path, cache, monkeypatch, spoil, read):
    files = write(tmp_path, 2)
    first, path = kept(files, cache, monkeypatch)
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    read.clear()
    again = CheckpointSpace(*files)
    assert read
    many = Recipe(every(BLOCK), np.random.default_rng(0).normal(size=(14, 2)))
    assert again.angles(again.seeds[0], many) == first.angles(first.seeds[0], many)
    settle()
    assert path.read_bytes() == whole  # the sums that were taken again


# -- what is not finite ---------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_not_finite_is_named_with_its_place(tmp_path, cache, bad):
    files = write(tmp_path, 3)
    state = load_file(files[1])
    state["b"][2, 5] = bad  # element 2·8 + 5 = 21
    state["b"][2, 7] = bad  # in the same block
    tensors(files[1], state)
    with pytest.raises(Problems) as caught:
        CheckpointSpace(*files)
    assert str(caught.value) == (
        f"{files[1]}, tensor b: expected finite numbers, but found NaN or infinity at element 21 "
        f"(b row 2); repair this checkpoint or leave it out."
    )
    settle()
    assert not (cache / "gram").exists()


def test_all_seeds_that_are_not_finite_there_are_named(tmp_path):
    files = write(tmp_path, 2)
    for k, file in enumerate(files):
        tensors(file, {"f": torch.full((3,), 1.0).where(torch.arange(3) != k, torch.nan)})
    with pytest.raises(Problems, match="2 problems were found") as caught:
        CheckpointSpace(*files)
    places = [re.search(r"element (\d+) \((.*?)\)", str(p)).groups() for p in caught.value.problems]
    assert places == [("0", "f entry 0"), ("1", "f entry 1")]
