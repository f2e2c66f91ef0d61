"""Memory of the server after searches have ended."""

import platform

import numpy as np
import psutil
import pytest
from m2n2lab.widgets.server.server import trim_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only GNU's C library keeps it")
def test_freed_memory_goes_back_to_the_system():
    resident = psutil.Process().memory_info
    blocks = [np.ones(12_000) for _ in range(2_000)]  # 96 kB each, too small to be mapped alone
    kept = blocks[::50]  # in between, so that the rest is not at the end of the heap
    blocks.clear()
    before = resident().rss
    trim_memory()
    assert before - resident().rss > 100e6
    assert sum(map(len, kept)) == 40 * 12_000
