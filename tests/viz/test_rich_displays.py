"""Rich displays of a search and its parts in notebooks, as HTML and as plain text."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import m2n2lab as lab
from m2n2lab import Evolver, Recipe
from m2n2lab.core.records import Proposal
from m2n2lab.viz import LIGHT

HOSTILE = "<script>alert('x')</script>&\"<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def evolver(tiny, tiny_seeds):
    return Evolver(tiny, tiny_seeds, mutation=0.1, rng=0).run(40)


class Tags(HTMLParser):
    """Counts the open tags, and fails if a tag is closed that is not open."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], set()

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.add(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def text_of(value):
    """Return the HTML of a value without its tags, which must all be closed."""
    html, tags = value._repr_html_(), Tags()
    tags.feed(html)
    assert tags.open == []
    assert not {"script", "img"} & tags.seen
    return re.sub(r"<[^>]+>", " ", html)


def test_an_archive_and_a_search_show_members_by_fitness(evolver):
    ranked = np.argsort(-evolver.archive.fitness, kind="stable")
    for value in (evolver, evolver.archive):
        rows = re.findall(r"<tr><td>(\d+)</td><td>", value._repr_html_())
        assert rows == [str(evolver.archive.ids[row]) for row in ranked]
    assert f"{len(evolver.archive)} of 20" in text_of(evolver.archive)
    assert repr(evolver.archive) == f"Archive({len(evolver.archive)} of 20 members, 60 data points)"
    assert repr(evolver).startswith("<m2n2 on 'tiny', step 40: Archive(")


def test_a_generation_shows_the_outcome_and_the_proposal(evolver):
    generation = evolver.step()
    text = text_of(generation)
    assert generation.outcome in text
    assert f"{generation.proposal.split:,}" in text
    assert repr(generation) == f"<{generation}>"
    external = evolver.tell(np.zeros(evolver.space.size))
    assert "From outside." in text_of(external)


def test_a_proposal_shows_its_parents_in_their_colours_and_the_fields_set_by_hand():
    html = Proposal((3, 7), 1234, 0.25, 5).edit(mix=0.5)._repr_html_()
    assert (
        f'<b style="color:{LIGHT.parent_a}">3</b> × <b style="color:{LIGHT.parent_b}">7</b>' in html
    )
    assert "<td>1,234</td><td>0.500</td><td>5</td><td>mix</td>" in html
    assert "none" in text_of(Proposal((), None, None, 1))


def test_a_recipe_shows_the_share_of_each_seed():
    recipe = Recipe([0, 25, 100], [[1.0, 0.0], [0.2, 0.8]])
    text = text_of(recipe)
    assert "seed 0 40.0 %" in text
    assert "seed 1 60.0 %" in text
    assert "2 segments over 100 parameters" in text
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" fill', recipe._repr_html_())]
    assert sum(heights) == pytest.approx(96, abs=0.1)


def test_hostile_texts_are_escaped():
    task = lab.tasks.from_function(lambda m, at: m[at] > 0, 2, name=HOSTILE)
    evolver = Evolver(task, [[1.0, 0.0], [0.0, 1.0]], mutation=0.1)
    assert "&lt;script&gt;" in evolver._repr_html_()
    for value in (evolver, evolver.archive, evolver.step()):
        text_of(value)
    assert "&lt;img" in text_of(Proposal((HOSTILE, HOSTILE), 1, 0.5, 1, (HOSTILE,)))
