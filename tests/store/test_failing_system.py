"""Every write, flush, rename and read fails once: what is made is complete or absent."""

import shutil
import sys

import pytest
from helpers.failing_system import tried

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or shutil.which("cc") is None,
        reason="the failing calls are compiled, for Linux",
    ),
]

WRITING = ("merge", "merge into a file", "store", "export", "archive", "backup")
CASES = [(action, operation) for action in WRITING for operation in ("write", "flush", "rename")]
CASES = [case for case in CASES if case != ("store", "rename")]  # SQLite renames nothing
CASES += [(action, "read") for action in ("merge", "merge into a file", "store", "export")]
CASES += [("backup", "read"), ("resume", "read")]


@pytest.mark.parametrize(("action", "operation"), CASES)
def test_what_is_written_is_complete_or_absent(action, operation, tmp_path, capsys):
    found = tried(action, operation, tmp_path)
    with capsys.disabled():
        print(
            f"\n{action}, {operation}: {found['calls']} calls, each failed alone and with all "
            f"after it: {found['failed']} ended with the reason, {found['absent']} absent or with "
            f"fewer steps, {found['complete']} complete, 0 partial"
        )
    assert found["calls"] > 0
    assert found["failed"] > 0
