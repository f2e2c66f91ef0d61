"""The dashboard in a notebook's cell, without a browser."""

import re
import subprocess
import sys

import pytest
from helpers.raw_pages import client, refusal, token_of
from helpers.sessions import PATIENCE, observers_of, runs_at, wait_for
from m2n2lab.widgets.notebook import inline

import m2n2lab as lab
from m2n2lab import Evolver, InputError


@pytest.fixture
def evolver(tiny, tiny_seeds):
    return Evolver(tiny, tiny_seeds, mutation=0.1, rng=0).run(20)


@pytest.mark.slow
def test_a_cell_gets_a_frame_with_a_page_that_the_kernel_serves(evolver, monkeypatch):
    observers = observers_of(evolver, monkeypatch)
    framed, other = lab.dashboard(evolver, height=500, theme="dark"), lab.dashboard()
    html = framed._repr_html_()
    assert 'height="500"' in html
    address = re.search('src="([^"]+)"', html)[1].replace("&amp;", "&")
    assert address == framed.address
    assert "theme=dark" in address
    assert framed.address.split("?")[0] == other.address.split("?")[0]  # one server
    (run,) = runs_at(address).all
    assert run.settings.title == "tiny · m2n2 · from the notebook"
    with client() as one:
        assert one.get(address).code == 200
        assert not observers  # nothing begins before a browser is there
        assert "<title>m2n2lab</title>" in one.open(address).html
        wait_for(run.session, lambda snapshot: snapshot.step == 20)
        evolver.step()
        wait_for(run.session, lambda snapshot: snapshot.step == 21)
    assert observers
    framed.close()
    other.close()
    assert run.session.join(30)
    assert not observers
    assert evolver.step().step == 22


def test_a_dashboard_opens_by_its_key_alone_under_any_name_and_in_any_frame(evolver):
    framed = lab.dashboard(evolver)
    base, _, query = framed.address.partition("?")
    with client() as one:
        for stranger in ("", "?browser_session=", "?browser_session=guessed", "?task=digits"):
            assert one.get(base + stranger).code == 403
        # As a proxy asks, such as that of a JupyterHub.
        answer = one.get(
            framed.address, headers={"Host": "hub.example", "Sec-Fetch-Dest": "iframe"}
        )
        assert answer.code == 200
        assert "frame-ancestors" not in answer.headers["Content-Security-Policy"]
        token = token_of(answer.body.decode())
        hub = {"Host": "hub.example", "Origin": "https://hub.example"}
        assert refusal(one, base, token, hub) == 101
    framed.close()
    assert query.startswith("browser_session=")


def test_on_a_hub_the_frame_leads_through_its_proxy_where_there_is_one(evolver, monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
    for installed in (None, "a spec"):
        monkeypatch.setattr(inline, "find_spec", lambda name, spec=installed: spec)
        framed = lab.dashboard(evolver)
        port = inline._port
        base = f"/user/ada/proxy/{port}/" if installed else f"http://127.0.0.1:{port}/"
        assert framed.address.startswith(f"{base}?browser_session=")
        framed.close()


def test_a_search_beside_it_is_made_by_ordinary_settings(evolver):
    framed = lab.dashboard(evolver)
    runs = runs_at(framed.address)
    (run,) = runs.all
    assert runs.build(run.settings, None) is evolver
    asked = run.settings.with_query({"method": "ga", "seed": "3"})
    assert (asked.title, asked.method) == ("digits · ga · seed 3", "ga")
    beside = runs.build(asked, None)
    assert (beside is evolver, beside.method) == (False, "ga")
    framed.close()


def test_other_themes_and_heights_are_refused():
    with pytest.raises(InputError, match="no theme named 'pink'"):
        lab.dashboard(theme="pink")
    with pytest.raises(InputError, match="height must be"):
        lab.dashboard(height=0)


SCRIPT = """
import urllib.request
import numpy as np
import m2n2lab

task = m2n2lab.tasks.from_function(lambda model, at: model[at % 40] > 0, 40)
seeds = np.random.default_rng(0).normal(size=(2, 42))
evolver = m2n2lab.Evolver(task, seeds, rng=0)
framed = m2n2lab.dashboard(evolver)
page = urllib.request.urlopen(framed.address, timeout=30).read().decode()
print("<title>m2n2lab</title>" in page)
"""


@pytest.mark.slow
def test_a_script_that_shows_a_dashboard_ends_after_its_last_line():
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=5 * PATIENCE
    )
    assert (ended.stdout, ended.returncode) == ("True\n", 0), ended.stderr
