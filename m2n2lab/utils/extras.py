"""Errors for optional packages that are not installed, with the command that installs them."""

from __future__ import annotations

from m2n2lab.utils.errors import InputError


def install_command(extra: str) -> str:
    """Return the command that installs m2n2lab with one of its extras."""
    return f'pip install "m2n2lab[{extra}]"'


def missing(feature: str, package: str, extra: str, alternative: str = "") -> InputError:
    """Return the error of a feature whose package is not installed.

    Args:
        feature: what needs the package; begins the sentence.
        package: the package that could not be imported.
        extra: the extra of m2n2lab that installs it.
        alternative: what else to do, such as ``"give --executor processes"``.
    """
    other = f", or {alternative}" if alternative else ""
    return InputError(
        f"{feature} needs {package}, which is not installed; run: {install_command(extra)}{other}."
    )
