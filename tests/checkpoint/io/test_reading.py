"""Files of seeds that are read block by block."""

import copy
import os
import pickle

import pytest

from m2n2lab.checkpoint.io.reading import SeedFile


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda file: pickle.loads(pickle.dumps(file))]
)
def test_a_copy_that_is_gone_closes_nothing_of_the_original(tmp_path, copied):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(8)))
    file, block = SeedFile(path), bytearray(4)
    file.read_into(memoryview(block), 0)
    other = copied(file)
    other.read_into(memoryview(block), 2)
    assert bytes(block) == bytes(range(2, 6))
    del other
    number = os.open(path, os.O_RDONLY)  # which the copy would have closed
    file.read_into(memoryview(block), 4)
    os.close(number)
    assert bytes(block) == bytes(range(4, 8))
