"""Maps into Tiled while the scan runs."""

import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import xarray as xr

from callbacks.documents import LaterError, is_outage
from callbacks.errors import DamagedSpoolError, DeliveryError, SpoolError
from callbacks.results import AlarmLog, DeferredResult, Sink

from ._containers import analysed_s, analysis_id, container_name, container_path
from ._kept_results import keep_on_disk, read_from_disk
from ._result_writer import ResultWriter
from ._run_log import DAMAGED, describe_set_aside, file_stem, set_aside
from ._uploads import send_in_pieces

SUFFIX = ".map"
_LINK_PAUSE_S = 0.25
_LINK_TIMEOUT_S = 300.0
_CLOSE_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 2.0
_MOST_CONFLICTS = 3

_Place = tuple[str, str]  # path of the container, and the analysis that writes there


@dataclass(frozen=True)
class _Link:
    """The path of maps, to be written into the metadata of their raw run once that is complete."""

    uid: str
    path: str
    deadline: float = field(default_factory=lambda: time.monotonic() + _LINK_TIMEOUT_S)


class SOCPublisher(Sink):
    """Writes each result to ``maps/<raw uid>/<edge>``: created once, overwritten in place, final at the end.

    Only the results of one analysis overwrite each other. Where another analysis has a result there, that one is kept
    as ``<edge>@1``, ``<edge>@2``, ... and the new one becomes the current version.

    Subscribe it to a `LiveSOC`. Being called costs microseconds; the writing is done on a thread of its own
    that skips what a newer result has overtaken. While the scan runs, the signal (such as the map of the state of
    charge) and its sigma go out with every result and the others now and then; the final one writes them all. While
    Tiled does not answer, final maps are kept on disk, and delivered once it does, by this publisher or the
    next on the same spool folder.

    Parameters
    ----------
    maps_container : tiled client of a container
        Where maps are written.
    raw_container : tiled client of a ``CatalogOfBlueskyRuns``, optional
        Where the raw runs are: each gets ``nimco: {"maps": path}`` into its metadata once it is complete.
    spool_dir : Path, optional
        Folder for final maps that cannot be delivered. Without it they wait in memory only.
    """

    def __init__(
        self, maps_container: Any, *, raw_container: Any = None, spool_dir: Path | str | None = None
    ) -> None:
        send_in_pieces(maps_container)
        self._maps = maps_container
        self._raw = raw_container
        self._spool_dir = None if spool_dir is None else Path(spool_dir)
        # For results that do not say which analysis they are of: one until its final result.
        self._own_ids: dict[str, str] = {}
        self._conflicts: Counter[str] = Counter()
        self._alarms = AlarmLog()
        self._n_moved = 0
        self._closed = False
        self._open: dict[_Place, ResultWriter] = {}
        self._spooled: dict[_Place, Path] = {}
        super().__init__("SOC publisher")
        self._adopt_spooled()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until what was handed over is in Tiled and linked to its raw run.

        Raises
        ------
        DeliveryError
            When that takes longer than ``timeout_s``; nothing is lost by it.
        """
        if not self._worker.wait(timeout_s):
            raise DeliveryError(
                f"{self.backlog} maps or links to them are not in Tiled after {timeout_s:g} s; "
                "they are delivered when Tiled answers"
            )

    @property
    def backlog(self) -> int:
        """Number of maps, and of links to them, that are not in Tiled yet."""
        return len(self._worker)

    @property
    def n_moved(self) -> int:
        """Number of steps (arrays, tables) that Tiled took so far; while it grows the server is there, however slow."""
        return self._n_moved

    def _move(self) -> None:
        self._n_moved += 1

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> None:
        """Write what was handed over, then stop. What Tiled does not take stays in the spool folder."""
        if self._closed:
            return
        self._closed = True
        self._worker.wait(timeout_s)
        # What is on its way may never arrive.
        left = [item for item in self._worker.stop(_END_TIMEOUT_S) if isinstance(item, DeferredResult)]
        for item in left:
            self._keep(item.get())
        if left:
            where = "lost" if self._spool_dir is None else f"kept in {self._spool_dir}"
            self._log.expected(
                DeliveryError(f"{len(left)} map(s) could not be written to Tiled and are {where}")
            )

    def _work(self, item: DeferredResult | _Link) -> None:
        if isinstance(item, _Link):
            self._link_back(item)
        else:
            super()._work(item)

    def _take(self, result: xr.Dataset) -> None:
        path, final = container_path(result), bool(result.attrs.get("final"))
        place = path, self._analysis_of(result)
        try:
            if place not in self._open:
                self._open[place] = ResultWriter(self._maps, result, self._move, place[1])
            at_s = result.attrs.get("time")
            self._alarms.take(result, float(at_s) if isinstance(at_s, int | float) else time.time())
            alarms = self._alarms.of(str(result.attrs["raw_uid"]), str(result.attrs.get("edge") or ""))
            self._open[place].write(result, alarms)
        except BaseException as error:
            self._open.pop(place, None)
            if final:
                self._keep(result)
            if not self._may_try_again(path, error):
                self._log.unexpected(error)
                return
            self._log.expected(DeliveryError(_reason(error)))
            raise LaterError from error
        self._conflicts.pop(path, None)
        if final:
            del self._open[place]
            if self._own_ids.get(path) == place[1]:
                del self._own_ids[path]
            if spooled := self._spooled.pop(place, None):
                spooled.unlink(missing_ok=True)
            if self._raw is not None:
                link = _Link(result.attrs["raw_uid"], path)
                self._worker.offer(link, link, final=True)

    def _analysis_of(self, result: xr.Dataset) -> str:
        said = analysis_id(result.attrs)
        return said or self._own_ids.setdefault(container_path(result), uuid.uuid4().hex)

    def _may_try_again(self, path: str, error: BaseException) -> bool:
        """Return whether a map that was not taken is offered again."""
        if is_outage(error):
            return True
        # A node that is there already (409): a request was repeated whose answer had been lost.
        if _status(error) != httpx.codes.CONFLICT or self._conflicts[path] >= _MOST_CONFLICTS:
            return False
        self._conflicts[path] += 1
        return True

    def _link_back(self, link: _Link) -> None:
        """Write the path of the maps into the metadata of their raw run, once that is complete."""
        uid = link.uid
        try:
            if uid in self._raw and "stop" in self._raw[uid].metadata:
                self._raw[uid].update_metadata({"nimco": {"maps": link.path}}, drop_revision=True)
                return
        except BaseException as error:
            if is_outage(error):
                raise LaterError from error
            self._log.unexpected(error)
            return
        if time.monotonic() <= link.deadline:
            raise LaterError(_LINK_PAUSE_S)
        self._log.expected(
            DeliveryError(f"run {uid[:8]} did not come to Tiled, so it does not name its maps {link.path}")
        )

    def _keep(self, result: xr.Dataset) -> None:
        """Keep a result on disk until it is delivered."""
        where = container_path(result), self._analysis_of(result)
        if self._spool_dir is None or where in self._spooled:
            return
        uid, name = str(result.attrs["raw_uid"]), container_name(result)
        said = f"-{analysis}" if (analysis := analysis_id(result.attrs)) else ""
        path = self._spool_dir / f"{file_stem(f'{uid}-{name}{said}')}{SUFFIX}"
        try:
            keep_on_disk(result, path)
        except SpoolError as error:
            self._log.expected(error)
        except Exception as error:
            self._log.unexpected(error)  # a result that holds what cannot be kept
        else:
            self._spooled[where] = path

    def _adopt_spooled(self) -> None:
        """Take over maps that an earlier publisher could not deliver."""
        if self._spool_dir is None:
            return
        adopted: list[xr.Dataset] = []
        for path in sorted(self._spool_dir.glob(f"*{SUFFIX}")):
            try:
                result = read_from_disk(path)
            except DamagedSpoolError as error:
                self._log.expected(
                    DamagedSpoolError(f"{error}; {describe_set_aside(set_aside(path, DAMAGED))}")
                )
                continue
            except SpoolError as error:
                self._log.expected(error)
                continue
            self._spooled[container_path(result), self._analysis_of(result)] = path
            adopted.append(result)
        # The analysis that began last becomes the current version.
        for result in sorted(adopted, key=lambda held: analysed_s(held.attrs)):
            self(result)


def _status(error: BaseException) -> int | None:
    """Return the status of an answer of the server; None where the error is not one."""
    return error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None


def _reason(error: BaseException) -> str:
    status = _status(error)
    problem = (
        f"does not answer ({type(error).__name__})"
        if status is None
        else f"answers with an error (status {status})"
    )
    return f"Tiled {problem}; the analysis goes on and its maps are delivered when Tiled takes them"
