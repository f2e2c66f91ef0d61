"""The console in a real kernel: interrupts pause it, and busy cells do not stop it from showing."""

import signal
import time

import pytest
from jupyter_client.manager import start_new_kernel

PATIENCE = 60

BEGIN = """
import time
import numpy as np
import m2n2lab as lab

X = np.random.default_rng(0).normal(size=(30, 2))
task = lab.tasks.from_function(lambda model, at: X[at] @ np.asarray(model) > 0, points=len(X))
evolver = lab.Evolver(task, [[1.0, 0.0], [0.0, 1.0]], mutation=0.1, rng=0)
console = lab.Console(evolver)

def until(wanted):
    end = time.monotonic() + 30
    while not wanted():
        assert time.monotonic() < end, console
        time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A function that runs a cell and returns what it printed; and the kernel's process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        manager, client = start_new_kernel(startup_timeout=PATIENCE)
    try:

        def run(code):
            printed, failed = [], []

            def output(message):
                content = message["content"]
                printed.append(content.get("text", "") if message["msg_type"] == "stream" else "")
                failed.append(content["ename"]) if message["msg_type"] == "error" else None

            client.execute_interactive(code, timeout=PATIENCE, output_hook=output)
            return failed[0] if failed else "".join(printed).strip()

        assert run(BEGIN) == ""
        yield run, manager
        assert run("print('it lives')") == "it lives"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_an_interrupt_between_cells_pauses(kernel):
    run, manager = kernel
    run("console.run(); until(lambda: console.snapshot.phase == 'running')")
    end = time.monotonic() + PATIENCE
    # Right after a cell the kernel ignores the signal, until the console has had a look.
    while run("print(console.session.orders.running)") == "True":
        assert time.monotonic() < end
        time.sleep(0.6)
        manager.interrupt_kernel()
    assert run("until(lambda: console.snapshot.phase == 'paused'); print('rests')") == "rests"


def test_an_interrupted_cell_pauses_too_and_the_search_is_whole(kernel):
    run, _ = kernel
    run("import os, signal, threading")
    stop = f"threading.Timer(0.5, os.kill, (os.getpid(), {int(signal.SIGINT)})).start()"
    assert run(f"console.run(); {stop}; evolver.run(10**9)") == "KeyboardInterrupt"
    assert run("until(lambda: console.snapshot.phase == 'paused'); print('rests')") == "rests"
    assert run("print(evolver.step().step == len(evolver.records))") == "True"


def test_a_busy_cell_and_the_console_step_one_search(kernel):
    run, _ = kernel
    code = """
first = evolver.generation
console.run()
until(lambda: console.snapshot.step > first)
mine = [evolver.step().step for _ in range(50)]
console.pause()
until(lambda: console.snapshot.phase == 'paused' and console.snapshot.step == evolver.generation)
print(mine == sorted(set(mine)), f'{evolver.generation:,}' in console.figures.value)
"""
    assert run(code) == "True True"


def test_nothing_is_left_in_the_kernel_after_closing(kernel):
    run, _ = kernel
    code = """
import threading
from comm import get_comm_manager
from ipywidgets.widgets.widget import _instances
before = len(get_comm_manager().comms), len(_instances), threading.active_count()
other = lab.Console(evolver)
other.run()
until(lambda: other.snapshot.phase == 'running')
other.close()
print(before == (len(get_comm_manager().comms), len(_instances), threading.active_count()))
"""
    assert run(code) == "True"
    assert run("console.close(); print(len(evolver._observers), len(_instances))") == "0 0"
