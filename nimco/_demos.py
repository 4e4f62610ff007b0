"""The demonstration of each technique on the twin: a module of its own, imported when it is asked for."""

from importlib import import_module
from typing import Any

from nimco._terminal import is_interactive

_MODULES = {
    "full_field": "nimco._cmd_demo",
    "xas": "nimco._demo_xas",
    "soft_xas": "nimco._demo_soft_xas",
    "xrf": "nimco._demo_xrf",
    "stxm": "nimco._demo_stxm",
    "tomography": "nimco._demo_tomography",
    "xpeem": "nimco._demo_xpeem",
}


def run_demo(technique: str, *, hold: bool | None, **options: Any) -> None:
    """Run the demonstration of a technique.

    Parameters
    ----------
    technique : str
        As contracts call it.
    hold : bool or None
        Whether server and page stay up at the end; None: where somebody sits at a terminal.
    **options
        The others of `nimco demo`.
    """
    import_module(_MODULES[technique]).demo(hold=is_interactive() if hold is None else hold, **options)
