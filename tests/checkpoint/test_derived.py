"""Children of checkpoints that no coefficients express: by TIES, DARE and rules of one's own."""

import copy
import json
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.batchnorm import network, trained
from helpers.checkpoints import llama, tensors
from helpers.merges import same, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import m2n2lab as lab
from m2n2lab import CheckpointSpace, DenseSpace, InputError, Proposal, rebuild, tasks
from m2n2lab.core.operators import Dare, Lerp, Slerp, TensorRule, Ties
from m2n2lab.core.operators.parts import Parts, crossover_rng
from m2n2lab.core.spaces.derived import lineage
from m2n2lab.core.spaces.recipe import Recipe
from m2n2lab.store.codec import fingerprint, pack_genome, unpack_genome
from m2n2lab.store.restore import _alike

SHAPES = {"h.0.attn": (4, 6), "h.0.mlp": (30,), "h.1.attn": (4, 6), "h.1.mlp": (30,), "head": (9,)}
PARTS = {
    "whole": None,
    "groups": {"groups": {"attention": "*attn", "rest": "*"}},
    "exclude": {"exclude": "*mlp"},
    "freeze": {"freeze": "head", "include": ["h.*"]},
    "groups and freeze": {"groups": {"first": "h.0.*", "rest": "*"}, "freeze": "h.1.attn"},
}


class Middle(lab.Crossover, TensorRule, name="middle"):
    """A rule of one's own: the median of three."""

    def __call__(self, a, b, proposal, space, rng):
        models = [a, b, space.seeds[2]]
        return space.per_tensor(self, models, [0, space.size], [proposal.mix], proposal.seed)

    def tensor(self, values, share, rng):
        return np.median(values, axis=0)


@pytest.fixture(scope="module")
def spaces(tmp_path_factory):
    """The same three seeds as checkpoints and as vectors, in float32 and float64."""
    root, rng = tmp_path_factory.mktemp("seeds"), np.random.default_rng(0)
    base = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    files = []
    for k in range(3):
        changed = {name: value + 0.3 * rng.normal(size=value.shape) for name, value in base.items()}
        contents = {name: value.astype(np.float32) for name, value in changed.items()}
        files.append(tensors(root / f"{k}.safetensors", contents))
    space = CheckpointSpace(*files)
    vectors = [flat(space, load_file(file)) for file in files]
    return space, *(DenseSpace(vectors, space.layout, dtype=d) for d in ("float32", "float64"))


def flat(space, state):
    return np.concatenate([np.asarray(state[name]).ravel() for name in space.layout.shapes])


class Holder(torch.nn.Module):
    """A module with the tensors of a file."""

    def __init__(self, space):
        super().__init__()
        self.values = {name: torch.zeros(shape) for name, shape in space.layout.shapes.items()}

    def state_dict(self):
        return self.values


def made(space, recipe):
    """Return a recipe's weights (N,) as a live module gets them, without rounding to 16 bits."""
    holder = Holder(space)
    space._module, space._live = holder, None
    space.materialise(recipe)
    return flat(space, {name: value.numpy() for name, value in holder.values.items()})


