import threading
import time

import pytest

from m2n2lab.checkpoint.io.parallel import chunks, run_in_threads


def test_every_job_is_done_once_and_its_bytes_are_reported_to_the_caller():
    done, reported, callers = [], [], set()

    def progress(count):
        reported.append(count)
        callers.add(threading.get_ident())

    run_in_threads(range(1000), lambda job: done.append(job) or job, progress)
    assert sorted(done) == list(range(1000))
    assert sum(reported) == sum(range(1000))
    assert callers == {threading.get_ident()}


@pytest.mark.parametrize("error", [IndexError, ValueError, KeyboardInterrupt])
def test_what_a_job_raises_ends_the_work(error):
    begun = []

    def work(job):
        begun.append(job)
        if job == 5:
            raise error("of the sixth")
        return 1

    with pytest.raises(error, match="of the sixth"):
        run_in_threads(iter(range(1_000_000)), work)
    assert len(begun) < 1_000_000


def test_what_progress_raises_ends_the_work():
    begun = []

    def work(job):
        begun.append(job)
        time.sleep(0.001)
        return 1

    def stop(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_threads(range(100_000), work, stop)
    assert len(begun) < 100_000


def test_no_jobs_are_no_work():
    run_in_threads([], lambda job: 1, lambda count: pytest.fail("nothing was done"))


def test_stretches_cover_all_and_none_is_too_long():
    assert chunks(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert chunks(8, 4) == [(0, 4), (4, 8)]
    assert chunks(0, 4) == []
