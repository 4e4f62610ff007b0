"""One open page: what it asked to see, sent as it changes over its WebSocket."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from callbacks import CallbackError

from ._frame_watch import FrameWatch
from ._map_watch import MapState, MapWatch
from ._outbox import Outbox
from ._pictures import ColourRange
from ._plain import plain
from ._region_table import RegionTable
from ._regions import Region, RegionError
from ._source import Source
from ._versions import stored_version
from ._viewer import Viewer

_MOST_TEXT = 100
_LOOK_S = 0.5


class LivePage:
    """Serves one page until its browser is gone.

    Parameters
    ----------
    socket : WebSocket
        Accepted already.
    viewer : Viewer
        With whose key things are read and regions written.
    ended : threading.Event
        Set when all pages are to end.
    """

    def __init__(self, socket: WebSocket, viewer: Viewer, ended: threading.Event) -> None:
        self._socket = socket
        self._ended = ended
        self._viewer = viewer
        self._outbox = Outbox()
        self._subscribed: dict[str, tuple[Source, Callable[[], object]]] = {}
        self._sends: dict[str, Callable[[], Any]] = {}
        self._run: tuple[str, str] | None = None
        self._range = ColourRange()
        self._probe: Region | None = None
        self._number = 0
        self._previewed: MapState | None = None
        self._pictured: tuple[MapState, ColourRange] | None = None

    async def serve(self) -> None:
        """Talk to the browser until it is gone."""
        sending = asyncio.create_task(self._outbox.deliver())
        try:
            measurements = await asyncio.to_thread(self._viewer.measurements)
            self._subscribe("list", measurements, lambda: self._send_list(measurements))
            receiving = asyncio.create_task(self._receive())
            done: set[asyncio.Task[None]] = set()
            while not done and not self._ended.is_set():
                done, _ = await asyncio.wait(
                    {sending, receiving}, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED
                )
            receiving.cancel()
            for task in done:
                error = task.exception()
                if error is not None and not isinstance(error, WebSocketDisconnect | RuntimeError | OSError):
                    raise error
        finally:
            sending.cancel()
            self._outbox.close()
            for what in tuple(self._subscribed):
                self._leave(what)

    async def _receive(self) -> None:
        while True:
            text = await self._socket.receive_text()
            try:
                told = json.loads(text)
                if not isinstance(told, dict):
                    raise ValueError("no object")
                await self._take(told)
            except (ValueError, RegionError, CallbackError) as error:
                self._notice(str(error))

    async def _take(self, told: dict[str, Any]) -> None:
        match told.get("do"):
            case "open":
                await self._open(*(str(told.get(key) or "")[:_MOST_TEXT] for key in ("uid", "name", "map")))
            case "range":
                self._range = ColourRange.read(told.get("range"))
                self._again("map")
            case "value":
                await self._send_value(told)
            case "probe":
                self._probe = None if told.get("region") is None else Region.read(told["region"])
                self._again("frames")
            case "keep":
                table = self._subscribed.get("regions")
                if table is not None and isinstance(table[0], RegionTable):
                    table[0].put(Region.read(told.get("region")))
            case "remove":
                table = self._subscribed.get("regions")
                if table is not None and isinstance(table[0], RegionTable):
                    table[0].remove(str(told.get("id")))
            case other:
                raise ValueError(f"this page cannot {str(other)[:_MOST_TEXT]!r}")

    async def _open(self, uid: str, name: str, variable: str) -> None:
        """Show a map of a result from now on."""
        is_other = (uid, name) != self._run
        if is_other:
            self._run, self._probe = (uid, name), None
        self._pictured = None
        watch = await asyncio.to_thread(self._viewer.map, uid, name, variable)
        self._subscribe("map", watch, lambda: self._send_map(watch))
        if not is_other:
            return
        frames = await asyncio.to_thread(self._viewer.frames, uid, name)
        table = await asyncio.to_thread(self._viewer.regions, uid, name)
        self._subscribe("frames", frames, lambda: self._send_frames(frames))
        self._subscribe("regions", table, lambda: self._send_regions(table))
        spectra = await asyncio.to_thread(self._viewer.spectra, uid, name)
        await asyncio.to_thread(spectra.prepare)

    def _subscribe(self, what: str, source: Source, send: Callable[[], Any]) -> None:
        """Listen to a source instead of the one before; what it has already is sent at once."""
        self._leave(what)

        def listener() -> None:
            self._outbox.put_from_thread(what, send)

        self._subscribed[what] = source, listener
        self._sends[what] = send
        source.listen(listener)
        self._outbox.put(what, send)

    def _leave(self, what: str) -> None:
        if what in self._subscribed:
            source, listener = self._subscribed.pop(what)
            source.leave(listener)

    def _again(self, what: str) -> None:
        """Have what is there sent anew."""
        if what in self._subscribed:
            self._outbox.put(what, self._sends[what])

    def _notice(self, text: str) -> None:
        async def send() -> None:
            await self._send({"type": "notice", "text": text})

        self._number += 1
        self._outbox.put(f"notice {self._number % 4}", send)

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send_text(json.dumps(message, allow_nan=False))

    async def _send_list(self, measurements: Any) -> None:
        if measurements.rows is not None or measurements.problem:
            await self._send(
                {"type": "list", "rows": measurements.rows or [], "problem": measurements.problem}
            )

    async def _send_map(self, watch: MapWatch) -> None:
        about, state = watch.about, watch.state
        if about is None:
            if watch.problem:
                await self._send({"type": "about", "about": None, "problem": watch.problem})
            return
        await self._send(
            {
                "type": "about",
                "about": about,
                "problem": watch.problem,
                "map": None if state is None else state.name,
            }
        )
        if state is None or self._pictured == (state, self._range):
            return  # only what is said of it has changed
        if state.preview_step > 1 and self._previewed is not state:
            self._previewed = state
            await self._send_picture(state, preview=True)
        if watch.state is state:  # else a newer one waits already
            shown = state, self._range
            await self._send_picture(state, preview=False)
            self._pictured = shown

    async def _send_picture(self, state: MapState, *, preview: bool) -> None:
        picture = await asyncio.to_thread(state.picture, self._range, preview=preview)
        rows, columns = picture.pixels.shape
        about = {
            "map": state.name,
            "rows": rows,
            "columns": columns,
            "step": picture.step,
            "shape": list(state.values.shape),
            "limits": plain(picture.limits),
            "palette": state.palette,
            "histogram": None if picture.histogram is None else plain(vars(picture.histogram)),
            "n_frames": state.about.get("n_frames"),
        }
        head = json.dumps(about, allow_nan=False).encode()
        head += b" " * (-(4 + len(head)) % 8)
        await self._socket.send_bytes(len(head).to_bytes(4, "little") + head + picture.pixels.tobytes())

    async def _send_frames(self, watch: FrameWatch) -> None:
        frames = watch.frames
        table = await asyncio.to_thread(watch.table)
        await self._send(
            {
                "type": "frames",
                "rows": table,
                "n_read": frames.n_frames,
                "expected": frames.frames_expected,
                "is_read": watch.is_read,
                "is_full": frames.is_full,
                "binning": frames.binning,
                "shape": frames.shape,
                "problem": watch.problem,
            }
        )
        await self._send_spectra()

    async def _send_regions(self, table: RegionTable) -> None:
        await self._send(
            {
                "type": "regions",
                "regions": [region.to_dict() for region in table.regions],
                "kept_here": table.kept_here,
                "problem": table.problem,
            }
        )
        await self._send_spectra()

    async def _send_spectra(self) -> None:
        if self._run is None:
            return
        held = self._subscribed.get("regions")
        regions = held[0].regions if held is not None and isinstance(held[0], RegionTable) else []
        probe = self._probe
        spectra = await asyncio.to_thread(self._viewer.spectra, *self._run)
        results = [
            await asyncio.to_thread(spectra.of, region)
            for region in ((probe,) if probe else ()) + tuple(regions)
        ]
        told = [result.to_dict() for result in results]
        await self._send({"type": "spectra", "results": told, "probe": None if probe is None else probe.id})

    async def _send_value(self, told: dict[str, Any]) -> None:
        """Tell the full values of a pixel: of the map that is shown, or of all maps."""
        row, column = int(told.get("row", -1)), int(told.get("column", -1))
        held = self._subscribed.get("map")
        if held is None or not isinstance(held[0], MapWatch) or held[0].state is None or self._run is None:
            return
        state = held[0].state
        if not (0 <= row < state.values.shape[0] and 0 <= column < state.values.shape[1]):
            return
        values: dict[str, float | None] = {state.name: plain(float(np.float64(state.values[row, column])))}
        if told.get("all"):
            values |= await asyncio.to_thread(self._all_values, self._run, state, row, column)

        async def send() -> None:
            await self._send({"type": "value", "row": row, "column": column, "values": values})

        self._outbox.put("values" if told.get("all") else "value", send)

    def _all_values(
        self, run: tuple[str, str], state: MapState, row: int, column: int
    ) -> dict[str, float | None]:
        stored = stored_version(self._viewer.client, *run)
        return {
            name: stored.at(name, row, column)
            for name, about in stored.variables.items()
            if name != state.name and about["dims"] == ("row", "column")
        }
