"""The Ctrl-C latch: the first press sets a flag, the second interrupts."""

import signal
import threading

import pytest

from m2n2lab.utils.concurrency.interrupts import interrupt_latch


@pytest.fixture
def handler():
    """Set a handler for the test, and restore the previous one."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda chosen: signal.signal(signal.SIGINT, chosen)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("override", [False, True])
def test_the_first_press_sets_the_flag_and_the_second_raises(handler, override):
    handler(signal.default_int_handler)
    with interrupt_latch(override) as interrupt:
        assert not interrupt.pressed
        signal.raise_signal(signal.SIGINT)
        assert interrupt.pressed
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_inner_latch_leaves_the_press_to_the_outer_one(handler):
    handler(signal.default_int_handler)
    with interrupt_latch(override=True) as outer:
        with interrupt_latch() as inner:
            signal.raise_signal(signal.SIGINT)
        assert (outer.pressed, inner.pressed) == (True, False)


@pytest.mark.parametrize("own", [signal.SIG_IGN, lambda number, frame: None])
def test_other_handlers_are_kept_unless_they_are_overridden(handler, own):
    handler(own)
    with interrupt_latch() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert not interrupt.pressed
    with interrupt_latch(override=True) as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.pressed is (
            own is not signal.SIG_IGN
        )  # as a shell's job in the background
    assert signal.getsignal(signal.SIGINT) is own


def test_another_thread_changes_no_handler(handler):
    handler(signal.default_int_handler)
    seen = []

    def work():
        with interrupt_latch(override=True):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
