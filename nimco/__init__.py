"""Live state-of-charge maps from energy scans across the Ni, Mn and Co edges."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callbacks import open_soc, open_soc_group, soc_versions
    from nimco._library_entries import LibraryEntry, ReferenceCalibration
    from nimco._reference_library import ReferenceLibrary
    from nimco._remote import RemoteTiled
    from nimco._server import TiledServer
    from nimco._session import Session
    from nimco._standards import measure_standards
    from nimco._stxm_files import ImageStack, read_image_stack, read_reconstructions, write_nxstxm
    from nimco._version import __version__
    from nimco.errors import NimcoError

__all__ = [
    "ImageStack",
    "LibraryEntry",
    "NimcoError",
    "ReferenceCalibration",
    "ReferenceLibrary",
    "RemoteTiled",
    "Session",
    "TiledServer",
    "__version__",
    "measure_standards",
    "open_soc",
    "open_soc_group",
    "read_image_stack",
    "read_reconstructions",
    "soc_versions",
    "write_nxstxm",
]

# Modules are imported when a name of theirs is first used: some bring in what takes seconds to import.
_HOME = {
    "ImageStack": "nimco._stxm_files",
    "read_image_stack": "nimco._stxm_files",
    "read_reconstructions": "nimco._stxm_files",
    "write_nxstxm": "nimco._stxm_files",
    "LibraryEntry": "nimco._library_entries",
    "NimcoError": "nimco.errors",
    "ReferenceCalibration": "nimco._library_entries",
    "ReferenceLibrary": "nimco._reference_library",
    "RemoteTiled": "nimco._remote",
    "Session": "nimco._session",
    "TiledServer": "nimco._server",
    "__version__": "nimco._version",
    "measure_standards": "nimco._standards",
    "open_soc": "callbacks",
    "open_soc_group": "callbacks",
    "soc_versions": "callbacks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
