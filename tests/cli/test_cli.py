import json
import os
import pty
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers.merges import run
from helpers.pages import free_port
from safetensors.numpy import load_file

from m2n2lab import make_evolver, tasks
from m2n2lab.cli import main
from m2n2lab.cli.search_options import SearchOptions
from m2n2lab.core.operators import Ties

RUN = [sys.executable, "-m", "m2n2lab"]


def call(*arguments, **options):
    return subprocess.run(
        [*RUN, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options
    )


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "new folder"
    given = ("--steps", 400, "--seed", 3, "--json", "--threads", 1, "--out", out)
    status, printed, error = run("evolve", *given)
    assert status == 0, error
    return json.loads(printed), out


def test_json_is_one_object_with_settings_and_result(result):
    found, _ = result
    assert (found["task"], found["method"], found["seed"]) == ("digits", "m2n2", 3)
    assert (found["steps"], found["stopped"]) == (400, False)
    assert found["members"] == 20
    assert 0.1 < found["best"]["test"] < 1
    assert sorted(found["classes"]) == list("0123456789")
    assert 0 < found["coverage"] <= 1


def test_the_command_line_finds_the_same_as_the_library_with_the_same_seed(result, digits):
    from m2n2lab import Evolver

    found, _ = result
    evolver = Evolver(digits, digits.random_seeds(2, rng=3), mutation=0.01, rng=3).run(400)
    assert found["best"]["id"] == evolver.best.id
    assert found["best"]["test"] == evolver.test
    assert found["entropy"] == evolver.archive.entropy


def test_out_holds_history_result_and_the_best_model(result, digits):
    import torch

    found, out = result
    assert json.loads((out / "result.json").read_text()) == found
    assert len((out / "history.csv").read_text().splitlines()) == 401
    tensors = load_file(out / "best.safetensors")
    assert {name: t.shape for name, t in tensors.items()} == digits.layout.shapes
    vector = np.concatenate([tensors[name].ravel() for name in digits.layout.shapes])
    assert digits.held_out(torch.from_numpy(vector)) == found["best"]["test"]


def test_the_closing_table_shows_classes_coverage_and_entropy():
    status, out, _ = run("evolve", "--steps", 20, "--pretrained", "--threads", 1)
    assert status == 0
    for word in ("class", "train", "test", "20 steps", "coverage", "entropy"):
        assert word in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "m2n3"], "There is no method named 'm2n3'; did you mean 'm2n2'?"),
        (["--task", "digit"], "There is no task named 'digit'; did you mean 'digits'?"),
        (["--steps", "-1"], "steps must be an integer >= 0, got -1"),
        (["--seed", "-1"], "seed must be an integer >= 0, got -1"),
        (["--alpha", "-2"], "alpha must be a number in [0, 10], got -2.0"),
        (["--mutation", "nan"], "mutation must be a finite number >= 0, got nan"),
        (["--archive-size", "0"], "archive_size must be an integer >= 1, got 0"),
        (["--threads", "0"], "threads must be an integer >= 1, got 0"),
        (["--hidden", "0"], "hidden must be an integer >= 1, got 0"),
        (["--device", "tpux"], "A device must be 'cpu' or 'cuda', got 'tpux'"),
        (["--method", "ga", "--alpha", "1"], "Method 'ga' means alpha=0.0, got alpha=1.0"),
        (["--method", "m2n2-no-crossover", "--pretrained"], "Without crossover and mutation"),
        (["--data", "here"], "Data is only read by the tasks mnist, gsm8k, gsm8k+web"),
        (["--task", "mnist", "--data", "no/such/folder"], "there is no such folder"),
        (["--crossover", "tie"], "no crossover named 'tie'; did you mean 'ties'?"),
        (["--crossover", "ties:density=2"], "density must be a number in [1e-06, 1], got 2"),
        (["--groups", "attention"], "--groups must be NAME=PATTERN, got 'attention'"),
        (["--exclude", "*attn*"], "exclude must fit a tensor, but '*attn*' fits none of 4"),
        (["--method", "cma-es", "--mate", "random"], "Method 'cma-es' takes no mate"),
        (["--capacity", "range", "--chunk", "9"], "needs all scores of every child, got chunk=9"),
        (["--out", "/proc/m2n2lab"], "must be a folder that can be written to"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["m2n2lab", "evolve", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capfd.readouterr()
    assert end.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("Error: ")
    assert sentence in printed.err
    assert len(printed.err.strip().splitlines()) == 1


def test_operators_and_parts_are_options_of_the_method():
    status, out, error = run(
        *("evolve", "--steps", 30, "--threads", 1, "--json", "--crossover", "ties:density=0.4"),
        *("--mate", "random", "--capacity", "range", "--replacement", "crowding", "--warmup", 5),
        *("--groups", "first=*1", "--groups", "second=W2", "--exclude", "b2", "--freeze", "b1"),
    )
    assert status == 0, error
    options = json.loads(out)["options"]
    digits = tasks.digits()
    evolver = make_evolver("m2n2", digits, digits.random_seeds(2, rng=0), rng=0, **options)
    assert evolver.crossover == Ties(density=0.4)
    assert [group.name for group in evolver.parts.groups] == ["first", "second"]
    evolver.run(30)
    assert evolver.best.score == json.loads(out)["best"]["train"]


def test_truncated_mnist_files_are_named(tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + b"\0" * 10)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x02\0")
    status, _, error = run("evolve", "--task", "mnist", "--data", tmp_path)
    assert status == 2
    assert "t10k-images-idx3-ubyte" in error


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    # A limit on the size of files stands for the full disk: the same failing write.
    import resource

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = call("evolve", "--steps", 5, "--out", tmp_path, "--json", preexec_fn=limit)
    assert done.returncode == 2
    assert "best.safetensors could not be written (77,160 bytes): " in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["steps"] == 5  # the result was printed before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "result.json"]


def test_ctrl_c_stops_cleanly_with_the_result_so_far():
    # A terminal for the progress, so that the signal is sent once the search runs.
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [*RUN, "evolve", "--steps", "100000000", "--json", "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        env={**os.environ, "COLUMNS": "200", "TERM": "xterm"},
    )
    os.close(terminal)
    seen = ""
    while "accepted" not in seen:
        seen += os.read(screen, 4096).decode(errors="replace")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    os.close(screen)
    assert process.returncode == 130
    found = json.loads(out)
    assert found["stopped"] is True
    assert 0 < found["steps"] < 100_000_000
    for part in ("digits · m2n2 · seed 0", "steps/s", "best", "train", "test"):
        assert part in seen
    assert "Traceback" not in seen


def test_a_port_in_use_is_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, _, error = run("serve", "--port", taken.getsockname()[1])
    assert status == 2
    assert "cannot listen on 127.0.0.1 port" in error
    assert "--port" in error


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--origin", "a b"], "--origin must be HOST or HOST:PORT, got 'a b'"),
        (["--prefix", "../up"], "--prefix must be a path of letters"),
        (["--key", "k"], "--key must come with --cert"),
        (["--cert", "no/such.pem"], "--cert and --key must be a certificate"),
        (["--cert", __file__], "--cert and --key must be a certificate"),
        (["--password", "--no-token"], "--password and --no-token exclude each other"),
        (["--password"], "The password must have at least 8 characters, got 5"),
        (["--token"], "must have at least 8 characters, got 2"),
        (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid port"),
    ],
)
def test_an_option_of_the_server_that_cannot_be_used_is_one_sentence(
    arguments, sentence, monkeypatch, capfd
):
    monkeypatch.setenv("M2N2LAB_PASSWORD", "short")
    monkeypatch.setenv("M2N2LAB_TOKEN", "no")
    monkeypatch.setattr(sys, "argv", ["m2n2lab", "serve", "--port", str(free_port()), *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capfd.readouterr()
    assert end.value.code == 2
    assert printed.err.startswith("Error: ")
    assert sentence in printed.err
    assert len(printed.err.strip().splitlines()) == 1


def test_help_names_both_commands_and_the_version_is_printed():
    _, text, _ = run("--help")
    assert "evolve" in text
    assert "serve" in text
    assert run("--version")[1].strip() == "0.1.0"


@pytest.mark.parametrize(
    ("options", "pretrained"),
    [([], True), (["--from-scratch"], False), (["--task", "webshop"], False)],
)
def test_the_page_starts_from_two_specialists_unless_it_is_told_not_to(
    monkeypatch, options, pretrained
):
    served = []
    monkeypatch.setattr(
        "m2n2lab.widgets.server.server.serve_dashboard",
        lambda settings, *_, **__: served.append(settings),
    )
    monkeypatch.setattr("sys.argv", ["m2n2lab", "serve", *options])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert [settings.pretrained for settings in served] == [pretrained]


def test_a_search_of_the_command_line_starts_from_scratch_unless_it_is_told_not_to():
    search = SearchOptions()
    assert not search.settings(1).pretrained
    assert replace(search, pretrained=True).settings(1).pretrained


def test_the_grid_of_map_elites_and_what_cma_es_searches_are_options():
    grid = ("evolve", "--pretrained", "--steps", "3", "--json", "--method", "map-elites")
    status, out, _ = run(*grid, "--behaviours", "halves", "--side", "4")
    assert (status, json.loads(out)["options"]["side"]) == (0, 4)
    status, _, error = run(*grid, "--behaviours", "classes")
    assert status == 2
    assert "must be 1 to 3 axes, got 10" in error
    mixes = ("evolve", "--pretrained", "--steps", "3", "--json", "--method", "cma-es")
    status, out, _ = run(*mixes, "--granularity", "layer", "--population", "4")
    assert (status, json.loads(out)["options"]["granularity"]) == (0, "layer")
    status, _, error = run(*mixes, "--granularity", "rows")
    assert status == 2
    assert "weights, layer, tensor, group" in error
