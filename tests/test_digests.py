"""SHA-256 of several streams at once, against hashlib's."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2n2lab.checkpoint import digests, identity
from m2n2lab.checkpoint.digests import BLOCK, Stream, feed
from m2n2lab.checkpoint.identity import Hashes

KNOWN = {  # FIPS 180-4's examples
    b"": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": (
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
}


@pytest.fixture(params=["the processor's instructions", "hashlib"])
def way(request, monkeypatch):
    if request.param == "hashlib":
        monkeypatch.setattr(digests, "TOGETHER", 1)
    elif digests.TOGETHER == 1:
        pytest.skip("this processor has no instructions for SHA-256")


def array(content):
    return np.frombuffer(content, np.uint8)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("content", KNOWN)
def test_known_hashes_are_found(content):
    assert Stream().end(array(content)) == KNOWN[content]


def test_the_standards_constants_are_made_from_primes():
    # FIPS 180-4, sections 4.2.2 and 5.3.3
    assert digests._START[0] == 0x6A09E667
    assert digests._START[7] == 0x5BE0CD19
    assert (len(digests._K), digests._K[0], digests._K[63]) == (64, 0x428A2F98, 0xC67178F2)


@pytest.mark.parametrize("length", [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 1000])
def test_any_length_is_padded_as_the_standard_says(length):
    content = np.random.default_rng(length).bytes(length)
    assert Stream().end(array(content)) == hashlib.sha256(content).hexdigest()


@given(
    st.lists(st.binary(max_size=3 * BLOCK), min_size=1, max_size=4),
    st.lists(st.integers(0, 3), max_size=3),
    st.randoms(use_true_random=False),
)
def test_streams_that_take_turns_are_those_that_do_not(rests, counts, random):
    streams, contents = [Stream() for _ in rests], [b""] * len(rests)
    for count in counts:
        chosen = random.sample(range(len(rests)), random.randint(1, len(rests)))
        pieces = {i: random.randbytes(count * BLOCK) for i in chosen}
        feed([streams[i] for i in chosen], [array(piece) for piece in pieces.values()])
        for i, piece in pieces.items():
            contents[i] += piece
    for stream, content, rest in zip(streams, contents, rests, strict=True):
        assert stream.end(array(rest)) == hashlib.sha256(content + rest).hexdigest()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_files_of_all_lengths_are_hashed_together(count, threads, tmp_path, monkeypatch):
    monkeypatch.setenv("M2N2LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(identity, "READ", 2 * BLOCK)
    monkeypatch.setattr(identity, "WORKERS", threads)
    rng = np.random.default_rng(10 * count + threads)
    contents = {tmp_path / str(i): rng.bytes(int(rng.integers(3000))) for i in range(count)}
    for path, content in contents.items():
        path.write_bytes(content)
    hashes = Hashes(contents)
    found = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    assert hashes.wait() == found
    assert hashes.done == sum(map(len, contents.values()))
