"""Live state-of-charge maps from energy scans across the Ni, Mn and Co edges."""

from callbacks import open_soc
from nimco._errors import NimcoError
from nimco._remote import RemoteTiled
from nimco._server import TiledServer
from nimco._session import Session
from nimco._standards import measure_standards
from nimco._version import __version__

__all__ = [
    "NimcoError",
    "RemoteTiled",
    "Session",
    "TiledServer",
    "__version__",
    "measure_standards",
    "open_soc",
]
