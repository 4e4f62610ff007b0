"""What a viewer may see and change: everything is read and written with the viewer's own key."""

from collections.abc import Callable
from typing import Any

from nimco._tiled_client import open_tiled

from ._frame_watch import FrameWatch
from ._map_watch import MapWatch
from ._measurements import Measurements
from ._region_spectra import RegionSpectra
from ._region_table import RegionTable
from ._source import Sources
from ._versions import base_name

_KEY_REMEDY = "enter one that this server knows"
_MOST_WATCHED = 40
# Each may hold `MOST_FRAME_BYTES`.
_MOST_RUNS_READ = 3


class Viewer:
    """One key and what is followed with it, shared by all pages that were opened with that key.

    Parameters
    ----------
    uri : str
        Address of the Tiled server.
    api_key : str
        The key.

    Raises
    ------
    NimcoError
        The server does not answer or refuses the key.
    """

    def __init__(self, uri: str, api_key: str) -> None:
        self.client = open_tiled(uri, api_key, remedy=_KEY_REMEDY)
        self._sources = Sources(_MOST_WATCHED)
        self._frames = Sources(_MOST_RUNS_READ)
        self._spectra: dict[tuple[str, str], RegionSpectra] = {}

    def measurements(self) -> Measurements:
        """Return the list of measurements."""
        found: Measurements = self._get("measurements", lambda: Measurements(self.client))
        return found

    def map(self, uid: str, name: str, variable: str) -> MapWatch:
        """Return one map of a result."""
        found: MapWatch = self._get(
            ("map", uid, name, variable), lambda: MapWatch(self.client, uid, name, variable)
        )
        return found

    def regions(self, uid: str, name: str) -> RegionTable:
        """Return the regions of a result."""
        name = base_name(name)  # of all versions alike
        found: RegionTable = self._get(("regions", uid, name), lambda: RegionTable(self.client, uid, name))
        return found

    def frames(self, uid: str, name: str) -> FrameWatch:
        """Return the frames of a result."""
        name = base_name(name)
        found: FrameWatch = self._frames.get((uid, name), lambda: FrameWatch(self.client, uid, name))
        return found

    def spectra(self, uid: str, name: str) -> RegionSpectra:
        """Return what gives the spectra of regions of a result."""
        frames = self.frames(uid, name)
        held = self._spectra.get((uid, name))
        if held is None or held.watch is not frames:
            if len(self._spectra) > 2 * _MOST_RUNS_READ:
                self._spectra.pop(next(iter(self._spectra)))
            held = self._spectra[uid, name] = RegionSpectra(self.client, uid, name, frames)
        return held

    def end(self) -> None:
        """Follow nothing any longer."""
        self._sources.end()
        self._frames.end()

    def _get(self, key: Any, make: Callable[[], Any]) -> Any:
        return self._sources.get(key, make)
