"""Checkpoints from strangers: shown as text, never obeyed, refused where reading could hang."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.merges import merged, run
from hypothesis import given
from hypothesis import strategies as st

from m2n2lab import CheckpointSpace, InputError
from m2n2lab.checkpoint import Checkpoint, Problems
from m2n2lab.checkpoint.io.tensor_file import read_header
from m2n2lab.checkpoint.record.merge_record import Record
from m2n2lab.utils.json_text import MAX_DEPTH, parse_json


def save(path, names, metadata=None):
    """Write a safetensors file of small tensors with any names, by hand."""
    header = {} if metadata is None else {"__metadata__": metadata}
    for number, name in enumerate(names):
        header[name] = {
            "dtype": "F32",
            "shape": [4],
            "data_offsets": [16 * number, 16 * number + 16],
        }
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(len(str(path))).standard_normal(4 * len(names)).astype("<f4")
    path.write_bytes(struct.pack("<Q", len(text)) + text + values.tobytes())


def pair(*names):
    for folder in ("a", "bb"):
        save(Path(folder, "model.safetensors"), [*names, "w"])


NAMES = {
    "markup": ("[/nope]", "[/nope]"),
    "styles": ("[red]x[link=http://e.vil]", "[red]x[link=http://e.vil]"),
    "escapes": ("\x1b[2J\x1b]0;mine\x07", r"\x1b[2J\x1b]0;mine\x07"),
    "directions": ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
    "lines": ("a\n- b/model.safetensors: fine", r"a\n- b/model.safetensors: fine"),
    "C1": ("a\x9b31mb", r"a\x9b31mb"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_tensors_are_shown_as_text(kind, here, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    name, shown = NAMES[kind]
    pair(name)
    for command in (["inspect", "a", "bb"], ["merge", "a", "bb", "-o", "out", "--split", name]):
        status, out, err = run(*command)
        assert status == 0, err
        said = out + err
        hidden = {sign for sign in said if not sign.isprintable() and sign != "\n"}
        assert not hidden
        assert shown in said
    assert set(Checkpoint.open("out").merged) == {name, "w"}
    with Path("a/model.safetensors").open("r+b") as file:
        file.seek(-32, os.SEEK_END)
        file.write(struct.pack("<f", float("nan")) * 4)
    status, _, err = run("merge", "a", "bb", "-o", "again")
    assert status == 2
    assert shown in err
    assert "\x1b" not in err


@pytest.mark.parametrize("place", ["name", "metadata", "config"])
def test_half_a_surrogate_pair_is_refused_in_a_sentence(place, here):
    pair("\ud800" if place == "name" else "x")
    if place == "metadata":
        save(Path("a/model.safetensors"), ["x", "w"], {"note": "\udfff"})
    if place == "config":
        Path("a/config.json").write_text(json.dumps({"note": "\ud800"}))
    for command in ("inspect", "merge"):
        status, out, err = run(command, "a", "bb", *(["-o", "out"] if command == "merge" else []))
        assert status in (1, 2)
        assert "a/" in out + err
    assert not Path("out").exists()


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 5_000, 200_000])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_json_that_is_nested_deeply_is_refused_or_left_out(file, depth, here):
    pair("x")
    Path("a", file).write_text('{"a":' * depth + "1" + "}" * depth)
    status, _, err = run("merge", "a", "bb", "-o", "out")
    assert status in (0, 2)
    if file == "config.json":
        assert status == 2
        assert "a/config.json: expected a JSON object" in err


@pytest.mark.slow
def test_a_header_of_very_many_tensors_is_refused_before_it_is_parsed(tmp_path):
    entry = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    text = b"{" + b",".join(entry % number for number in range(1_400_000)) + b"}"
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(Problems, match="expected at most 262,144 tensors, but found 1,400,000 of"):
        read_header(tmp_path / "x.safetensors")


FILES = ["model.safetensors", "config.json", "vocab.txt", "README.md", "generation_config.json"]


@pytest.mark.parametrize("name", [*FILES, "tokenizer.json", "chat_template.jinja"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_never_waited_for(kind, name, here):
    pair("x")
    for folder in ("a", "bb"):
        Path(folder, "config.json").write_text("{}")
    path = Path("a", name)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    status, _, err = run("merge", "a", "bb", "-o", "out")
    if name in ("model.safetensors", "config.json"):
        assert status == 2
        assert "A pipe, socket or device, not a file" in err or "none there" in err
    assert not Path("out", name).is_fifo()
    assert not Path("out", name).is_symlink()


@pytest.mark.parametrize("name", ["notes.txt", "vocab.json", "code.py", "config.json"])
def test_a_link_to_a_file_elsewhere_is_not_copied_into_the_result(name, here):
    pair("x")
    secret = Path("home/secret.json").absolute()
    secret.parent.mkdir()
    secret.write_text('{"token": "hunter2"}')
    Path("a", name).symlink_to(secret)
    status, _, err = run("merge", "a", "bb", "-o", "out")
    assert status == 2
    said = " ".join(err.split())
    assert f"a/{name}: expected a file of the model's own, since it is copied" in said
    assert not Path("out").exists()


def test_links_within_a_model_and_within_the_hub_s_cache_are_copied(here):
    pair("x")
    Path("a/words.txt").write_text("mine")
    Path("a/notes.txt").symlink_to("words.txt")
    assert (merged("a", "bb") / "notes.txt").read_text() == "mine"
    cache = Path("models--me--mine")
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots").mkdir()
    os.rename("a", cache / "snapshots" / "abc")
    blob = cache / "blobs" / "123"
    blob.write_text('{"model_type": "x"}')
    (cache / "snapshots/abc/config.json").symlink_to("../../blobs/123")
    Path("bb/config.json").write_text('{"model_type": "x"}')
    out = merged(str(cache / "snapshots/abc"), "bb", out="again")
    assert not (out / "config.json").is_symlink()
    assert (out / "config.json").read_text() == blob.read_text()


def test_links_between_models_of_weights_are_followed(here):
    pair("x")
    Path("c").mkdir()
    Path("c/model.safetensors").symlink_to("../a/model.safetensors")
    assert merged("c", "bb").is_dir()


def test_a_planted_link_is_not_followed(here):
    pair("x")
    precious = Path("precious")
    precious.mkdir()
    (precious / "mine").write_text("mine")
    space = CheckpointSpace("a", "bb")
    left = []
    space.save(space.seeds[0], "o1", progress=lambda done: left.extend(Path().glob(".o1*")))
    Path(left[0].name.replace("o1", "out")).symlink_to("precious")
    with pytest.raises(InputError, match="out could not be written: File exists"):
        space.save(space.seeds[0], "out")
    assert os.listdir(precious) == ["mine"]


def test_code_that_is_copied_is_noted_and_not_run(here):
    pair("x")
    Path("a/config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    Path("bb/config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    Path("a/evil.py").write_text("raise SystemExit('run')")
    status, _, err = run("merge", "a", "bb", "-o", "out")
    assert status == 0
    assert "Note: a comes with code of its own (evil.py)" in " ".join(err.split())


def test_a_folder_that_cannot_be_read_is_one_sentence(here):
    pair("x")
    Path("a").chmod(0)
    child = os.fork()
    if child == 0:
        status = 99
        try:
            if os.geteuid() == 0:
                os.seteuid(65534)
            for command in (["inspect", "a", "bb"], ["merge", "a", "bb", "-o", "out"]):
                code, out, err = run(*command)
                good = code in (1, 2) and "Permission denied" in out + err
                status = 0 if good and status in (0, 99) else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    Path("a").chmod(0o755)


# -- anything at all ------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "I64", "BOOL", "F4", "X", 3, None]),
        "shape": st.lists(st.integers(-2, 2**64) | VALUES, max_size=4) | VALUES,
        "data_offsets": st.lists(st.integers(-2, 2**64) | VALUES, max_size=3) | VALUES,
    },
)
HEADERS = st.dictionaries(st.text(max_size=6), ENTRIES | VALUES, max_size=4)


@given(HEADERS, st.binary(max_size=40), st.integers(-3, 3))
def test_any_header_is_read_or_refused(tmp_path_factory, header, rest, off):
    text = json.dumps(header).encode()
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(struct.pack("<Q", max(len(text) + off, 0)) + text + rest)
    try:
        file = read_header(path)
    except Problems:
        return
    for name, entry in file.entries.items():
        assert len(file.raw(name)) == entry.bytes


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(content)
    with pytest.raises(Problems, match=r"fuzzed\.safetensors"):
        read_header(path)


@given(VALUES | st.dictionaries(st.sampled_from(["recipe", "seeds", "format", "version"]), VALUES))
def test_any_recipe_is_read_or_refused(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "recipe.json"
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"recipe\.json"):
        Record.read(path)


@given(st.text(max_size=30) | VALUES.map(json.dumps))
def test_any_text_is_parsed_or_refused(text):
    try:
        value = parse_json(text)
    except ValueError:
        return
    json.dumps(value, ensure_ascii=False).encode("utf-8")
