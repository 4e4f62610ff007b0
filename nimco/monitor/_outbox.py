"""What waits to be sent to one browser: of each kind the newest only, so that a slow one holds nothing up."""

import asyncio
from collections.abc import Awaitable, Callable

Send = Callable[[], Awaitable[object]]


class Outbox:
    """Bounded by the number of kinds. Use it on the event loop; `put_from_thread` is for other threads."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, Send] = {}
        self._filled = asyncio.Event()
        self._closed = False

    def put(self, kind: str, send: Send) -> None:
        """Have something sent; what waits of the same kind is overtaken."""
        self._waiting[kind] = send
        self._filled.set()

    def put_from_thread(self, kind: str, send: Send) -> None:
        """Have something sent, from any thread."""
        if not self._closed:
            self._loop.call_soon_threadsafe(self.put, kind, send)

    async def deliver(self) -> None:
        """Send what comes, one after the other, until cancelled or the browser is gone."""
        while True:
            await self._filled.wait()
            while self._waiting:
                kind = next(iter(self._waiting))
                await self._waiting.pop(kind)()
            self._filled.clear()

    def close(self) -> None:
        """Take nothing any longer."""
        self._closed = True
