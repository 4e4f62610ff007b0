"""Packages that only some uses of the project need: they come with its extras."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from .errors import MissingPackageError

__all__ = ["optional_import", "require_packages"]


@contextmanager
def optional_import(extra: str, purpose: str) -> Iterator[None]:
    """Import packages of an extra within this context; a missing one is said in one sentence.

    Parameters
    ----------
    extra : str
        Name of the extra of the distribution that brings them.
    purpose : str
        What needs them, in the plural: the sentence begins with it.

    Raises
    ------
    MissingPackageError
        A package is not installed, or cannot be loaded.
    """
    try:
        yield
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        why = "is not installed here" if missing else f"cannot be loaded here ({error})"
        raise MissingPackageError(purpose, error.name or "", extra, why) from error


def require_packages(extra: str, purpose: str, *modules: str) -> None:
    """Refuse where a package of an extra is missing that another process is going to import.

    Parameters
    ----------
    extra, purpose : str
        As for `optional_import`.
    *modules : str
        Top-level names of what will be imported; nothing is imported here.

    Raises
    ------
    MissingPackageError
        One of them is not installed.
    """
    for module in modules:
        if find_spec(module) is None:
            raise MissingPackageError(purpose, module, extra)
