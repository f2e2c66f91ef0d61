"""Files mapped into memory, without an open file for each of them.

Python's own mapping keeps its file open, so the many shards of large models would exceed the number
of files that a process may open, often 256.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from pathlib import Path
from typing import Any

_FAILED = ctypes.c_void_p(-1).value


def map_file(path: Path) -> Any:
    """Return a file's bytes as a read-only buffer, read from the disk on access, in order.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        if not length:
            return b""
        if not hasattr(mmap, "PROT_READ"):  # Windows
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _mapped(file.fileno(), length)


def _mapped(file: int, length: int) -> memoryview:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    address = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, file, 0)
    if address == _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if hasattr(mmap, "MADV_SEQUENTIAL"):  # reads from a disk get 10 % faster
        libc.madvise(address, length, mmap.MADV_SEQUENTIAL)
    memory = (ctypes.c_ubyte * length).from_address(address)
    # Views keep this object alive, and with it the mapping.
    weakref.finalize(memory, libc.munmap, address, length).atexit = False
    return memoryview(memory).cast("B").toreadonly()
