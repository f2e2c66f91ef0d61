"""Texts from models are shown as text, and in full on request."""

from m2n2lab.widgets.html.texts import MAX_TRANSCRIPT_CHARS, answer_html, whole

from m2n2lab.tasks import Sample


def test_a_transcript_keeps_its_lines_and_no_tag_of_its_own():
    text = 'Observation: <b>\nAction: click["><img onerror=alert(1)>]\x1b[31m'
    assert whole(text) == (
        "Observation: &lt;b&gt;\nAction: click[&quot;&gt;&lt;img onerror=alert(1)&gt;]�[31m"
    )


def test_of_a_long_transcript_beginning_and_end_are_left():
    page = whole("a" * 50_000 + "b" * 50_000)
    assert len(page) < MAX_TRANSCRIPT_CHARS + 10
    assert page.startswith("aaa")
    assert page.endswith("bbb")
    assert "\n…\n" in page


def test_all_that_a_model_wrote_opens_below_its_answer():
    wrong = Sample(3, "4", "5", right=False, answer="2+3=5\n#### 5")
    assert answer_html(wrong, "child") == (
        '<details class="child"><summary><s class="child">5</s></summary>'
        "<pre>2+3=5\n#### 5</pre></details>"
    )
    assert answer_html(Sample(3, "4", "4", right=True)) == "<b>4</b>"