def cross(space, crossover, parts, a, b, proposal):
    if parts is not None:
        return Parts(space.layout, **parts).cross(crossover, a, b, proposal, space)
    return crossover(a, b, proposal, space, crossover_rng(proposal))


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("name", [*lab.Crossover.named])
def test_children_of_checkpoints_equal_those_of_vectors(name, parts, spaces):
    space, single, double = spaces
    crossover, limits = lab.Crossover.of(name), PARTS[parts]
    members = [list(each.seeds) for each in spaces]
    rng = np.random.default_rng(3)
    for generation in range(8):
        a, b = rng.permutation(len(members[0]))[:2]
        split, mix = int(rng.integers(space.size + 1)), float(rng.random())
        proposal = Proposal((int(a), int(b)), split, mix, generation)
        for each, known in zip(spaces, members, strict=True):
            known.append(cross(each, crossover, limits, known[a], known[b], proposal))
        weights = made(space, members[0][-1])
        np.testing.assert_allclose(weights, members[2][-1].values, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(weights, members[1][-1].values, rtol=1e-6, atol=2e-6)
        assert single is not double


def tower(space, crossover=None, generations=6, parts=None):
    """Return members of several generations, the last derived from many."""
    members, rng = list(space.seeds), np.random.default_rng(1)
    for seed in range(generations):
        a, b = rng.permutation(len(members))[:2]
        proposal = Proposal((int(a), int(b)), int(rng.integers(space.size)), rng.random(), seed)
        rule = crossover or (Ties(base=2, density=0.4) if seed % 2 else Dare(base=2))
        members.append(cross(space, rule, parts, members[a], members[b], proposal))
    return members


@pytest.mark.parametrize("parts", PARTS)
def test_recipes_with_derived_vectors_come_back_from_all_that_carries_them(parts, spaces):
    space = spaces[0]
    for member in tower(space, parts=PARTS[parts])[3:]:
        again = [
            Recipe.from_json(json.loads(json.dumps(member.to_json()))),
            pickle.loads(pickle.dumps(member)),
            copy.deepcopy(member),
            space.genome(space.pack(member)),
            unpack_genome(pack_genome(member)),
            space.genome(pickle.loads(pickle.dumps(space.pack(member)))),
        ]
        for other in again:
            assert other == member
            assert hash(other) == hash(member)
            assert other.to_json() == member.to_json()
        np.testing.assert_array_equal(made(space, again[0]), made(space, member))


def test_what_a_recipe_is_derived_from_decides_whether_it_equals_another(spaces):
    space = spaces[0]
    a, b, base = space.seeds

    def child(rule=None, seed=1, mix=0.3, split=20, inputs=(a, b, base), tensors=None):
        edges, mixes = [0, split, space.size], [mix, 1 - mix]
        return space.per_tensor(rule or Ties(), inputs, edges, mixes, seed, tensors)

    assert child() == child(tensors=None)
    others = [
        child(Ties(density=0.21)),
        child(Dare()),
        child(seed=2),
        child(mix=0.31),
        child(split=21),
        child(inputs=(b, a, base)),
        child(inputs=(a, b, child())),
        child(tensors={"head"}),
    ]
    assert len({child(), *others}) == len(others) + 1
    marks = {fingerprint(one) for one in (child(), *others)}
    assert len(marks) == len(others) + 1


def test_merges_of_derived_children_stay_linear_and_join_what_they_are_derived_from(spaces):
    space, _, double = spaces
    *_, a, b = tower(space, Ties(base=2), 2)
    *_, x, y = tower(double, Ties(base=2), 2)
    for recipe, vector in (
        (space.merge(a, b, 50, 0.3), double.merge(x, y, 50, 0.3)),
        (
            space.merge(a, space.seeds[1], 50, 0.3),
            double.merge(x, double.seeds[1], 50, 0.3),
        ),
        (space.blend([a, b], [0, space.size], [[2, -1]]), None),
    ):
        assert len(recipe.derived) <= 2
        if vector is not None:
            np.testing.assert_allclose(made(space, recipe), vector.values, rtol=1e-6, atol=1e-7)
    both = space.blend([a, b], [0, space.size], [[2, -1]])
    assert both.derived == (*a.derived, *b.derived)
    alone = space.blend([both, a], [0, space.size], [[0, 1]])
    assert alone == a  # what is used no more is left out


def test_angles_of_derived_recipes_are_those_of_their_weights(spaces):
    space, _, double = spaces
    for parts in PARTS.values():
        recipes, vectors = (tower(each, Ties(base=2), 4, parts) for each in (space, double))
        for i, j in ((3, 4), (0, 6), (6, 2), (5, 5)):
            expected = double.angle(vectors[i], vectors[j])
            assert space.angle(recipes[i], recipes[j]) == pytest.approx(expected, abs=1e-7)
            ranges = [(24, 54), (78, 108)]
            expected = double.angle_within(vectors[i], vectors[j], ranges)
            found = space.angle_within(recipes[i], recipes[j], ranges)
            assert found == pytest.approx(expected, abs=1e-7)


def test_angles_are_computed_once(spaces, monkeypatch):
    space = spaces[0]
    *_, a, b = tower(space)
    omega = space.angle(a, b)
    monkeypatch.setattr(space.derived, "merged", None)
    assert space.angle(a, b) == omega
    assert space.angles(pickle.loads(pickle.dumps(a)), b)


def test_every_tensor_is_computed_once_for_a_child(spaces, monkeypatch, tmp_path):
    """However many pieces, and however many of its ancestors share another."""
    space, count = CheckpointSpace(*(seed.path for seed in spaces[0].plan.seeds)), []
    plain = Ties.tensor
    monkeypatch.setattr(
        Ties, "tensor", lambda self, *rest: count.append(self) or plain(self, *rest)
    )
    monkeypatch.setattr("m2n2lab.checkpoint.save.PIECE_ELEMENTS", 4)
    monkeypatch.setattr("m2n2lab.checkpoint.derived_tensors.CHUNK_ELEMENTS", 4)
    *_, child = tower(space, Ties(base=2))
    ancestry = len(lineage(child.derived))
    assert ancestry > 3
    space.save(child, tmp_path / "out")
    assert len(count) == ancestry * len(SHAPES)
    made(space, child)
    assert len(count) == ancestry * len(SHAPES)  # from the cache
    space.derived._kept.clear()
    made(space, child)
    assert len(count) == 2 * ancestry * len(SHAPES)


@pytest.mark.slow
def test_an_ancestry_of_thousands_is_made_packed_and_painted(spaces):
    space = spaces[0]
    members = list(space.seeds)
    for seed in range(1200):
        inputs = [members[-1], members[-2], space.seeds[2]]
        members.append(space.per_tensor(Dare(), inputs, [0, space.size], [0.4], seed))
    last = pickle.loads(pickle.dumps(members[-1]))
    assert last == members[-1]
    assert len(lineage(last.derived)) == 1200
    assert last.ancestry.sum() == pytest.approx(1.0)
    assert Recipe.from_json(last.to_json()) == last
    np.testing.assert_array_equal(made(space, last), made(space, members[-1]))


def test_shares_of_seeds_are_the_means_of_those_of_a_and_b(spaces):
    space = spaces[0]
    a, b, base = space.seeds
    edges, mixes = [0, space.size // 4, space.size], [0.25, 0.5]
    child = space.per_tensor(Ties(), [a, b, base], edges, mixes, 0)
    found = child.paint(space.size)
    expected = np.zeros((space.size, 3))
    expected[: space.size // 4, :2] = 0.75, 0.25
    expected[space.size // 4 :, :2] = 0.5, 0.5
    np.testing.assert_allclose(found, expected, atol=0.2)  # one bin has parts of two stretches
    np.testing.assert_allclose(child.ancestry, expected.mean(axis=0), atol=1e-2)
    half = space.blend([child, base], [0, space.size], [[1, 1]])
    np.testing.assert_allclose(
        half.paint(7), child.paint(7) / 2 + np.array([0, 0, 0.5]), atol=1e-12
    )
    again = space.per_tensor(Dare(), [child, base], [0, space.size], [0.5], 0)
    np.testing.assert_allclose(again.ancestry, half.ancestry, atol=1e-12)


@given(st.data())
@settings(max_examples=30)
def test_shares_add_up_to_one_whatever_the_ancestry(spaces, data):
    space, members = spaces[0], list(spaces[0].seeds)
    for seed in range(data.draw(st.integers(1, 6))):
        a, b = (members[data.draw(st.integers(0, len(members) - 1))] for _ in "ab")
        split, mix = data.draw(st.integers(0, space.size)), data.draw(st.floats(0, 1))
        rule = data.draw(st.sampled_from([Ties(), Dare(), Lerp(), Slerp()]))
        parts = PARTS[data.draw(st.sampled_from(list(PARTS)))]
        members.append(cross(space, rule, parts, a, b, Proposal((0, 1), split, mix, seed)))
    shares = members[-1].paint(data.draw(st.integers(1, 300)))
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("parts", [None, {"groups": {"attn": "*attn*", "rest": "*"}}])
def test_a_child_is_the_same_bytes_live_saved_and_rebuilt(dtype, parts, here):
    for k, name in enumerate("abc"):
        llama(name, k, dtype=dtype, shards="20KB")
    space = CheckpointSpace("a", "b", "c")
    child = tower(space, parts=parts)[-1]
    live = space.materialise(child).state_dict()
    space.save(child, "out")
    saved = weights("out")
    assert all(torch.equal(live[name], value) for name, value in saved.items())
    rebuild("out/recipe.json", "again")
    assert same("out", "again")
    record = json.loads(Path("out/recipe.json").read_text())
    assert record["version"] == 2
    assert Recipe.from_json(record["recipe"]) == child


def test_rounding_happens_once(spaces, tmp_path):
    """A child in bfloat16 is its float64 weights rounded, whatever its parents would round to."""
    space = CheckpointSpace(*(seed.path for seed in spaces[0].plan.seeds), dtype="bf16")
    child = tower(space)[-1]
    space.save(child, tmp_path / "out")
    saved = weights(tmp_path / "out")
    for name in SHAPES:
        exact = torch.from_numpy(space.derived.merged(child, name)).reshape(SHAPES[name])
        # float64 to bfloat16 by way of float32 rounds twice only where this is a tie, of which
        # there is none among these.
        assert torch.equal(saved[name], exact.to(torch.bfloat16))


def test_a_card_names_the_operator_and_its_parameters(spaces, tmp_path):
    space = spaces[0]
    child = tower(space, Ties(base=2, density=0.375), 2)[-1]
    space.save(child, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "ties(base=2, density=0.375, scale=1.0)" in text
    assert text.index("V1: ties") < text.index("V0: ties")
    assert "| 1.0000 V1 |" in text


# -- searches ----------------------------------------------------------------------------------


def positive(holder, indices):
    """Score a model by the signs of some of its weights."""
    values = torch.cat([value.flatten() for value in holder.values.values()])
    return (values[3 * indices] > 0.05).numpy()


def fresh(spaces):
    files = [seed.path for seed in spaces[0].plan.seeds]
    return CheckpointSpace(*files, module=Holder(spaces[0]))


SEARCHES = {
    "ties": {"crossover": "ties:base=2,density=0.4"},
    "dare": {"crossover": "dare:base=2,scale=0.7"},
    "groups": {"crossover": "ties", "groups": {"attention": "*attn", "rest": "*"}},
    "own": {"crossover": "middle", "freeze": "head"},
}


def search(spaces, name):
    task = tasks.from_function(positive, 36, name="positive")
    options = {"archive_size": 6, "rng": 4} | SEARCHES[name]
    return lab.Evolver(task, fresh(spaces), **options)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_over_checkpoints_is_resumed_branched_and_replayed(name, spaces, tmp_path):
    path = tmp_path / "runs.db"
    whole = search(spaces, name).run(60)
    assert whole.history.accepted.sum() > 5
    half = search(spaces, name).run(40, store=path)
    given = {"task": half.task, "seeds": fresh(spaces)}
    resumed = lab.Evolver.resume(path, **given)
    branched = lab.store.branch(path, step=25, **given)
    for again, steps in ((resumed, 20), (branched, 35)):
        again.run(steps)
        assert again.archive.ids == whole.archive.ids
        np.testing.assert_array_equal(again.archive.scores, whole.archive.scores)
        ours = [member.genome for member in again.archive.members]
        assert ours == [member.genome for member in whole.archive.members]
    assert lab.store.replay(path, step=40).ids == half.archive.ids
    other = search(spaces, name)
    other.load_state_dict(half.state_dict())
    assert other.run(20).archive.ids == whole.archive.ids


@pytest.mark.slow
def test_children_are_scored_by_workers_and_archives_are_exported(spaces, tmp_path):
    both = search(spaces, "ties")
    with lab.ProcessExecutor(1) as pool:
        both.run(12, executor=pool)
    assert both.history.accepted.sum() > 1
    for member in both.archive.members:
        model = both.space.materialise(member.genome)
        np.testing.assert_array_equal(both.task.evaluate(model), both.archive.scores_of(member.id))
    lab.save_archive(both, tmp_path / "archive.safetensors")
    saved = lab.load_archive(tmp_path / "archive.safetensors")
    assert saved.models == [member.genome for member in both.archive.members]


def test_paintings_and_previews_of_a_search_are_of_seeds(spaces):
    evolver = search(spaces, "groups").run(20)
    lineage_ = lab.analysis.Lineage(evolver)
    for member in evolver.archive.members:
        painting = lineage_.painting(member.id)
        assert painting.shape[1] == 4
        np.testing.assert_allclose(painting.sum(axis=1), 1.0, atol=1e-9)
        assert "seed 2" in member.genome._repr_html_()


def test_members_bred_again_are_alike_but_for_rounding(spaces):
    member = tower(spaces[0], Ties(base=2), 5)[-1]

    def changed(field, by):
        data = json.loads(json.dumps(member.to_json()))
        if field == "coef":
            data["vectors"][-1]["inputs"][0]["coef"][0][0] += by
        else:
            data["vectors"][0][field] = by
        return Recipe.from_json(data)

    assert _alike(member, changed("coef", 1e-9))
    assert changed("coef", 1e-9) != member
    assert not _alike(member, changed("coef", 0.1))
    assert not _alike(member, changed("seed", 99))
    assert not _alike(member, changed("rule", Ties(base=1).description))
    assert not _alike(member, member.derived[0].inputs[0])


# -- rules of one's own ------------------------------------------------------------------------


def test_a_rule_of_one_s_own_is_rebuilt_where_it_is_known_and_refused_elsewhere(
    spaces, tmp_path, monkeypatch
):
    space = spaces[0]
    a, b, _ = space.seeds
    child = Middle()(a, b, Proposal((0, 1), 5, 0.5, 0), space, None)
    expected = np.median([made(space, seed) for seed in space.seeds], axis=0)
    np.testing.assert_array_equal(made(space, child), expected)
    space.save(child, tmp_path / "out")
    rebuild(tmp_path / "out" / "recipe.json", tmp_path / "again")
    assert same(tmp_path / "out", tmp_path / "again")
    monkeypatch.delitem(lab.Crossover.named, "middle")
    with pytest.raises(InputError, match=r"crossover must be one that is known, got .*'middle'"):
        rebuild(tmp_path / "out" / "recipe.json", tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_a_rule_that_cannot_be_described_is_refused(spaces):
    class Local(lab.Crossover, TensorRule):
        def __call__(self, a, b, proposal, space, rng):
            return space.per_tensor(self, [a, b], [0, space.size], [0.5], 0)

        def tensor(self, values, share, rng):
            return values[0]

    class Plain(TensorRule):
        def tensor(self, values, share, rng):
            return values[0]

    space = spaces[0]
    for rule in (Local(), Plain()):
        with pytest.raises(InputError, match="must be a Crossover with a name and plain values"):
            space.per_tensor(rule, space.seeds, [0, space.size], [0.5], 0)


@pytest.mark.parametrize(
    ("result", "got"), [(np.zeros(3), "shape"), (np.full(24, np.nan), "NaN or infinity")]
)
def test_a_rule_that_makes_no_finite_tensor_is_reported(result, got, spaces, monkeypatch):
    space = spaces[0]
    monkeypatch.setattr(Middle, "tensor", lambda self, values, share, rng: result)
    child = space.per_tensor(Middle(), space.seeds, [0, space.size], [0.123], 0)
    with pytest.raises(InputError, match=f"'middle' must make a finite tensor .* got {got}"):
        space.materialise(child)


# -- what is damaged ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        {"vectors": 3},
        {"vectors": [3]},
        {"vectors": [{}]},
        {"derived": [7]},
        {"derived": [True]},
        {"derived": [-1]},
    ],
)
def test_damaged_recipes_are_refused(damage, spaces):
    child = tower(spaces[0], Ties(), 1)[-1]
    with pytest.raises(InputError):
        Recipe.from_json(child.to_json() | damage)


@pytest.mark.parametrize("field", ["rule", "inputs", "edges", "mixes", "seed", "tensors"])
@pytest.mark.parametrize("value", [None, 3, "text", [[]], [None]])
def test_damaged_vectors_are_refused(field, value, spaces):
    if (field, value) in (("seed", 3), ("tensors", None), ("tensors", "text")):
        return
    whole = tower(spaces[0], Ties(), 1)[-1].to_json()
    vector = whole["vectors"][0] | {field: value}
    with pytest.raises(InputError):
        Recipe.from_json(whole | {"vectors": [vector]})


# -- angles and memory ------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["model", "tensor"])
def test_slerp_of_derived_children_takes_the_angles_that_are_asked_for(granularity, spaces):
    files = [seed.path for seed in spaces[0].plan.seeds]
    space = CheckpointSpace(*files, granularity=granularity)
    *_, a, b = tower(space, Ties(base=2), 3)
    child = space.merge(a, b, space.size, 0.3)
    for name, omega in zip(SHAPES, space.angles(a, b), strict=True):
        x, y, z = (space.derived.merged(one, name) for one in (a, b, child))
        omega = omega if granularity == "tensor" else space.angle(a, b)
        f, g = (np.sin(t * omega) / np.sin(omega) for t in (0.7, 0.3))
        np.testing.assert_allclose(z, f * x + g * y, rtol=1e-12)


def test_one_tensor_of_each_input_is_in_memory_at_a_time(tmp_path, monkeypatch):
    """And what the rule makes of it, whatever the number of tensors."""
    size, count = 200_000, 12
    rng = np.random.default_rng(0)
    files = [
        tensors(
            tmp_path / f"{k}.safetensors",
            {f"t{i}": rng.normal(size=size).astype(np.float32) for i in range(count)},
        )
        for k in range(3)
    ]
    monkeypatch.setattr("m2n2lab.checkpoint.derived_tensors.CACHED_BYTES", 0)
    monkeypatch.setattr("m2n2lab.checkpoint.derived_tensors.CHUNK_ELEMENTS", size)
    space = CheckpointSpace(*files)
    child = Ties(base=2)(*space.seeds[:2], Proposal((0, 1), 0, 0.3, 0), space, rng)
    space.save(child, tmp_path / "first")  # compiles
    tracemalloc.start()
    space.save(child, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 12 * size  # 3 inputs, shares, 5 of TIES, the last tensor


# -- buffers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [None, {"norm": "1.*", "rest": "*"}])
def test_buffers_of_derived_children_are_merged_as_in_dense_models(groups, here):
    for half in (0, 1):
        tensors(f"{half}.safetensors", trained(half).state_dict())
    space = CheckpointSpace("0.safetensors", "1.safetensors", module=network())
    dense = DenseSpace([trained(0), trained(1)])
    parts = None if groups is None else {"groups": groups}
    states = []
    for each in (space, dense):
        a, b = each.seeds
        # The order of their vectors differs, so the split is at the end.
        proposal = Proposal((0, 1), each.size, 0.3, 5)
        child = cross(each, Ties(base=0, density=0.5), parts, a, b, proposal)
        child = cross(each, Ties(base=1, density=0.5), parts, b, child, proposal)
        states.append({k: v.clone() for k, v in each.materialise(child).state_dict().items()})
        if each is space:
            recipe = child
    for name, value in states[1].items():
        torch.testing.assert_close(states[0][name], value, rtol=1e-5, atol=1e-6)
    assert recipe.buffers is not None
    for again in (
        pickle.loads(pickle.dumps(recipe)),
        space.genome(space.pack(recipe)),
        unpack_genome(pack_genome(recipe)),
        Recipe.from_json(json.loads(json.dumps(recipe.to_json()))),
    ):
        assert again == recipe
        assert again.buffers == recipe.buffers
    space.save(recipe, "out")
    assert all(torch.equal(states[0][name], value) for name, value in weights("out").items())
    rebuild("out/recipe.json", "again")
    assert same("out", "again")
