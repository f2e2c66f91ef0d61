"""Data files of any content: read, or refused in a sentence that names the file."""

import json

from hypothesis import given
from hypothesis import strategies as st

from m2n2lab import InputError
from m2n2lab.tasks.language.gsm8k_data import read
from m2n2lab.tasks.shopping.product_files import read_products

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
PROBLEM = {"question": "How many?", "answer": "One and one.\n#### 2"}
PRODUCT = {"asin": "A", "name": "shoe", "pricing": "$3", "query": "shoe", "options": {}}


def altered(record):
    """Return records of which some fields are of other types, or missing."""
    return st.fixed_dictionaries(
        {}, optional={key: st.just(value) | VALUES for key, value in record.items()}
    )


def read_or_refused(read, path):
    """Return what was read, or the sentence that refuses it."""
    try:
        return read(path), ""
    except InputError as error:
        return None, str(error)


def names(path, words):
    return path.name in words and "\n" not in words


@given(st.lists((altered(PROBLEM) | VALUES).map(json.dumps) | st.text(max_size=20), max_size=4))
def test_any_problems_are_read_or_refused(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    found, words = read_or_refused(read, path)
    assert names(path, words) if found is None else sum(map(len, found)) <= len(lines)


@given(st.lists(altered(PRODUCT) | VALUES, max_size=3) | VALUES)
def test_any_products_are_read_or_refused(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    found, words = read_or_refused(read_products, path)
    assert names(path, words) if found is None else len(found) <= len(value)
