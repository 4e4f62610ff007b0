"""A state of the maps as it travels to Tiled, on disk or over the network: arrays, tables and plain metadata."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from callbacks.documents import Spool
from callbacks.errors import DamagedSpoolError, SpoolError
from callbacks.techniques import SOCUpdate

from ._map_tables import Table, tables_of
from ._schema import ARRAYS, map_metadata, map_path


@dataclass(frozen=True)
class MapDocument:
    """What is written to ``maps/<raw uid>/<edge>``.

    Attributes
    ----------
    raw_uid, scan_group, edge, path : str
        The run, its measurement, its edge, and where the maps go.
    final : bool
        Whether the run is over.
    has_soc : bool
        Whether there are references, and so a state of charge.
    arrays : dict of ndarray, (rows, cols)
        By the names of `ARRAYS`.
    tables : dict of dict of list
        Columns of each table.
    make_metadata : callable
        Gives `metadata`; called when that is first wanted, because it takes longer than sending a map.
    """

    raw_uid: str
    scan_group: str
    edge: str
    path: str
    final: bool
    has_soc: bool
    arrays: dict[str, npt.NDArray[Any]] = field(repr=False)
    tables: dict[str, Table] = field(repr=False)
    make_metadata: Callable[[], dict[str, Any]] = field(repr=False)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the container, plain JSON."""
        return self.make_metadata()

    def frame_of(self, table: str) -> pd.DataFrame:
        """Return a table as a data frame."""
        return pd.DataFrame(self.tables[table])


def map_document(update: SOCUpdate) -> MapDocument:
    """Make the document of an update."""
    return MapDocument(
        raw_uid=update.raw_uid,
        scan_group=update.scan_group,
        edge=update.edge,
        path=map_path(update),
        final=update.final,
        has_soc=update.references is not None,
        arrays={
            name: np.ascontiguousarray(array)
            for name in ARRAYS
            if (array := getattr(update.maps, name)) is not None
        },
        tables=tables_of(update),
        make_metadata=lambda: map_metadata(update),
    )


def keep_on_disk(document: MapDocument, path: Path) -> None:
    """Write a document to a file of its own, replacing an older one as a whole.

    Raises
    ------
    SpoolError
        The file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise SpoolError(f"cannot write the spool {path} ({error.strerror})") from error
    spool = Spool(unfinished)
    try:
        spool.append(
            "map",
            {
                "raw_uid": document.raw_uid,
                "scan_group": document.scan_group,
                "edge": document.edge,
                "path": document.path,
                "final": document.final,
                "has_soc": document.has_soc,
                "metadata": document.metadata,
                "arrays": document.arrays,
                "tables": document.tables,
            },
        )
    except BaseException:
        spool.close(delete=True)
        raise
    spool.close()
    try:
        unfinished.replace(path)
    except OSError as error:
        raise SpoolError(f"cannot write the spool {path} ({error.strerror})") from error


def read_from_disk(path: Path) -> MapDocument | None:
    """Return the document in a file; None where it is not complete.

    Raises
    ------
    SpoolError
        The file cannot be read, or does not hold a map as it was written.
    """
    spool = Spool(path, writable=False)
    if spool.content.damage is not None:
        raise DamagedSpoolError(f"{path} is not as it was written: {spool.content.damage}")
    for _, offset in spool.content.records:
        name, content = spool.read(offset)
        if name != "map" or content.keys() != _KEPT:
            raise DamagedSpoolError(f"{path} holds no map")
        metadata = content.pop("metadata")
        return MapDocument(**content, make_metadata=partial(dict, metadata))
    return None


_KEPT = {"raw_uid", "scan_group", "edge", "path", "final", "has_soc", "metadata", "arrays", "tables"}
