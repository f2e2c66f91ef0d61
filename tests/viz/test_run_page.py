"""A run as one HTML file: what it holds, and what a browser shows of it from file://."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest
from helpers.pages import ROOT, faults
from helpers.stores import search, small

from m2n2lab import Evolver, store
from m2n2lab.core.task import Sample, Task
from m2n2lab.viz.run_page import data as run_data
from m2n2lab.viz.run_page import page as run_page_file
from m2n2lab.viz.run_page import run_page

NASTY = "</script><script>document.title='owned'</script><!--<img src=x onerror=alert(1)>"


class Nasty(Task):
    """Models whose names, classes, questions and answers would all be code if they could."""

    def __init__(self):
        names = [f"{NASTY} {k}" for k in range(6)]
        classes, groups = (NASTY, "other"), np.arange(6) % 2
        super().__init__(6, name=NASTY, groups=groups, classes=classes, names=names)

    def evaluate(self, model, indices=None):
        points = np.arange(6) if indices is None else np.asarray(indices)
        return np.asarray(model)[points] > 0

    def samples(self, model, indices):
        return [Sample(int(k), NASTY, NASTY, False, text=NASTY, answer=NASTY) for k in indices]


def data_of(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


def moments(page):
    return [moment["step"] for moment in data_of(page)["maps"]["moments"]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A search of 60 steps whose run is in a store."""
    path = tmp_path_factory.mktemp("runs") / "runs.db"
    return search(small()).run(60, store=path)


def test_the_slider_has_every_archive_as_it_was(recorded, tmp_path):
    recorded.plot.export(tmp_path / "run.html")
    found = data_of((tmp_path / "run.html").read_text(encoding="utf-8"))
    maps = found["maps"]
    assert [moment["step"] for moment in maps["moments"]] == list(range(61))
    for moment in (maps["moments"][k] for k in (0, 17, 60)):
        archive = store.replay(recorded.stored.path, step=moment["step"])
        rows = np.argsort(-archive.fitness, kind="stable")
        assert moment["ids"] == [archive.ids[row] for row in rows]
        assert moment["fitness"] == archive.fitness[rows].round(3).tolist()
        for id in moment["ids"]:
            packed = np.frombuffer(base64.b64decode(maps["scores"][str(id)]), np.uint8)
            bits = np.unpackbits(packed)[:40]
            assert bits.tolist() == archive.scores_of(id)[maps["points"]].tolist()
        strongest = np.nan_to_num(archive.attraction() * (1 - np.eye(len(rows)))).max()
        assert moment["strongest"] == pytest.approx(strongest)
    assert found["notes"] == []


def test_a_search_that_goes_another_way_than_its_run_has_only_archives_of_its_own(recorded):
    other = store.branch(recorded.stored.path, step=20, task=recorded.task)
    other.rng = np.random.default_rng(99)
    other.run(30)
    past = [*store.past(recorded.stored.path)]
    assert moments(run_page(other, past)) == [*range(21), 50]


def test_without_a_recording_the_page_says_that_it_has_the_last_archive_alone(task):
    found = data_of(run_page(search(task).run(5)))
    assert [moment["step"] for moment in found["maps"]["moments"]] == [5]
    assert "was not recorded" in " ".join(found["notes"])


def test_what_is_left_out_is_said(recorded, monkeypatch):
    monkeypatch.setattr(run_data, "MAX_CURVE_STEPS", 10)
    monkeypatch.setattr(run_data, "MAX_POINTS", 12)
    monkeypatch.setattr(run_data, "MAX_ROWS", 3)
    past = [*store.past(recorded.stored.path, count=5)]
    assert [step for step, _ in past] == [0, 15, 30, 45, 60]
    notes = " ".join(data_of(run_page(recorded, past))["notes"])
    for part in ("10 of 60 steps", "5 of 61 steps", "12 of 40 data points", "3 fittest members"):
        assert part in notes


