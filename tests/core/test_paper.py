import runpy
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "digits_accuracy.py"


@pytest.mark.slow
def test_ten_searches_from_scratch_reach_the_accuracy_of_the_published_code():
    benchmark = runpy.run_path(str(BENCHMARK))
    low, high = benchmark["BAND"]
    assert low <= benchmark["accuracies"](10, 10_000).mean() <= high
