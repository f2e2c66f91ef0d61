"""Allowance: so many at once, and so many a second."""

from __future__ import annotations

import time
from collections.abc import Callable


class Allowance:
    """What may be done so often in the long run, and so often after a rest (a token bucket).

    Args:
        per_second: what is allowed in the long run.
        at_once: what is allowed after a rest.
        clock: returns seconds.
    """

    def __init__(
        self, per_second: float, at_once: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second, self._at_once, self._clock = per_second, at_once, clock
        self._left, self._counted = at_once, clock()

    def take(self) -> float:
        """Take one; returns the seconds after which it is allowed, 0 if that is now."""
        now = self._clock()
        self._left += (now - self._counted) * self._per_second
        self._left = min(self._left, self._at_once) - 1
        self._counted = now
        return max(-self._left / self._per_second, 0.0)

    def try_to_take(self) -> bool:
        """Take one if it is allowed now; returns whether it was."""
        if self.take() == 0.0:
            return True
        self._left += 1
        return False
