"""What a notebook shows of a search and its parts, in HTML and in plain text."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import m2n2lab as lab
from m2n2lab import Evolver, Recipe
from m2n2lab.core.records import Proposal

HOSTILE = "<script>alert('x')</script>&\"<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def evolver(tiny, tiny_seeds):
    return Evolver(tiny, tiny_seeds, mutation=0.1, rng=0).run(40)


class Tags(HTMLParser):
    """Counts the tags that are open, and fails where one is closed that is not."""

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


def shown(thing):
    """Return the HTML of something without its tags, which must all be closed."""
    html, tags = thing._repr_html_(), Tags()
    tags.feed(html)
    assert tags.open == []
    assert not {"script", "img"} & tags.seen
    return re.sub(r"<[^>]+>", " ", html)


def test_an_archive_and_a_search_show_members_by_fitness(evolver):
    ranked = np.argsort(-evolver.archive.fitness, kind="stable")
    for thing in (evolver, evolver.archive):
        rows = re.findall(r"<tr><td>(\d+)</td><td>", thing._repr_html_())
        assert rows == [str(evolver.archive.ids[row]) for row in ranked]
    assert f"{len(evolver.archive)} of 20" in shown(evolver.archive)
    assert repr(evolver.archive) == f"Archive({len(evolver.archive)} of 20 members, 60 data points)"
    assert repr(evolver).startswith("<m2n2 on 'tiny', step 40: Archive(")


def test_a_generation_shows_what_became_of_the_child(evolver):
    generation = evolver.step()
    words = shown(generation)
    assert generation.outcome in words
    assert f"{generation.proposal.split:,}" in words
    assert repr(generation) == f"<{generation}>"
    outside = evolver.tell(np.zeros(evolver.space.size))
    assert "From outside." in shown(outside)


def test_a_proposal_shows_its_parents_in_their_colours_and_what_was_chosen_by_hand():
    html = Proposal((3, 7), 1234, 0.25, 5).edit(mix=0.5)._repr_html_()
    assert '<b style="color:#0072b2">3</b> × <b style="color:#d55e00">7</b>' in html
    assert "<td>1,234</td><td>0.500</td><td>5</td><td>mix</td>" in html
    assert "none" in shown(Proposal((), None, None, 1))


def test_a_recipe_shows_the_share_of_each_seed():
    recipe = Recipe([0, 25, 100], [[1.0, 0.0], [0.2, 0.8]])
    words = shown(recipe)
    assert "seed 0 40.0 %" in words
    assert "seed 1 60.0 %" in words
    assert "2 segments over 100 parameters" in words
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" fill', recipe._repr_html_())]
    assert sum(heights) == pytest.approx(96, abs=0.1)


def test_hostile_texts_are_shown_as_text():
    task = lab.tasks.from_function(lambda m, at: m[at] > 0, 2, name=HOSTILE)
    evolver = Evolver(task, [[1.0, 0.0], [0.0, 1.0]], mutation=0.1)
    assert "&lt;script&gt;" in evolver._repr_html_()
    for thing in (evolver, evolver.archive, evolver.step()):
        shown(thing)
    assert "&lt;img" in shown(Proposal((HOSTILE, HOSTILE), 1, 0.5, 1, (HOSTILE,)))
