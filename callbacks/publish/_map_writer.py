"""The container of the maps of one run in Tiled."""

import time
from collections.abc import Callable
from typing import Any

from tiled.structures.core import Spec

from ._map_document import MapDocument
from ._schema import ARRAYS, DIMS, SPEC_NAME, SPEC_VERSION, STATE_KEYS
from ._uploads import write_array

_LIVE_ARRAYS = ("soc", "soc_sigma")
_LIVE_JUMP = ("edge_jump", "edge_jump_sigma")
_LIVE_WITHOUT_SOC = ("edge_energy_ev", "edge_energy_sigma_ev")
_OTHERS_PERIOD_S = 2.0


class MapWriter:
    """Creates the container of a run's maps, or takes up one that an earlier process left, and writes into it.

    Parameters
    ----------
    maps_container : tiled client of a container
        Where maps are written.
    document : MapDocument
        The first document; `write` it too.
    moved : callable
        Called after each array that the server took: a sign of life of a slow one.
    """

    def __init__(self, maps_container: Any, document: MapDocument, moved: Callable[[], object]) -> None:
        self._moved = moved
        uid, edge = document.raw_uid, document.edge
        if uid not in maps_container:
            maps_container.create_container(
                uid,
                metadata={"raw_uid": uid, "scan_group": document.scan_group, "raw_path": f"raw/{uid}"},
            )
        of_run = maps_container[uid]
        if edge in of_run:
            self._node = of_run[edge]
            self._node.update_metadata(document.metadata, drop_revision=True)
        else:
            self._node = of_run.create_container(
                edge, metadata=document.metadata, specs=[Spec(SPEC_NAME, version=SPEC_VERSION)]
            )
        there = set(self._node)
        self._arrays = {
            name: self._node[name] if name in there else self._create(name, document)
            for name in document.arrays
        }
        self._tables = {name: self._node[name] for name in there if name not in ARRAYS}
        self._others_written = time.monotonic()

    def write(self, document: MapDocument) -> None:
        """Write a state of the maps: what viewers watch first, the rest from time to time and at the end."""
        first = _LIVE_ARRAYS if document.has_soc else _LIVE_WITHOUT_SOC
        if "edge_jump_sigma" in document.arrays:
            first = _LIVE_JUMP
        for name in first:
            self._write_array(name, document)
        if document.final or time.monotonic() - self._others_written > _OTHERS_PERIOD_S:
            for name in document.arrays:
                if name not in first:
                    self._write_array(name, document)
            for name in document.tables:
                self._write_table(name, document)
            self._others_written = time.monotonic()
        state = {key: document.metadata[key] for key in STATE_KEYS}
        self._node.update_metadata(state, drop_revision=True)
        if document.final:
            for array in self._arrays.values():
                array.close_stream()
            self._node.close_stream()

    def _create(self, name: str, document: MapDocument) -> Any:
        unit, meaning = ARRAYS[name]
        made = self._node.write_array(
            document.arrays[name], key=name, dims=DIMS, metadata={"units": unit, "long_name": meaning}
        )
        self._moved()
        return made

    def _write_array(self, name: str, document: MapDocument) -> None:
        write_array(self._arrays[name], document.arrays[name])
        self._moved()

    def _write_table(self, name: str, document: MapDocument) -> None:
        table = document.frame_of(name)
        if name in self._tables:
            self._tables[name].write(table)
        elif len(table):
            self._tables[name] = self._node.write_table(table, key=name)
