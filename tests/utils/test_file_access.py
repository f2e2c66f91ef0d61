"""File access at any position: whole writes, and files of a length."""

import errno
import os

import pytest

from m2n2lab.utils.file_access import reserve, write_at


def test_all_is_written_even_if_the_system_takes_it_in_parts(tmp_path, monkeypatch):
    content = bytes(range(256))
    whole = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda file, data, at: whole(file, data[:10], at))
    with (tmp_path / "a").open("wb") as file:
        write_at(file.fileno(), content[100:], 100)
        write_at(file.fileno(), memoryview(content)[:100], 0)
        write_at(file.fileno(), b"", 7)
    assert (tmp_path / "a").read_bytes() == content


def test_a_file_gets_its_length_at_once_or_is_refused_by_a_full_disk(tmp_path, monkeypatch):
    def allocate(error):
        def fail(*args):
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr("os.posix_fallocate", fail, raising=False)

    with (tmp_path / "a").open("wb") as file:
        reserve(file.fileno(), 1000)
        assert os.fstat(file.fileno()).st_size == 1000
        allocate(errno.EOPNOTSUPP)  # such as on NFS
        reserve(file.fileno(), 2000)
        assert os.fstat(file.fileno()).st_size == 2000
        allocate(errno.ENOSPC)
        with pytest.raises(OSError, match="No space left"):
            reserve(file.fileno(), 3000)
        monkeypatch.delattr("os.posix_fallocate")  # such as on macOS
        reserve(file.fileno(), 4000)
    assert (tmp_path / "a").read_bytes() == bytes(4000)
