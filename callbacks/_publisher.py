"""Maps into Tiled while the scan runs."""

import time
from typing import Any

import numpy as np
from tiled.structures.core import Spec

from callbacks._schema import ARRAYS, DIMS, SPEC_NAME, SPEC_VERSION, map_metadata, map_path, map_state
from callbacks._update import SOCUpdate
from callbacks._worker import LatestWins

_LIVE_ARRAYS = ("soc", "soc_sigma")
_WITHOUT_SOC = ("edge_energy_ev", "edge_energy_sigma_ev")
_OTHERS_PERIOD_S = 2.0
_LINK_ATTEMPTS = 40
_LINK_PAUSE_S = 0.25


class SOCPublisher:
    """Writes each `SOCUpdate` to ``maps/<raw uid>/<edge>``: created once, overwritten in place, final at the end.

    Subscribe it to a `LiveSOC`. Being called costs microseconds; the writing is done on a thread of its own
    that skips what a newer update has overtaken. While the scan runs, the map of the state of charge and
    its sigma go out with every update and the others now and then; the final update writes them all.

    Parameters
    ----------
    maps_container : tiled client of a container
        Where maps are written.
    raw_container : tiled client of a ``CatalogOfBlueskyRuns``, optional
        Where the raw runs are: each gets ``nimco: {"maps": path}`` into its metadata.
    """

    def __init__(self, maps_container: Any, *, raw_container: Any = None) -> None:
        self._maps = maps_container
        self._raw = raw_container
        self._open: dict[str, _MapWriter] = {}
        self._runner: LatestWins[SOCUpdate] = LatestWins(self._publish, "SOC publisher")

    def __call__(self, update: SOCUpdate) -> None:
        """Take note of an update."""
        self._runner.offer(update.raw_uid, update)

    @property
    def errors(self) -> list[Exception]:
        """What went wrong."""
        return self._runner.errors

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until what was handed over is in Tiled."""
        self._runner.wait(timeout_s)

    def close(self) -> None:
        """Write what was handed over, then stop."""
        self._runner.close()

    def _publish(self, update: SOCUpdate) -> None:
        if update.raw_uid not in self._open:
            self._open[update.raw_uid] = _MapWriter(self._maps, update)
        self._open[update.raw_uid].write(update)
        if update.final:
            del self._open[update.raw_uid]
            if self._raw is not None:
                self._link_back(update)

    def _link_back(self, update: SOCUpdate) -> None:
        """Write the path of the maps into the metadata of the raw run, once that is there."""
        for _ in range(_LINK_ATTEMPTS):
            if update.raw_uid in self._raw:
                run = self._raw[update.raw_uid]
                run.update_metadata({"nimco": {"maps": map_path(update)}}, drop_revision=True)
                return
            time.sleep(_LINK_PAUSE_S)


class _MapWriter:
    """The container of the maps of one run."""

    def __init__(self, maps_container: Any, update: SOCUpdate) -> None:
        uid, edge = update.raw_uid, update.edge
        if uid not in maps_container:
            maps_container.create_container(
                uid, metadata={"raw_uid": uid, "scan_group": update.scan_group, "raw_path": f"raw/{uid}"}
            )
        of_run = maps_container[uid]
        metadata = map_metadata(update)
        if edge in of_run:
            self._node = of_run[edge]
            self._node.update_metadata(metadata, drop_revision=True)
            self._arrays = {name: self._node[name] for name in ARRAYS}
        else:
            self._node = of_run.create_container(
                edge, metadata=metadata, specs=[Spec(SPEC_NAME, version=SPEC_VERSION)]
            )
            self._arrays = {
                name: self._node.write_array(
                    np.ascontiguousarray(getattr(update.maps, name)),
                    key=name,
                    dims=DIMS,
                    metadata={"units": unit, "long_name": meaning},
                )
                for name, (unit, meaning) in ARRAYS.items()
            }
        self._others_written = time.monotonic()

    def write(self, update: SOCUpdate) -> None:
        first = _LIVE_ARRAYS if np.isfinite(update.maps.soc).any() else _WITHOUT_SOC
        for name in first:
            self._write_array(name, update)
        if update.final or time.monotonic() - self._others_written > _OTHERS_PERIOD_S:
            for name in ARRAYS:
                if name not in first:
                    self._write_array(name, update)
            self._others_written = time.monotonic()
        self._node.update_metadata(map_state(update), drop_revision=True)
        if update.final:
            for array in self._arrays.values():
                array.close_stream()
            self._node.close_stream()

    def _write_array(self, name: str, update: SOCUpdate) -> None:
        self._arrays[name].write(np.ascontiguousarray(getattr(update.maps, name)))
