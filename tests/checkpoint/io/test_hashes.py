import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import tensors

from m2n2lab import InputError
from m2n2lab.checkpoint import Problems
from m2n2lab.checkpoint.io import hashes as identity
from m2n2lab.checkpoint.io.hashes import (
    Hashes,
    cache_folder,
    combined_digest,
    when_ready,
    write_cache,
)
from m2n2lab.checkpoint.io.reading import SeedFile

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # sha256sum of "hello"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("M2N2LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def later(monkeypatch):
    """Let files that were just written be old enough to be remembered."""
    monkeypatch.setattr(identity, "SETTLED_SECONDS", -1.0)


def write(path, content=b"hello"):
    path.write_bytes(content)
    return path


def hashed(*files, trust=True):
    """Return the SHA-256 of files, and how many bytes were read for them."""
    hashes = Hashes(files, trust)
    found = hashes.wait()
    assert set(found) == set(files)
    return [found[path] for path in files], hashes.done


# -- hashes ---------------------------------------------------------------------------------------


def test_files_are_known_by_their_sha256(tmp_path):
    rng = np.random.default_rng(0)
    sizes = [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000]
    files = [write(tmp_path / f"{size}", rng.bytes(size)) for size in sizes]
    found, done = hashed(*files)
    assert found == [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    assert done == sum(sizes)
    assert hashed(write(tmp_path / "text")) == ([HELLO], 5)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_files_of_all_lengths_are_hashed_by_any_number_of_threads(
    count, threads, tmp_path, monkeypatch
):
    monkeypatch.setattr(identity, "THREADS", threads)
    rng = np.random.default_rng(10 * count + threads)
    contents = {tmp_path / str(i): rng.bytes(int(rng.integers(3000))) for i in range(count)}
    for path, content in contents.items():
        path.write_bytes(content)
    found, done = hashed(*contents)
    assert found == [hashlib.sha256(content).hexdigest() for content in contents.values()]
    assert done == sum(map(len, contents.values()))


def test_a_file_that_is_named_twice_is_read_once(tmp_path):
    path = write(tmp_path / "a")
    assert hashed(path, path) == ([HELLO, HELLO], 5)


def test_nothing_has_no_hashes():
    assert hashed() == ([], 0)
    assert Hashes([]).ready


@pytest.mark.usefixtures("later")
def test_a_file_that_did_not_change_is_not_read_again(tmp_path):
    path = write(tmp_path / "a")
    assert hashed(path) == ([HELLO], 5)
    again = Hashes([path])
    assert again.ready  # without a thread
    assert (again.wait(), again.done) == ({path: HELLO}, 0)


@pytest.mark.usefixtures("later")
def test_it_is_read_again_when_memory_is_not_to_be_trusted(tmp_path):
    path = write(tmp_path / "a")
    for _ in range(2):
        assert hashed(path, trust=False) == ([HELLO], 5)
    assert hashed(path) == ([HELLO], 0)  # but what was read is remembered


def test_what_is_younger_than_two_seconds_is_not_remembered(tmp_path, monkeypatch):
    # It might still change within one tick of the clock that stamps it.
    path, now = write(tmp_path / "a"), 1.7e9
    monkeypatch.setattr(identity.time, "time", lambda: now)
    for age, again in ((0.0, 5), (1.5, 5), (2.5, 0), (3600.0, 0)):
        os.utime(path, (now - age, now - age))
        assert hashed(path) == ([HELLO], 5)
        assert hashed(path) == ([HELLO], again)


@pytest.mark.usefixtures("later")
def test_what_changes_while_it_is_read_is_refused_and_not_remembered(tmp_path, monkeypatch):
    path, content = write(tmp_path / "a", bytes(3 << 20)), b"\1" * (3 << 20)
    read = SeedFile.read_into

    def changing(self, buffer, offset):
        read(self, buffer, offset)
        if offset == 1 << 20 and path.read_bytes() != content:
            write(path, content)

    monkeypatch.setattr(SeedFile, "read_into", changing)
    with pytest.raises(Problems, match="bytes that was opened, unchanged, but found another one"):
        hashed(path)
    expected = hashlib.sha256(content).hexdigest()
    assert hashed(path) == ([expected], 3 << 20)
    assert hashed(path) == ([expected], 0)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", ["content", "time", "length", "another file", "same stamp"])
def test_a_file_that_changed_is_read_again(tmp_path, change):
    path = write(tmp_path / "a")
    assert hashed(path) == ([HELLO], 5)
    before = path.stat()
    if change == "length":
        write(path, b"hello!")
    elif change == "another file":
        os.replace(write(tmp_path / "b", b"jello"), path)
    elif change != "time":
        write(path, b"jello")
    keep = change in ("another file", "same stamp")  # such as cp --preserve
    stamp = before.st_mtime_ns if keep else before.st_mtime_ns + 1
    os.utime(path, ns=(stamp, stamp))
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert hashed(path) == ([expected], path.stat().st_size)
    assert hashed(path) == ([expected], 0)


@pytest.mark.usefixtures("later")
def test_a_link_is_known_as_the_file_that_it_leads_to(tmp_path):
    path, link = write(tmp_path / "a"), tmp_path / "link"
    link.symlink_to(path)
    assert hashed(path) == ([HELLO], 5)
    assert hashed(link) == ([HELLO], 0)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: b"",
        lambda text: text[: len(text) // 2],
        lambda text: b"\xff\xfe\x00",
        lambda text: b"[]",
        lambda text: b"null",
        lambda text: b"{}",
        lambda text: text.replace(HELLO.encode(), b"short"),
        lambda text: text.replace(b'"' + HELLO.encode() + b'"', b"5"),
        lambda text: text.replace(b'"sha256"', b'"sha1"'),
        lambda text: text.replace(b'"size": 5', b'"size": 6'),
    ],
)
def test_a_broken_memory_is_replaced(tmp_path, cache, spoil):
    path = write(tmp_path / "a")
    hashed(path)
    (note,) = cache.rglob("*.json")
    whole = note.read_bytes()
    spoilt = spoil(whole)
    assert spoilt != whole
    note.write_bytes(spoilt)
    assert hashed(path) == ([HELLO], 5)
    assert json.loads(note.read_bytes()) == json.loads(whole)


