"""Runs that other plans made, told as ours: the documents of any energy scan with a camera, with labels."""

from collections.abc import Mapping, Sequence
from typing import Any

from scan_contract import (
    is_energy_scan,
)

from ._document_types import AnyDocument, NamedDocument
from ._foreign_corrections import ForeignCorrections
from ._foreign_layout import ForeignLayout, Stream
from ._foreign_scan import ForeignScan
from ._routing import RunRouting


class ForeignRuns:
    """Translates documents: those of foreign energy scans get the contract and the labels of ours, others pass.

    Frames stay where they are, in the events or in files that the documents name. A run keeps its uid, so that maps
    are linked to the run as it was stored.

    Parameters
    ----------
    layouts : sequence of ForeignLayout
        The first that accepts a run is taken.
    """

    def __init__(self, layouts: Sequence[ForeignLayout]) -> None:
        self._layouts = tuple(layouts)
        self._runs: dict[str, ForeignScan | ForeignCorrections] = {}
        self._routing = RunRouting()
        self._corrections: dict[tuple[int, Stream], ForeignCorrections] = {}

    def translate(self, name: str, doc: Mapping[str, Any]) -> list[NamedDocument]:
        """Take one document and return those to go on with: none, one or several.

        Raises
        ------
        CallbackError
            A document of a foreign scan that cannot be understood, or flats or darks that cannot be read.
        """
        document = dict(doc)
        uid = self._routing.run_of(name, document)
        if uid is None:
            return [(name, document)]
        if name == "start":
            self._open(document)
        run = self._runs.get(uid)
        try:
            return [(name, document)] if run is None else run.translate(name, document)
        finally:
            if name == "stop":
                self._runs.pop(uid, None)
                self._routing.forget(uid)

    def _open(self, start: AnyDocument) -> None:
        if is_energy_scan(start):
            return
        for number, layout in enumerate(self._layouts):
            stream = layout.kind_of_run(start)
            if stream is not None:
                found = ForeignCorrections(stream)
                self._corrections[number, stream] = found
                self._runs[start["uid"]] = found
                return
            if layout.opens_scan(start):
                kept = [self._corrections.get((number, kind)) for kind in ("dark", "flat")]
                self._runs[start["uid"]] = ForeignScan(
                    layout, start, [run for run in kept if run is not None]
                )
                return
