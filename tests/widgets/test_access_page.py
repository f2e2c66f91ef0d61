"""The links that the server prints, in a browser; what an ill-behaved page does to others."""

import asyncio
import os
import re
import subprocess
import time
from contextlib import contextmanager

import pytest
from helpers.pages import PATIENCE, button, drawn, faults, figure, free_port, lab_command, serving
from helpers.raw_pages import client, connected, got, opened, token_of
from playwright.sync_api import expect

pytestmark = pytest.mark.slow


@contextmanager
def served_with(folder, *options, **environment):
    """Serve the lab; yield its port and the links that it prints."""
    port, log = free_port(), folder / "log"
    command = [*lab_command(port), *options]
    with serving(command, port, log, env={**os.environ, **environment}):
        yield port, lambda: re.findall(r"https?://\S+", log.read_text())


@contextmanager
def one_page(browser, link, refusals=0, **options):
    """Open a link in a profile of its own, and yield its page, which must show no other fault."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, **options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    wrong = faults(page)
    page.goto(link)
    yield page
    context.close()
    base = link.partition("/?")[0].rstrip("/")
    wrong = [each for each in wrong if not each.startswith(f"outside request {base}/")]
    assert len(wrong) == refusals, wrong
    assert all("403" in each for each in wrong)


def steps_on(page):
    """Take a step, and wait until the page shows it."""
    before = int(figure(drawn(page), "step").inner_text())
    button(page, "Step").click()
    expect(figure(page, "step")).to_have_text(str(before + 1))


def test_all_links_that_are_printed_for_any_address_open_and_leave_no_token(browser, tmp_path):
    options = ("--host", "0.0.0.0", "--shared", "--prefix", "/class/one")
    with served_with(tmp_path, *options) as (_, links):
        *teachers, viewer = links()
        assert len(teachers) >= 2  # for this computer, and for others
        for link in teachers:
            with one_page(browser, link) as page:
                steps_on(page)
                assert "token" not in page.url
                page.reload()
                steps_on(page)
        with one_page(browser, viewer) as page:
            expect(figure(page, "step")).to_have_text(re.compile(r"\d+"))
            assert "token" not in page.url


def test_a_loopback_address_of_ipv6_is_served_and_printed(browser, tmp_path):
    port, log = free_port(), tmp_path / "log"
    process = subprocess.Popen(
        [*lab_command(port), "--host", "::1"], stdout=log.open("w"), stderr=subprocess.STDOUT
    )
    try:
        with client() as one:
            for _ in range(600):
                if one.run(code(f"http://[::1]:{port}/static/none")) == 404:
                    break
        (link,) = re.findall(r"https?://\S+", log.read_text())
        assert link == f"http://[::1]:{port}"
        with one_page(browser, link) as page:
            steps_on(page)
    finally:
        process.terminate()
        process.wait(20)
    assert "Traceback" not in log.read_text()


async def code(address):
    try:
        return (await got(address)).code
    except OSError:
        await asyncio.sleep(0.1)
        return None


def test_a_password_over_tls(browser, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(made, check=True, capture_output=True)
    port, log = free_port(), tmp_path / "log"
    options = ["--host", "0.0.0.0", "--password", "--cert", str(cert), "--key", str(key)]
    process = subprocess.Popen(
        [*lab_command(port), *options],
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        env={**os.environ, "M2N2LAB_PASSWORD": "correct horse"},
    )
    try:
        with client() as one:
            for _ in range(600):
                if one.run(code(f"https://localhost:{port}/static/none")) == 404:
                    break
        link = re.findall(r"https?://\S+", log.read_text())[0]
        assert link == f"https://localhost:{port}"
        with one_page(browser, f"{link}/?seed=5", 2, ignore_https_errors=True) as page:
            page.get_by_label("password").fill("wrong horse")
            button(page, "Open").click()
            expect(page.get_by_role("alert")).to_have_text("That is not it; try again.")
            page.get_by_label("password").fill("correct horse")
            button(page, "Open").click()
            expect(page.get_by_text("seed 5").first).to_be_visible()
            steps_on(page)
            (cookie,) = page.context.cookies()
            assert (cookie["secure"], cookie["httpOnly"]) == (True, True)
    finally:
        process.terminate()
        process.wait(20)
    assert "Traceback" not in log.read_text()
    assert "correct horse" not in log.read_text()


# -- an ill-behaved page and others --------------------------------------------------------------


async def ten_thousand_clicks(address, page):
    for _ in range(10_000):
        await page.click("×10")


async def five_hundred_resets(address, page):
    for _ in range(500):
        await page.click("Reset")


async def long_texts(address, page):
    for _ in range(5):
        try:
            await page.set("tab", "value", "x" * 10_000_000)
        except Exception:
            return  # its websocket was closed


async def two_hundred_dropped_sockets(address, page):
    async def one():
        socket = await connected(address, token_of(page.html))
        socket.close()

    await asyncio.gather(*(one() for _ in range(200)))


async def a_hundred_pages_asked_for(address, page):
    answers = await asyncio.gather(*(got(address) for _ in range(100)), return_exceptions=True)
    print("pages that were made:", sum(getattr(each, "code", 0) == 200 for each in answers))


FLOODS = (
    ten_thousand_clicks,
    five_hundred_resets,
    long_texts,
    two_hundred_dropped_sockets,
    a_hundred_pages_asked_for,
)
CLICKS = 8
"""Clicks of the other page, meanwhile: each is answered before the flood is over."""


@pytest.mark.parametrize("flood", FLOODS)
def test_a_page_that_asks_too_much_leaves_the_clicks_of_others_answered(lab, flood, capsys):
    async def both():
        good = await (await opened(lab)).load()
        bad = await (await opened(lab)).load()
        flooding = asyncio.create_task(flood(lab, bad))
        answered, slowest = 0, 0.0
        for _ in range(CLICKS):
            began = time.monotonic()
            answer = await good.answer(await good.click("Step"))
            slowest = max(slowest, time.monotonic() - began)
            answered += answer is not None and answer.msgtype == "OK"
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        good.close()
        bad.close()
        return answered, slowest

    with client() as one:
        answered, slowest = one.run(both(), 5 * 60)
        with capsys.disabled():
            print(
                f"\n{flood.__name__}: {answered} of {CLICKS} clicks of another page answered, the "
                f"slowest after {slowest:.2f} s"
            )
        assert answered == CLICKS
        assert one.get(f"{lab}static/none").code == 404


def test_a_page_is_told_that_it_asks_too_much(lab):
    async def told():
        bad = await (await opened(lab)).load()
        for _ in range(400):
            await bad.click("×10")
        while (message := await bad.read()) is not None:
            if "orders a second" in str(message.content):
                return True
        return False

    async def refused():
        bad = await (await opened(lab)).load()
        for _ in range(20):
            await bad.click("Reset")
        while (message := await bad.read()) is not None:
            if "searches at once" in str(message.content):
                return True
        return False

    with client() as one:
        assert one.run(told(), 5 * 60)
        assert one.run(refused(), 5 * 60)
