"""Several searches over the same checkpoints at once: as several pages of a server start them."""

import gc
import subprocess
import sys

import pytest
from helpers.pages import PATIENCE, ROOT, button, faults, figure, free_port, served
from m2n2lab.widgets.runs.shared_models import build_shared
from playwright.sync_api import expect

from m2n2lab.config.builders import build_evolver
from m2n2lab.config.settings import Settings

AT_ONCE = """
import sys, threading
from m2n2lab.config.settings import Settings
from m2n2lab.widgets.runs.shared_models import build_shared

task, other, many = sys.argv[1], sys.argv[2], int(sys.argv[3])
start, made, wrong = threading.Barrier(2 * many), [], []

def make(name):
    start.wait()
    try:
        evolver = build_shared(Settings(name, limit=2, threads=1))
        evolver.step()
        made.append((name, evolver))
    except BaseException as error:
        wrong.append(f"{type(error).__name__}: {error}")

threads = [threading.Thread(target=make, args=(name,)) for name in (task, other) * many]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not wrong, wrong
for name in (task, other):
    found = [evolver for known, evolver in made if known == name]
    assert len(found) == many
    assert len({evolver.archive.best.score for evolver in found}) == 1
    assert len({id(evolver.task) for evolver in found}) == 1
    assert len({id(evolver.space.plan) for evolver in found}) == 1
    assert len({id(evolver.space.materialise(evolver.best.genome)) for evolver in found}) == many
print("all of them")
"""


def needs(*tasks):
    available = Settings().tasks
    if missing := [task for task in tasks if task not in available]:
        pytest.skip(f"the zoo's models for {', '.join(missing)} are not installed")


@pytest.mark.slow
def test_searches_over_checkpoints_that_begin_at_once_in_a_new_process_all_work():
    needs("gsm8k", "text2image")
    command = [sys.executable, "-c", AT_ONCE, "gsm8k", "text2image", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stdout.strip().endswith("all of them")


@pytest.mark.slow
def test_a_second_search_finds_the_answers_of_the_seeds_and_goes_its_own_way(monkeypatch):
    needs("gsm8k")
    settings = Settings("gsm8k", limit=3, threads=1)
    first = build_shared(settings)
    asked, batches = [], first.task.generator.batches

    def counted(model, tokenizer, prompts, watch):
        asked.extend(prompts)
        return batches(model, tokenizer, prompts, watch)

    monkeypatch.setattr(first.task.generator, "batches", counted)
    second = build_shared(settings)
    assert second.task is first.task
    assert second.space.plan is first.space.plan
    assert asked == []
    own = second.space.materialise(second.best.genome)
    assert own is not first.space.materialise(first.best.genome)
    first.run(2)
    second.run(2)
    alone = build_evolver(settings).run(2)
    assert first.archive.ids == second.archive.ids == alone.archive.ids
    scores = [evolver.archive.scores.tolist() for evolver in (first, second, alone)]
    assert scores[0] == scores[1] == scores[2]


@pytest.mark.slow
def test_what_is_shared_is_forgotten_with_the_last_search():
    needs("gsm8k")
    settings = Settings("gsm8k", limit=2, threads=1)
    before = build_shared(settings)
    plan = id(before.space.plan)
    kept = before.space.plan  # so that its id is not used again
    del before
    gc.collect()
    assert id(build_shared(settings).space.plan) != plan
    del kept


@pytest.mark.slow
def test_pages_of_a_model_task_that_open_at_once_all_get_their_run(browser, tmp_path):
    needs("gsm8k+webshop")
    port = free_port()
    few = ("--task", "gsm8k+webshop", "--limit", "4", "--threads", "1", "--port", str(port))
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    command = [sys.executable, "-m", "m2n2lab", "serve", *few]
    for log in served(command, port, tmp_path / "log"):
        pages = [context.new_page() for _ in range(4)]
        wrong = [faults(page) for page in pages]
        for page in pages:
            page.set_default_timeout(PATIENCE)
            page.goto(f"http://localhost:{port}/", wait_until="commit")
        for page in pages:
            expect(button(page, "Step")).to_be_enabled(timeout=4 * PATIENCE)
        for page in pages:
            button(page, "Step").click()
        for page in pages:
            expect(figure(page, "step")).to_have_text("1", timeout=2 * PATIENCE)
            expect(figure(page, "phase")).to_have_text("paused")
        context.close()
        assert wrong == [[]] * 4
        assert "Error" not in log.read_text()