def test_a_page_that_would_be_too_large_has_fewer_archives(recorded, monkeypatch):
    past = [*store.past(recorded.stored.path)]
    whole = len(run_page(recorded, past).encode())
    alone = len(run_page(recorded).encode())
    monkeypatch.setattr(run_page_file, "MAX_BYTES", (whole + alone) // 2)
    page = run_page(recorded, past)
    assert len(page.encode()) <= (whole + alone) // 2
    kept = moments(page)
    assert (kept[0], kept[-1]) == (0, 60)
    assert 1 < len(kept) < 61


def test_no_text_of_a_model_can_end_the_data_and_nothing_is_loaded_from_elsewhere():
    page = run_page(Evolver(Nasty(), np.eye(2, 8) - 0.5, mutation=0.1, rng=0).run(3), code=NASTY)
    assert page.count("<script") == page.count("</script>") == 2
    assert "<!--" not in page
    found = data_of(page)
    assert found["best"]["answers"][0]["answer"] == found["code"] == NASTY
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"|@import|url\((?!data:)', page) == []
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    script = re.findall(r"<script>(.*?)</script>", page, re.S)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_code_of_a_page_makes_its_run_again_or_says_what_it_lacks(recorded, task):
    found = data_of(run_page(recorded))["code"]
    assert "lab.Evolver.resume('runs.db', run=1)" in found
    assert "they are not in this file" in data_of(run_page(search(task)))["code"]


def test_steps_by_hand_are_named(task):
    evolver = search(task)
    proposal = evolver.ask(parents=evolver.archive.ids[:2], mix=0.5)
    evolver.tell(proposal, evolver.evaluate(proposal))
    assert "1 steps were made by hand" in " ".join(data_of(run_page(evolver))["notes"])


# -- in a browser ------------------------------------------------------------------------------


@pytest.fixture
def opened(context, tmp_path):
    """Return a function that opens a page of HTML from file://; it must not fail or load."""
    wrongs, pages = [], []

    def open_page(html, width=1440):
        path = tmp_path / "run.html"
        path.write_text(html, encoding="utf-8")
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 844})
        wrongs.append(faults(page))
        pages.append(page)
        page.goto(path.as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()
    own = f"outside request {(tmp_path / 'run.html').as_uri()}"
    assert [wrong for found in wrongs for wrong in found if wrong != own] == []


PIXELS = """() => [...document.querySelector("#niches").getContext("2d")
  .getImageData(0, 0, 40, 1).data].join()"""


def test_a_phone_shows_a_run_and_its_past_from_a_file(opened, recorded):
    page = opened(run_page(recorded, store.past(recorded.stored.path)), width=390)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#step").inner_text() == "60"
    last = page.evaluate(PIXELS)
    page.locator("#moment").fill("0")
    assert page.locator("#step").inner_text() == "0"
    assert page.evaluate(PIXELS) != last
    assert page.locator("#niche-names li").count() == 2
    page.locator("#niches").hover(position={"x": 5, "y": 5})
    assert re.match(r"Member \d (solves|does not)", page.locator("#niche-reading").inner_text())
    assert page.locator("#members tbody tr").count() == len(recorded.archive.members)
    assert page.locator("#curves path").count() > 3
    assert page.locator("table.confusion tbody tr").count() == 3
    page.locator("#appearance").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 23)"


@pytest.mark.slow
def test_text_of_models_stays_text(opened):
    page = opened(run_page(Evolver(Nasty(), np.eye(2, 8) - 0.5, mutation=0.1, rng=0).run(3)))
    assert "owned" not in page.title().split("·")[0].replace(NASTY[:60], "")
    assert page.locator("#best li p").first.inner_text() == NASTY
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_nothing(opened, recorded, theme, width):
    axe = ROOT / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.is_file():
        pytest.skip("axe-core is not installed: make axe")
    # Without its policy the page would refuse axe's script, as any that is not its own.
    html = run_page(recorded, store.past(recorded.stored.path))
    page = opened(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html), width)
    if theme == "dark":
        page.locator("#appearance").click()
    page.evaluate(axe.read_text(encoding="utf-8"))
    found = page.evaluate(
        "async () => (await axe.run(document)).violations"
        ".map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html.slice(0, 200))])"
    )
    assert found == []


@pytest.mark.slow
def test_ten_thousand_steps_of_the_digits_take_a_few_megabytes(digits, tmp_path):
    evolver = Evolver(digits, digits.random_seeds(2, rng=0), mutation=0.01, rng=0)
    evolver.run(10_000, store=tmp_path / "runs.db").plot.export(tmp_path / "run.html")
    assert (tmp_path / "run.html").stat().st_size < 3_000_000
    assert len(moments((tmp_path / "run.html").read_text(encoding="utf-8"))) == 200
