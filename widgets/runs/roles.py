"""Roles: what the person before a page may do, as the link says by which the page was opened."""

from __future__ import annotations

from enum import Enum

import panel as pn

ROLE = "role"
"""What the server adds to the signed token of a session, from which ``current_role`` reads it."""


class Role(str, Enum):
    """What the person before a page may do."""

    TEACHER = "teacher"
    """Everything: run, pause, step, merge, reset, set up."""
    VIEWER = "viewer"
    """Watch, and look at plots and members; nothing that changes the search for others."""

    @property
    def steers(self) -> bool:
        """Whether the search follows this person's orders."""
        return self is Role.TEACHER


def current_role() -> Role:
    """Return the role of the page that is being made.

    It comes from the link or the cookie that the server has checked, and is signed with the page:
    no query and no browser can change it. Without a door, as on loopback, everybody is a teacher.
    """
    document = pn.state.curdoc
    context = None if document is None else document.session_context
    payload = getattr(context, "token_payload", None) or {}
    return Role(payload.get(ROLE, Role.TEACHER))
