"""Recorded runs from the command line."""

import json
import re
import sqlite3
import subprocess
import sys

import pytest
import typer
from helpers.stores import same, search, small
from typer.testing import CliRunner

from m2n2lab import Evolver, InputError, store, tasks
from m2n2lab.cli import app
from m2n2lab.cli.run_commands import PAUSED_STATUS, recorded


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A run of 30 steps that was resumed for 20 more."""
    path = tmp_path_factory.mktemp("cli") / "runs.db"
    first = call("evolve", "--steps", 30, "--seed", 2, "--threads", 1, "--store", path)
    assert first.exit_code == 0, first.output
    done = call("resume", path, "--steps", 20, "--threads", 1, "--json")
    assert done.exit_code == 0, done.output
    return path, json.loads(done.stdout)


def test_a_resumed_run_is_the_uninterrupted_one(resumed, digits):
    path, found = resumed
    whole = Evolver(digits, digits.random_seeds(2, rng=2), mutation=0.01, rng=2).run(50)
    assert (found["run"], found["steps"], found["best"]["id"]) == (1, 50, whole.best.id)
    assert found["accepted"] == whole.records.column("accepted").mean()
    assert same(whole, store.resume(path))


def test_runs_are_listed(resumed):
    path, found = resumed
    (run,) = json.loads(call("runs", path, "--json").stdout)
    assert (run["run"], run["last"], run["task"], run["parent"]) == (1, 50, "digits", None)
    assert (run["train"], run["test"]) == (found["best"]["train"], found["best"]["test"])
    assert "digits" in call("runs", path).stdout


def test_a_parquet_file_has_the_history_or_names_the_extra(resumed, tmp_path, monkeypatch):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    path, _ = resumed
    file = tmp_path / "run.parquet"
    assert call("export", path, 1, "--parquet", file).exit_code == 0
    found = pd.read_parquet(file).set_index("step")
    pd.testing.assert_frame_equal(found, store.resume(path).history)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused = call("export", path, 1, "--parquet", tmp_path / "other.parquet")
    assert (refused.exit_code, "m2n2lab[tables]" in str(refused.exception)) == (1, True)
    assert not (tmp_path / "other.parquet").exists()


def test_a_run_is_exported_as_a_page_with_the_code_that_makes_it_again(resumed, tmp_path):
    path, found = resumed
    html = tmp_path / "run.html"
    done = call("export", path, 1, "--html", html)
    assert (done.exit_code, f"Wrote {html}" in " ".join(done.output.split())) == (0, True)
    text = re.search(r'id="data">(.*?)</script>', html.read_text(encoding="utf-8"), re.S)[1]
    shown = json.loads(text)
    assert [moment["step"] for moment in shown["maps"]["moments"]] == list(range(51))
    names = {}
    exec(shown["code"], names)
    assert names["evolver"].archive.ids == tuple(store.resume(path).archive.ids)
    assert names["evolver"].best.id == found["best"]["id"]


def test_a_branch_is_exported_without_code_that_would_not_make_it(resumed, tmp_path):
    path, _ = resumed
    copy = tmp_path / "runs.db"
    store.backup(path, copy)
    store.branch(copy, step=20).run(5, store=copy)
    html = tmp_path / "run.html"
    assert call("export", copy, 2, "--html", html).exit_code == 0
    assert "make_evolver" not in html.read_text(encoding="utf-8")


def test_an_export_has_every_step(resumed, tmp_path):
    path, _ = resumed
    csv, whole = tmp_path / "run.csv", tmp_path / "run.json"
    assert call("export", path, 1, "--csv", csv, "--json", whole).exit_code == 0
    evolver = store.resume(path)
    assert csv.read_text() == evolver.history.to_csv()
    found = json.loads(whole.read_text())
    steps = [dict(zip(found["columns"], row, strict=True)) for row in found["steps"]]
    assert [step["step"] for step in steps] == list(range(1, 51))
    assert [step["score"] for step in steps] == evolver.records.column("score").tolist()
    assert [member["id"] for member in found["members"]] == list(evolver.archive.ids)
    assert len(found["seeds"][0]["sha256"]) == 64


def test_the_csv_of_a_branch_begins_at_the_first_step(db):
    task = small()
    search(task).run(20, store=db)
    store.branch(db, step=12, task=task).run(4, store=db)
    assert store.whole_history(db, 2).column("step").tolist() == list(range(1, 17))
    assert store.told(db, 2)["parent"] == 1


def test_a_missing_file_run_or_store_is_refused(resumed, db):
    for arguments, words in (
        (("export", resumed[0], 1), "give --csv"),
        (("export", resumed[0], 5, "--csv", db), "has no run 5"),
        (("runs", db), "no such file"),
        (("resume", db), "no such file"),
    ):
        error = call(*arguments).exception
        assert isinstance(error, InputError)
        assert words in str(error)


def test_a_failure_pauses_the_run_and_prints_how_to_resume_it(db, capsys):
    task = small()

    def score(model, at):
        scores.append(task.evaluate(model))
        if len(scores) == 20:
            raise RuntimeError("the GPU fell off")
        return scores[-1]

    scores = []
    odd = tasks.from_function(score, task.points)
    evolver = Evolver(odd, task.random_seeds(2), mutation=0.1)
    with pytest.raises(typer.Exit) as ended, recorded(evolver, db):
        evolver.run(100)
    assert ended.value.exit_code == PAUSED_STATUS
    printed = capsys.readouterr().err
    assert "Paused at step 17: RuntimeError: the GPU fell off" in printed
    assert f"recorded up to step 17; go on with: m2n2lab resume {db} --run 1" in printed
    assert store.resume(db, task=odd).run(3, store=db).generation == 20


def test_a_store_that_fails_pauses_the_run(db, capsys, monkeypatch):
    monkeypatch.setattr("m2n2lab.store.schema.BUSY_SECONDS", 0.05)
    evolver, other = search(small()), sqlite3.connect(db, isolation_level=None)

    def hold(generation):
        if generation.step == 1:
            other.execute("BEGIN IMMEDIATE")

    evolver.subscribe(hold)
    with pytest.raises(typer.Exit) as ended, recorded(evolver, db):
        evolver.run(2_000)
    other.close()
    assert ended.value.exit_code == PAUSED_STATUS
    printed = capsys.readouterr().err
    assert "close the other program that uses it" in printed
    assert "recorded up to step 0; the" in printed
    assert "steps after it were observed, but are not recorded" in printed


def test_a_list_of_runs_loads_neither_torch_nor_the_reader(resumed):
    code = (
        f"import sys; sys.argv = ['m2n2lab', 'runs', {str(resumed[0])!r}, '--json']\n"
        "from m2n2lab.cli import app\n"
        "app(standalone_mode=False)\n"
        "print('torch' in sys.modules, 'm2n2lab.store.reader' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, loaded = done.stdout.splitlines()
    assert json.loads(found)[0]["last"] == 50
    assert loaded == "False False"
