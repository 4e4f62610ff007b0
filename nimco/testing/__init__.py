"""For tests of a beamline's own code, and for those of this project: nothing of the product imports it.

Documents of a scan without a RunEngine, a Tiled server for the time of a test, the digital twin behind a session, and
waiting without sleeping. The module ``nimco.testing.plugin`` offers them as pytest fixtures; nothing else here needs
pytest.
"""

from ._browser import Browser, BrowserError, Page, browser_program
from ._channel_access import loopback_ioc, use_loopback_channel_access
from ._collector import DocumentCollector
from ._documents import ScanDocuments, play
from ._run_engine import close_run_engine
from ._server import temporary_server
from ._twin_session import TwinSession, devices_of
from ._volume_phantom import PhantomBall, PhantomCrack, VolumePhantom
from ._waiting import free_port, wait_until

__all__ = [
    "Browser",
    "BrowserError",
    "DocumentCollector",
    "Page",
    "PhantomBall",
    "PhantomCrack",
    "ScanDocuments",
    "TwinSession",
    "VolumePhantom",
    "browser_program",
    "close_run_engine",
    "devices_of",
    "free_port",
    "loopback_ioc",
    "play",
    "temporary_server",
    "use_loopback_channel_access",
    "wait_until",
]
