"""The server's log holds faults only."""

import logging

import pytest
from bokeh.server.connection import ServerConnection
from bokeh.server.views.ws import WSHandler
from m2n2lab.widgets.page.server_log import keep_quiet


@pytest.fixture
def printed(caplog):
    keep_quiet()

    def tell(fails):
        try:
            fails()
        except AssertionError as error:
            for name in ("tornado.application", "bokeh.server.protocol_handler"):
                logging.getLogger(name).error("it failed", exc_info=error)
        return caplog.text

    return tell


class GivenUp(ServerConnection):
    def __init__(self):
        self._session = None  # as after Bokeh's keep-alive found its socket closed


def test_a_page_whose_loss_is_noticed_twice_is_no_fault(printed):
    handler = WSHandler.__new__(WSHandler)
    handler.connection = GivenUp()
    handler.close_code = handler.close_reason = None
    assert printed(handler.on_close) == ""


def test_any_other_failed_assertion_is_printed(printed):
    def fails():
        raise AssertionError("a real fault")

    assert "a real fault" in printed(fails)
