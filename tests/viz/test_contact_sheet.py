"""Contact sheets and their font: Japanese is drawn on a machine without a font for it."""

import io

import numpy as np
import pytest
from helpers.pictures import brightness, scribbled
from PIL import Image, ImageFont

import m2n2lab
from m2n2lab.tasks import Text2Image
from m2n2lab.tasks.images.diffusion import Prompt
from m2n2lab.tasks.images.shapes import LANGUAGES, scenes
from m2n2lab.tasks.images.text2image import Drawn
from m2n2lab.viz import contact_sheet
from m2n2lab.viz.contact_sheet import CELL, GAP, HEAD, SIDE, Row, draw_sheet, sheet_of
from m2n2lab.viz.fonts import ABSENT, OURS, covers, font_face, font_for
from m2n2lab.zoo.images import captions

RED = np.zeros((32, 32, 3), np.uint8) + np.array([250, 0, 0], np.uint8)


def drawn(text="白い背景に小さな赤い円", score=0.25):
    return Drawn(Prompt(text), RED, score)


def test_our_font_has_every_letter_of_the_zoos_captions():
    font = ImageFont.truetype(str(OURS), 12)
    for language in LANGUAGES:
        assert covers(font, "".join(scene.caption(language) for scene in scenes()))
    assert covers(font, "Member 12: 0.37 …")
    assert not covers(font, ABSENT)


def test_letters_that_no_font_has_are_drawn_all_the_same():
    for text in ("\U000e0001", "赤い円"):
        found = font_for(text, 12)
        assert (found.path, found.size) == (str(OURS), 12)


def test_pages_get_the_font_without_a_request():
    css = font_face()
    assert "url(data:font/ttf;base64,AAEAAA" in css
    assert "http" not in css


def test_a_sheet_has_a_row_for_each_member_and_a_column_for_each_prompt():
    rows = [Row("a seed", [drawn(), drawn("a small red circle")]), Row("merged", [drawn()] * 2)]
    sheet = Image.open(io.BytesIO(draw_sheet(rows))).convert("RGB")
    assert sheet.size == (SIDE + 2 * (CELL + GAP), HEAD + 2 * (CELL + 22) + GAP)
    pixels = np.asarray(sheet).astype(int)
    for line in range(2):
        for column in range(2):
            y = HEAD + line * (CELL + 22) + CELL // 2
            x = SIDE + column * (CELL + GAP) + CELL // 2
            assert abs(pixels[y, x] - [250, 0, 0]).max() < 12


@pytest.mark.parametrize("text", ["赤い円" * 40, "a red circle " * 40])
def test_long_prompts_stay_above_their_own_column(text):
    blank = draw_sheet([Row("m", [drawn("円"), drawn("円")])])
    long = draw_sheet([Row("m", [drawn(text), drawn("円")])])
    one, other = (
        np.asarray(Image.open(io.BytesIO(file)).convert("L")).astype(int) for file in (blank, long)
    )
    # Each sheet has a palette of its own, so greys differ a little everywhere.
    changed = abs(one - other) > 90
    right = SIDE + CELL + GAP
    assert changed[:HEAD, SIDE:right].any()
    assert not changed[:, right:].any()
    assert not changed[HEAD:].any()


def test_the_last_row_says_whether_the_best_member_is_a_seed_or_merged(tmp_path, monkeypatch):
    rows = []
    monkeypatch.setattr(contact_sheet, "draw_sheet", lambda given: rows.extend(given) or b"")
    space = scribbled(tmp_path, ("a", "b"))
    task = Text2Image(captions("search", ["English"], 2), scorer=brightness, steps=1)
    search = m2n2lab.Evolver(task, space, archive_size=4, rng=0)
    sheet_of(search)
    best = ("a", "b")[search.best.id]
    assert [row.name for row in rows] == ["a", "b", f"best: the seed {best}"]
    # A child that is better than both.
    task = Text2Image(
        captions("search", ["English"], 2),
        scorer=lambda pictures, prompts: [1.0 if child else 0.0 for _ in prompts],
        steps=1,
    )
    child = False
    search = m2n2lab.Evolver(task, space, archive_size=4, rng=0)
    child = True
    search.run(3)
    rows.clear()
    sheet_of(search)
    assert rows[-1].name == f"best, merged: member {search.best.id}"
    assert search.best.id > 1
