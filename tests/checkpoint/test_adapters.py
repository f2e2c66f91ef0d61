"""Adapters as seeds of language models: BASE+ADAPTER is base + scaled B·A, whatever the form."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.adapters import peft, unloaded
from helpers.checkpoints import change, llama, tensors
from helpers.merges import run, weights
from safetensors.torch import load_file, save_file

import m2n2lab as lab
from m2n2lab import CheckpointSpace, InputError
from m2n2lab.checkpoint import Checkpoint, preflight
from m2n2lab.checkpoint.io.adapters.source import Source

Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A base, two LoRAs of it, and GPT-2, whose linear layers are transposed."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("adapters")
    llama(folder / "base", dtype=torch.float32)
    peft(folder / "fr", folder / "base", seed=1)
    peft(folder / "de", folder / "base", seed=2, target_modules=["q_proj", "lm_head"])
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
    config = GPT2Config(**sizes, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(folder / "gpt")
    return folder


@pytest.fixture
def here(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


def baked(source):
    """Return the tensors of a seed with adapters by name, in float64."""
    opened = Checkpoint.open(source)
    return {
        name: opened.array(name)[:].astype(np.float64).reshape(opened.entry(name).shape)
        for name in opened.merged
    }


def agree(found, wanted, tolerance=2e-6):
    """Check that tensors are those of a module, which is not the base itself."""
    short = {name.removeprefix("transformer."): value for name, value in wanted.items()}
    for name, value in found.items():
        expected = short[name.removeprefix("transformer.")]
        np.testing.assert_allclose(value, expected.double().numpy(), atol=tolerance, err_msg=name)


FORMS = {
    "lora": ("base", {}),
    "rank-stabilised": ("base", {"use_rslora": True}),
    "dora": ("base", {"use_dora": True}),
    "patterns": (
        "base",
        {
            "rank_pattern": {"layers.1.self_attn.q_proj": 2},
            "alpha_pattern": {"v_proj": 32, "layers.0.mlp.down_proj": 1},
        },
    ),
    "trained-modules": ("base", {"modules_to_save": ["lm_head", "embed_tokens"]}),
    "embedding": ("base", {"target_modules": ["embed_tokens", "q_proj"]}),
    "dora-embedding": ("base", {"target_modules": ["embed_tokens"], "use_dora": True}),
    "trained-tokens": ("base", {"trainable_token_indices": [1, 3, 5]}),
    "loha": ("base", {"form": "LoHaConfig"}),
    "lokr": ("base", {"form": "LoKrConfig"}),
    "lokr-of-whole-halves": ("base", {"form": "LoKrConfig", "r": 64}),
    "transposed": ("gpt", {"fan_in_fan_out": True}),
    "transposed-dora": ("gpt", {"fan_in_fan_out": True, "use_dora": True}),
    "all-biases": ("gpt", {"fan_in_fan_out": True, "bias": "all"}),
    "own-bias": ("gpt", {"fan_in_fan_out": True, "lora_bias": True}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
def test_a_seed_with_an_adapter_is_what_peft_merges_and_unloads(form, home):
    base, options = FORMS[form]
    place = peft(home / form, home / base, **options)
    found = baked(f"{home / base}+{place}")
    agree(found, unloaded(home / base, place), tolerance=1e-5 if "embed" in form else 2e-6)
    own = baked(home / base)
    assert any((found[name] != own[name]).any() for name in found)


@pytest.fixture(scope="module")
def tied(home):
    """A base whose head has the weights of the embedding, and the same with three more rows."""
    llama(home / "tied", dtype=torch.float32, tie_word_embeddings=True)
    grown(home / "tied", home / "tied-67", 67)
    grown(home / "base", home / "base-67", 67)
    return home


def grown(folder, out, rows):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(rows, mean_resizing=False)
    model.save_pretrained(out)


TRAINED = {"modules_to_save": ["embed_tokens", "lm_head"]}
ROWS = {"trainable_token_indices": [64, 66]}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("base", "options"),
    [("base", {}), ("base", TRAINED), ("base", ROWS), ("tied", {}), ("tied", ROWS)],
)
def test_tables_with_added_tokens_are_read_as_peft_saves_them(base, options, tied):
    place = tied / f"{base}-{'-'.join(options)}"
    peft(place, tied / base, rows=67, **options)
    wide = tied / f"{base}-67"
    saved = load_file(place / "adapter_model.safetensors")
    assert any("embed_tokens" in name for name in saved)
    agree(baked(f"{wide}+{place}"), unloaded(wide, place))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trained", [["embed_tokens"], ["lm_head"], ["embed_tokens", "lm_head"]])
def test_what_trains_one_of_two_tied_tables_needs_an_untied_base(trained, tied, tmp_path):
    from transformers import AutoModelForCausalLM

    place = peft(tmp_path / "a", tied / "tied", modules_to_save=trained)
    with pytest.raises(InputError, match="untie the base first") as refused:
        Checkpoint.open(f"{tied / 'tied'}+{place}")
    assert len(str(refused.value).splitlines()) == 1
    model = AutoModelForCausalLM.from_pretrained(tied / "tied", tie_word_embeddings=False)
    model.lm_head.weight.data.copy_(model.model.embed_tokens.weight)
    model.save_pretrained(tmp_path / "untied")
    agree(baked(f"{tmp_path / 'untied'}+{place}"), unloaded(tied / "tied", place))


@pytest.mark.filterwarnings("ignore")
def test_square_weights_of_gpt2_are_transposed_whatever_the_config_says(home):
    place = peft(home / "square", home / "gpt", fan_in_fan_out=True)
    config = json.loads((place / "adapter_config.json").read_text())
    (place / "adapter_config.json").write_text(json.dumps({**config, "fan_in_fan_out": False}))
    agree(baked(f"{home / 'gpt'}+{place}"), unloaded(home / "gpt", place))


def test_several_adapters_add_up_each_at_its_strength(here):
    found, base = baked("base+fr:0.5+de:-2"), baked("base")
    one, two = baked("base+fr"), baked("base+de")
    for name in base:
        wanted = base[name] + 0.5 * (one[name] - base[name]) - 2 * (two[name] - base[name])
        np.testing.assert_allclose(found[name], wanted, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_strength_moves_trained_tensors_and_dora_along_a_line(here):
    peft("moved", "base", use_dora=True, modules_to_save=["lm_head"])
    base, whole, part = baked("base"), baked("base+moved"), baked("base+moved:0.25")
    for name in base:
        wanted = base[name] + 0.25 * (whole[name] - base[name])
        np.testing.assert_allclose(part[name], wanted, atol=1e-12)


def test_a_folder_with_a_config_finds_its_base_by_itself(here, tmp_path, monkeypatch):
    place = tmp_path / "models" / "fr"
    shutil.copytree("fr", place)
    config = json.loads((place / "adapter_config.json").read_text())
    for written, name in ((str(here / "base"), str(here / "base")), ("base", "models/base")):
        shutil.copytree("base", tmp_path / "models" / "base", dirs_exist_ok=True)
        (place / "adapter_config.json").write_text(
            json.dumps({**config, "base_model_name_or_path": written})
        )
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            opened = Checkpoint.open("models/fr")
            assert opened.id == f"{name}+models/fr"
            alone = Checkpoint.open("models/fr/adapter_model.safetensors")
            np.testing.assert_array_equal(opened.array(Q)[:], alone.array(Q)[:])


def test_a_base_that_is_nowhere_is_asked_for(here, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shutil.copytree("fr", tmp_path / "fr")
    config = json.loads((tmp_path / "fr" / "adapter_config.json").read_text())
    for name, expected in (("nobody/no-model", "its base nobody/no-model"), (None, "its base")):
        (tmp_path / "fr" / "adapter_config.json").write_text(
            json.dumps({**config, "base_model_name_or_path": name})
        )
        with pytest.raises(InputError, match=f"expected {expected}.*BASE\\+") as refused:
            Checkpoint.open(tmp_path / "fr")
        assert len(str(refused.value).splitlines()) == 1


def test_an_adapter_may_be_a_pickle_of_tensors(here, tmp_path, monkeypatch):
    monkeypatch.setenv("M2N2LAB_CACHE", str(tmp_path / "cache"))
    shutil.copytree("fr", tmp_path / "fr")
    held = load_file("fr/adapter_model.safetensors")
    torch.save(held, tmp_path / "fr" / "adapter_model.bin")
    (tmp_path / "fr" / "adapter_model.safetensors").unlink()
    found, wanted = baked(f"base+{tmp_path / 'fr'}"), baked("base+fr")
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])


def test_names_of_adapters_that_peft_left_in_are_read_over(here, tmp_path):
    held = load_file("fr/adapter_model.safetensors")
    named = {name.replace(".weight", ".default.weight"): value for name, value in held.items()}
    shutil.copytree("fr", tmp_path / "fr")
    save_file(named, tmp_path / "fr" / "adapter_model.safetensors")
    np.testing.assert_array_equal(baked(f"base+{tmp_path / 'fr'}")[Q], baked("base+fr")[Q])


@pytest.mark.parametrize(
    ("saved", "trained"),
    [
        ("language_model.model.layers.0.q_proj", "model.language_model.layers.0.q_proj"),
        ("layers.0.q_proj", "model.layers.0.q_proj"),
        ("model.layers.0.q_proj", "layers.0.q_proj"),
    ],
)
def test_modules_that_a_library_moved_are_found(tmp_path, saved, trained):
    own = {f"{saved}.weight": torch.zeros(4, 6), "vision.layers.1.q_proj.weight": torch.ones(4, 6)}
    tensors(tmp_path / "base.safetensors", own)
    begin = f"base_model.model.{trained}"
    low = {f"{begin}.lora_A.weight": torch.ones(1, 6), f"{begin}.lora_B.weight": torch.ones(4, 1)}
    tensors(tmp_path / "a.safetensors", low)
    found = baked(f"{tmp_path / 'base.safetensors'}+{tmp_path / 'a.safetensors'}")
    assert (found[f"{saved}.weight"] == 1).all()
    assert (found["vision.layers.1.q_proj.weight"] == 1).all()


# -- merging -----------------------------------------------------------------------------------


def test_merges_of_adapted_seeds_are_slerp_of_what_they_are(here, tmp_path):
    space = CheckpointSpace("base+fr", "base+de:0.5")
    assert space.names == ("base+fr", "base+de:0.5")
    space.save(space.merge(*space.seeds, space.size // 3, 0.3), tmp_path / "out")
    a, b = (
        np.concatenate([each[name].ravel() for name in space.layout.shapes])
        for each in (baked("base+fr"), baked("base+de:0.5"))
    )
    omega = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    mixes = np.where(np.arange(a.size) < space.size // 3, 0.3, 0.7)
    wanted = (np.sin((1 - mixes) * omega) * a + np.sin(mixes * omega) * b) / np.sin(omega)
    made = weights(tmp_path / "out")
    got = np.concatenate([made[name].double().numpy().ravel() for name in space.layout.shapes])
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_pieces_do_not_change_the_bytes(here, monkeypatch):
    from m2n2lab.checkpoint import plan

    whole = CheckpointSpace("base+fr", "base+de")
    child = whole.merge(*whole.seeds, whole.size // 2, 0.3)
    entry = whole.plan.base.entry(Q)
    found = []
    for length in (1 << 19, 37):
        monkeypatch.setattr(plan, "PIECE_ELEMENTS", length)
        out = np.empty(entry.size)
        whole.plan.merge_into(child, Q, 0, entry.size, out)
        found.append(out)
    np.testing.assert_array_equal(*found)
    tensor = Checkpoint.open("base+fr").array(Q)
    np.testing.assert_array_equal(tensor[5:70], tensor[0 : entry.size][5:70])


def test_recipe_card_and_rebuilding_know_bases_adapters_and_strengths(here, tmp_path):
    import hashlib

    for name in ("base", "fr", "de"):
        shutil.copytree(name, tmp_path / "seeds" / name)
    (tmp_path / "seeds/fr/README.md").write_text("---\nlicense: mit\n---\n")
    sources = [f"{tmp_path}/seeds/base+{tmp_path}/seeds/fr:0.8", f"{tmp_path}/seeds/base"]
    space = CheckpointSpace(*sources)
    space.save(space.merge(*space.seeds, space.size, 0.5), tmp_path / "out")
    record = json.loads((tmp_path / "out" / "recipe.json").read_text())
    first, second = record["seeds"]
    assert first["base"] == str(tmp_path / "seeds/base")
    assert first["adapters"] == [
        {"id": str(tmp_path / "seeds/fr"), "strength": 0.8, "licence": "mit"}
    ]
    assert "adapters" not in second
    digest = hashlib.sha256(Path("fr/adapter_model.safetensors").read_bytes()).hexdigest()
    assert first["files"]["+1/adapter_model.safetensors"] == digest
    assert "+1/adapter_config.json" in first["files"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| A | adapter, strength 0.8 | fr | mit | `{digest}` |" in card
    base = hashlib.sha256(Path("base/model.safetensors").read_bytes()).hexdigest()
    assert f"| A | base | base | none stated | `{base}` |" in card
    lab.rebuild(tmp_path / "out" / "recipe.json", tmp_path / "again")
    for path in (tmp_path / "out").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    seeds = ["base+fr:0.8", "base"]
    lab.rebuild(tmp_path / "out" / "recipe.json", tmp_path / "third", seeds)
    with pytest.raises(InputError, match=r"strengths 0.8, got 1.0; write it as BASE\+ADAPTER:0.8"):
        lab.rebuild(tmp_path / "out" / "recipe.json", tmp_path / "x", ["base+fr", "base"])
    with pytest.raises(InputError, match=r"the file \+1/adapter_model\.safetensors that seed"):
        lab.rebuild(tmp_path / "out" / "recipe.json", tmp_path / "x", ["base+de:0.8", "base"])


def test_what_is_scored_is_what_is_saved_and_loaded(here, tmp_path):
    from transformers import AutoModelForCausalLM

    space = CheckpointSpace("base+fr", "base+de", dtype="bfloat16")
    child = space.merge(*space.seeds, space.size // 2, 0.4)
    live = {name: value.clone() for name, value in space.materialise(child).state_dict().items()}
    space.save(child, tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    for name, value in loaded.items():
        assert torch.equal(live[name], value), name


def test_a_search_over_adapters_keeps_its_seeds_apart(here, tmp_path):
    space = CheckpointSpace("base+fr", "base+fr:0.5", "base")
    assert space.angle(*space.seeds[:2]) > 0
    distances = [space.distances(space.seeds[2], seed)[0] for seed in space.seeds]
    names = list(space.layout.shapes)
    at = names.index(Q)
    far, near, none = (space.distances(space.seeds[2], seed)[at] for seed in space.seeds)
    assert far == pytest.approx(2 * near, rel=1e-6)
    assert none == 0
    assert len(distances) == 3
    again = pickle.loads(pickle.dumps(space))
    assert [seed.id for seed in again.plan.seeds] == [
        f"{here}/base+{here}/fr",
        f"{here}/base+{here}/fr:0.5",
        f"{here}/base",
    ]
    assert again.angle(*again.seeds[:2]) == space.angle(*space.seeds[:2])


def test_inner_products_of_another_strength_are_not_taken_from_the_cache(
    here, tmp_path, monkeypatch
):
    monkeypatch.setenv("M2N2LAB_CACHE", str(tmp_path))
    angles = []
    for strength in ("1", "0.5", "1"):
        space = CheckpointSpace("base", f"base+fr:{strength}")
        space.record(space.seeds[0])  # waits for the hashes
        angles.append(space.angle(*space.seeds))
    assert angles[0] == angles[2] != angles[1]


# -- what is refused ---------------------------------------------------------------------------


def refusal(source):
    with pytest.raises(InputError) as refused:
        CheckpointSpace("base", source)
    text = str(refused.value)
    assert len(text.splitlines()) == 1, text
    return text


def other(tmp_path, **settings):
    shutil.copytree("fr", tmp_path / "other")
    config = json.loads((tmp_path / "other" / "adapter_config.json").read_text())
    (tmp_path / "other" / "adapter_config.json").write_text(json.dumps({**config, **settings}))
    return f"base+{tmp_path / 'other'}"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"peft_type": "IA3"}, "one of the form IA3"),
        ({"peft_type": "PROMPT_TUNING"}, "one of the form PROMPT_TUNING"),
        ({"init_lora_weights": "pissa_niter_4"}, "one that changes the base as well (pissa"),
        ({"layer_replication": [[0, 2]]}, "layers of the base several times (layer_replication)"),
        ({"target_parameters": ["experts.up"]}, "(target_parameters)"),
    ],
)
def test_adapters_that_do_more_than_add_are_refused(settings, words, here, tmp_path):
    text = refusal(other(tmp_path, **settings))
    assert words in text
    assert "merge_and_unload" in text


def test_tensors_of_other_forms_are_refused_by_name(here, tmp_path):
    source = other(tmp_path)
    change(
        tmp_path / "other" / "adapter_model.safetensors",
        {"base_model.model.model.layers.0.self_attn.q_proj.oft_blocks": torch.zeros(2, 4)},
    )
    text = refusal(source)
    assert "q_proj.oft_blocks: expected tensors of LoRA, DoRA, LoHa or LoKr" in text


def test_adapters_of_another_model_are_refused(here, tmp_path):
    llama(tmp_path / "wide", hidden_size=64)
    (problem,) = preflight([f"{tmp_path / 'wide'}+fr"]).problems
    assert "factors for a weight of shape (64, 48)" in str(problem)
    assert "(5 more likewise)" in str(problem)


def test_adapters_for_absent_modules_are_refused_with_their_number(here, tmp_path):
    low = {
        f"base_model.model.model.layers.{k}.self_attn.{x}_proj.lora_{y}.weight": torch.zeros(4, 4)
        for k in (8, 9) for x in "qk" for y in "AB"
    }  # fmt: skip
    tensors(tmp_path / "deep.safetensors", low)
    text = refusal(f"base+{tmp_path / 'deep.safetensors'}")
    assert "a change of a module that base has" in text
    assert "(3 more likewise)" in text


def test_a_factor_that_lacks_its_other_half_is_refused(here, tmp_path):
    source = other(tmp_path)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    change(tmp_path / "other" / "adapter_model.safetensors", {name: None})
    assert "expected factors for a weight of shape (32, 32)" in refusal(source)


def test_an_adapter_with_nan_is_named(here, tmp_path):
    source = other(tmp_path)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    change(tmp_path / "other" / "adapter_model.safetensors", {name: torch.full((32, 4), np.nan)})
    text = refusal(source)
    assert "other/adapter_model.safetensors" in text
    assert "NaN or infinity" in text


@pytest.mark.filterwarnings("ignore")
def test_a_head_that_is_tied_is_refused_with_the_way_out(here):
    peft("head", "gpt", target_modules=["c_attn", "lm_head"], fan_in_fan_out=True)
    with pytest.raises(InputError, match="tie_word_embeddings=False"):
        Checkpoint.open("gpt+head")


def test_resized_embeddings_are_refused_with_the_way_out(here, tmp_path):
    source = other(tmp_path)
    name = "base_model.model.model.embed_tokens.weight"
    change(tmp_path / "other" / "adapter_model.safetensors", {name: torch.zeros(70, 32)})
    text = refusal(source)
    assert "a weight that base has, of shape" in text
    assert "resize_token_embeddings" in text


def test_a_whole_model_is_no_adapter_and_an_adapter_no_model(here, tmp_path):
    assert "expected an adapter, such as a LoRA" in refusal("base+base/model.safetensors")
    save_file(load_file("fr/adapter_model.safetensors"), tmp_path / "a.safetensors")
    text = refusal(tmp_path / "a.safetensors")
    assert "an adapter such as a LoRA" in text
    assert f"BASE+{tmp_path / 'a.safetensors'}:0.8" in text


def test_models_with_adapters_inside_are_models(tmp_path):
    for k, name in enumerate("ab"):
        llama(tmp_path / name, k)
        extra = {
            f"model.layers.0.self_attn.qkv_proj.lora_{x}.{way}.weight": torch.randn(64, 64)
            for x in "AB" for way in ("speech", "vision")
        }  # fmt: skip
        change(tmp_path / name / "model.safetensors", extra)
        shutil.copy(tmp_path / name / "model.safetensors", tmp_path / f"{name}.safetensors")
    folders = CheckpointSpace(tmp_path / "a", tmp_path / "b")
    assert any("lora_A" in name for name in folders.layout.shapes)
    # Without a config: each module's own weight lies beside its factors.
    for name in "ab":
        own = {"x.q_proj.weight": torch.randn(8, 8), "x.q_proj.lora_A.s.weight": torch.randn(8, 8)}
        tensors(tmp_path / f"{name}.safetensors", own)
    files = CheckpointSpace(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert len(files.layout.shapes) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base+", "BASE\\+ADAPTER"),
        ("+fr", "BASE\\+ADAPTER"),
        ("base+fr:much", "strength of an adapter must be a number, got 'much'"),
        ("base+nowhere", "nowhere: expected a folder"),
    ],
)
def test_what_is_no_source_is_said(text, words, here):
    with pytest.raises(InputError, match=words):
        Checkpoint.open(text)


def test_paths_may_hold_plus_signs_and_colons(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a+b", "c:0.5", "d"):
        Path(name).mkdir()
    assert Source.parse("a+b") == Source("a+b")
    assert Source.parse("a+b+d:0.25") == Source("a+b", (("d", 0.25),))
    assert Source.parse("d+c:0.5") == Source("d", (("c:0.5", 1.0),))
    assert Source.parse("d+c:0.5:2") == Source("d", (("c:0.5", 2.0),))
    assert Source.parse("x/y@main+z/w:-1e-1") == Source("x/y@main", (("z/w", -0.1),))
    for text in ("a+b+d:0.25", "d+c:0.5", "d+c:0.5:2", "x/y+z/w"):
        assert str(Source.parse(text)) == text


# -- the command line --------------------------------------------------------------------------


def test_one_seed_with_an_adapter_is_baked(here, tmp_path):
    status, _, err = run("merge", "base+fr:0.8", "-o", str(tmp_path / "out"))
    assert status == 0, err
    found, wanted = weights(tmp_path / "out"), baked("base+fr:0.8")
    for name, value in wanted.items():
        assert torch.equal(found[name], torch.from_numpy(value.astype(np.float32))), name
    status, _, err = run("rebuild", str(tmp_path / "out/recipe.json"), "-o", str(tmp_path / "two"))
    assert status == 0, err
    assert (tmp_path / "two/model.safetensors").read_bytes() == (
        tmp_path / "out/model.safetensors"
    ).read_bytes()
    status, _, err = run("merge", "base", "-o", str(tmp_path / "x"))
    assert status == 2
    assert "or an adapter (BASE+ADAPTER)" in err


def test_seeds_with_adapters_are_inspected(here):
    status, out, _ = run("inspect", "base", "base+fr", "--json")
    assert status == 0
    rows = {row["tensor"]: row["difference"]["base+fr"] for row in json.loads(out)["tensors"]}
    assert rows[Q] > 0
    assert rows["model.norm.weight"] == 0
    status, out, _ = run("inspect", "fr", "--headers")
    assert status == 0
    assert "q_proj" in out


# -- merges saved as adapters --------------------------------------------------------------------


def differences(found, base):
    return {name: found[name] - base[name] for name in base}


def shares(differences, wanted):
    """Return what adapters lack of a difference, of each tensor and of all, as shares."""
    lack = {name: np.linalg.norm(value - differences[name]) for name, value in wanted.items()}
    norms = {name: np.linalg.norm(value) for name, value in wanted.items()}
    overall = np.sqrt(sum(x**2 for x in lack.values()) / sum(x**2 for x in norms.values()))
    return {name: lack[name] / norms[name] for name in norms if norms[name]}, overall


@pytest.mark.filterwarnings("ignore")
def test_a_merge_is_saved_as_an_adapter_that_peft_loads(here, tmp_path):
    out = tmp_path / "both"
    merged = ("merge", "base+fr", "base+de", "--crossover", "lerp", "--mix", "0.3")
    status, _, err = run(*merged, "--as-adapter", "--rank", "8", "-o", str(out))
    assert status == 0, err
    base, fr, de = baked("base"), baked("base+fr"), baked("base+de")
    wanted = {name: 0.7 * fr[name] + 0.3 * de[name] for name in base}
    for name, value in unloaded("base", out).items():  # two LoRAs of rank 4 have one of rank 8
        np.testing.assert_allclose(value.double(), wanted[name], atol=1e-5, err_msg=name)
    agree(baked(f"base+{out}"), unloaded("base", out))
    assert "rank 8: 0.000% of the difference is lost in all" in err
    lab.rebuild(out / "recipe.json", tmp_path / "whole")
    whole = weights(tmp_path / "whole")
    for name in base:
        np.testing.assert_allclose(whole[name].double(), wanted[name], atol=1e-6)


def test_a_lower_rank_loses_what_is_said_and_no_more_than_it_must(here, tmp_path):
    from m2n2lab.checkpoint.as_adapter import overall_error, save_as_adapter

    space = CheckpointSpace("base+fr", "base+de")
    child = space.merge(*space.seeds, space.size, 0.4)
    saved = save_as_adapter(space, child, tmp_path / "out", 2)
    base = baked("base")
    space.save(child, tmp_path / "whole")
    made = {name: value.double().numpy() for name, value in weights(tmp_path / "whole").items()}
    names = [each.name for each in saved]
    wanted = {name: value for name, value in differences(made, base).items() if name in names}
    found = differences(baked(f"base+{tmp_path / 'out'}"), base)
    each, overall = shares(found, wanted)
    assert overall_error(saved) == pytest.approx(overall, rel=1e-3)
    assert overall > 0.1
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"is {overall_error(saved):.3%} in all" in card
    for tensor in saved:
        assert tensor.error == pytest.approx(each[tensor.name], rel=1e-3)
        values = np.linalg.svd(wanted[tensor.name], compute_uv=False)
        least = np.linalg.norm(values[2:]) / np.linalg.norm(values)
        assert tensor.error == pytest.approx(least, rel=1e-3)
        assert f"| {tensor.name} |" in card
        assert f"{tensor.error:.3%} |" in card


def test_large_matrices_are_cut_as_well_as_small_ones(monkeypatch):
    from m2n2lab.checkpoint import as_adapter

    values = np.random.default_rng(0).normal(size=(60, 80)) @ np.diag(0.8 ** np.arange(80))
    left, right = as_adapter._factors(values, 5)
    exact = left @ right
    monkeypatch.setattr(as_adapter, "EXACT_SIZE", 10)
    left, right = as_adapter._factors(values, 5)
    np.testing.assert_allclose(left @ right, exact, atol=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("base", "options"),
    [
        ("base", {"modules_to_save": ["lm_head"], "target_modules": ["q_proj"]}),
        ("base", {"target_modules": ["embed_tokens", "q_proj"]}),
        ("gpt", {"fan_in_fan_out": True, "bias": "all"}),
        ("gpt", {"fan_in_fan_out": True, "bias": "lora_only"}),
    ],
)
def test_forms_of_adapters_survive_a_merge(base, options, here, tmp_path):
    for seed, name in enumerate(("one", "two")):
        peft(tmp_path / name, base, seed, **options)
    sources = [f"{base}+{tmp_path / name}" for name in ("one", "two")]
    arguments = ("--crossover", "lerp", "--as-adapter", "--rank", "64")
    status, _, err = run("merge", *sources, *arguments, "-o", str(tmp_path / "out"))
    assert status == 0, err
    one, two = map(baked, sources)
    wanted = {name: (one[name] + two[name]) / 2 for name in one}
    found = {
        name.removeprefix("transformer."): value
        for name, value in unloaded(base, tmp_path / "out").items()
    }
    again = baked(f"{base}+{tmp_path / 'out'}")
    for name, value in wanted.items():
        atol = 1e-4 if "embed" in name else 1e-5
        np.testing.assert_allclose(again[name], value, atol=atol, err_msg=name)
        loaded = found[name.removeprefix("transformer.")].double()
        np.testing.assert_allclose(loaded, value, atol=atol, err_msg=name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("base+fr", "twin+fr", "--as-adapter"), "adapters of one base, got base and twin"),
        (("base", "base", "--as-adapter"), "must have seeds with adapters"),
        (("base+fr", "base+de", "--rank", "4"), "got no --as-adapter"),
        (("base+fr", "base+de", "--as-adapter", "--rank", "0"), "rank must be"),
    ],
)
def test_what_cannot_be_saved_as_an_adapter_is_said(arguments, words, here, tmp_path):
    shutil.copytree("base", "twin", dirs_exist_ok=True)
    status, _, err = run("merge", *arguments, "-o", str(tmp_path / "out"))
    assert status == 2
    assert words in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_an_adapter_counts_where_names_are_mapped(tmp_path):
    """A language model with an adapter is merged into the language part of another model."""
    for name, begin in (("whole", "language_model.model."), ("text", "model.")):
        own = {f"{begin}layers.0.q_proj.weight": torch.ones(4, 6)}
        tensors(tmp_path / f"{name}.safetensors", own)
    low = {f"model.layers.0.q_proj.lora_{x}.weight": torch.ones(*s)
           for x, s in (("A", (1, 6)), ("B", (4, 1)))}  # fmt: skip
    tensors(tmp_path / "a.safetensors", low)
    sources = (
        tmp_path / "whole.safetensors",
        f"{tmp_path}/text.safetensors+{tmp_path}/a.safetensors",
    )
    space = CheckpointSpace(*sources, map=("language_model.model.*=model.*",))
    name = "language_model.model.layers.0.q_proj.weight"
    (found,) = space.plan.sources(name, 0, 24, [1])
    assert (found == 2).all()