@pytest.mark.usefixtures("later")
def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path, cache):
    path = write(tmp_path / "a")
    cache.write_text("a file where a folder should be")
    for _ in range(2):
        assert hashed(path) == ([HELLO], 5)
    write_cache(cache_folder("gram") / "x", b"x")
    assert cache.is_file()


def test_a_full_disk_leaves_nothing_in_the_cache(cache, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    write_cache(cache_folder("gram") / "x", b"x")
    assert not [*(cache / "gram").iterdir()]


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    assert cache_folder("gram") == tmp_path / "cache" / "gram"
    monkeypatch.setenv("M2N2LAB_CACHE", "")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: f"/home/me/.cache/{name}")
    assert cache_folder("gram") == Path("/home/me/.cache/m2n2lab/gram")


@pytest.mark.parametrize("lost", ["removed", "a folder"])
def test_a_file_that_cannot_be_read_is_named_once_it_is_waited_for(tmp_path, lost):
    good, bad = write(tmp_path / "good"), tmp_path / "bad"
    if lost == "a folder":
        bad.mkdir()
    hashes = Hashes([good, bad])
    words = {
        "removed": r"could not be read to its end.*bad'; check the disk",
        "a folder": r"bad: expected a readable file or folder, but found Is a directory; check",
    }
    with pytest.raises(InputError, match=words[lost]):
        hashes.wait()


def test_something_is_done_once_all_is_known(tmp_path):
    path = write(tmp_path / "a")
    os.utime(path, (1, 1))  # old enough to be remembered
    done = threading.Event()
    received = []

    def tell(digests):
        received.append(dict(digests))
        done.set()

    when_ready(Hashes([path]), tell)
    assert done.wait(10)
    when_ready(Hashes([path]), tell)  # remembered: at once
    assert received == [{path: HELLO}] * 2


def test_nothing_is_done_after_a_file_that_could_not_be_read(tmp_path):
    hashes, received = Hashes([tmp_path / "none"]), []
    with pytest.raises(InputError):
        hashes.wait()
    when_ready(hashes, received.append)
    assert received == []


# -- several files as one -------------------------------------------------------------------------


def test_one_file_keeps_its_own_sha256():
    assert combined_digest({"model.safetensors": HELLO}) == HELLO


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum here")
def test_several_files_have_the_sha256_of_what_sha256sum_prints(tmp_path):
    for name in ("b.safetensors", "a.safetensors", "unet/c.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, name.encode())
    names = ["a.safetensors", "b.safetensors", "unet/c.safetensors"]
    lines = subprocess.run(
        ["sha256sum", *names], cwd=tmp_path, check=True, capture_output=True
    ).stdout
    found = Hashes([tmp_path / name for name in names]).wait()
    digests = {name: found[tmp_path / name] for name in reversed(names)}
    assert combined_digest(digests) == hashlib.sha256(lines).hexdigest()


# -- several processes ----------------------------------------------------------------------------

PROCESS = """
import sys
from m2n2lab.checkpoint import Problems
from m2n2lab.checkpoint.io import hashes as identity
identity.SETTLED_SECONDS = -1.0
from m2n2lab.checkpoint.space import CheckpointSpace
print("started", flush=True)
sys.stdin.readline()  # all at once
space = CheckpointSpace(*sys.argv[1:])
space._hashes.wait()
identity.when_ready(space._hashes, lambda digests: None)
import threading
for thread in threading.enumerate():
    if thread.name == "m2n2lab-hash":
        thread.join()
print(repr(space.angle(*space.seeds)))
"""


@pytest.mark.slow
def test_processes_that_fill_one_cache_at_once_agree(tmp_path, cache):
    rng = np.random.default_rng(0)
    seeds = [
        tensors(tmp_path / f"{k}.safetensors", {"w": rng.normal(size=(300, 1000))})
        for k in range(2)
    ]
    command = [sys.executable, "-c", PROCESS, *map(str, seeds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env={**os.environ}, **pipes) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "started\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate(timeout=60)[0] for process in processes}
    assert len(said) == 1
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert sorted(path.parent.name for path in files) == ["gram", "hashes", "hashes"]
    (gram,) = cache.glob("gram/*.npy")
    assert np.isfinite(np.load(gram)).all()
    known = {json.loads(note.read_bytes())["sha256"] for note in cache.glob("hashes/*.json")}
    assert known == {hashlib.sha256(seed.read_bytes()).hexdigest() for seed in seeds}
