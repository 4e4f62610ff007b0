"""The demonstration of each technique on the twin: a module of its own, imported when it is asked for."""

from importlib import import_module
from typing import Any

_MODULES = {"full_field": "nimco._cmd_demo", "xas": "nimco._demo_xas"}


def run_demo(technique: str, **options: Any) -> None:
    """Run the demonstration of a technique.

    Parameters
    ----------
    technique : str
        As contracts call it.
    **options
        Those of `nimco demo`.
    """
    import_module(_MODULES[technique]).demo(**options)
