"""A file layer that fails: the n-th call of a system function, and all calls after it."""

import errno
import os
from contextlib import contextmanager
from unittest import mock


class Failure:
    """Counts calls of a function of ``os`` on files in a folder, and fails from the n-th on.

    Attributes:
        calls: the number of calls so far.
    """

    def __init__(self, function, number, code=errno.EIO):
        self.function, self.number, self.code, self.calls = function, number, code, 0
        self._call = getattr(os, function)

    def __call__(self, *args, **options):
        self.calls += 1
        if self.number and self.calls >= self.number:
            raise OSError(self.code, os.strerror(self.code))
        return self._call(*args, **options)


@contextmanager
def failing(function, number=0, code=errno.EIO):
    """Let the ``number``-th call of ``os.function`` fail, and those after it; 0 counts alone."""
    failure = Failure(function, number, code)
    with mock.patch.object(os, function, failure):
        yield failure


def at_every_call(function, action, code=errno.EIO):
    """Yield n, and the error of an action whose n-th call of a function fails, for every n.

    The first action has no failing call; an error of ``None`` is a success.
    """
    with failing(function) as counted:
        action()
    assert counted.calls, f"os.{function} is not used"
    yield 0, None
    for number in range(1, counted.calls + 1):
        with failing(function, number, code):
            try:
                action()
            except Exception as error:
                yield number, error
            else:
                yield number, None
