"""Uploads that do not hold the interpreter up, and outlast a server that fails now and then."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from tiled.client.utils import handle_error

from callbacks.documents import is_outage

# Before a request is repeated that the server answered with an error.
PAUSES_S = (0.05, 0.2, 0.8, 1.6)
_PIECE_BYTES = 256 * 2**10
_LARGE_BYTES = 2**20


def send_in_pieces(container: Any) -> None:
    """Make a tiled client send large request bodies in pieces.

    The transport copies what is left of a piece each time the socket takes a part of it. With a map or a
    batch of frames as one piece that is hundreds of megabytes of copying, during which no other thread
    runs, the RunEngine's among them.

    Parameters
    ----------
    container : tiled client
        Its context is changed; calling it again changes nothing.
    """
    http = container.context.http_client
    hooks = http.event_hooks
    if _cut not in hooks["request"]:
        hooks["request"].append(_cut)
        http.event_hooks = hooks


def write_array(node: Any, array: npt.NDArray[Any], may_repeat: Callable[[], bool] = lambda: True) -> None:
    """Overwrite an array in Tiled, as its client's ``write`` does, without a copy of it on the way.

    What a server fails to take is sent again: a result is dozens of arrays, and one of which the whole begins anew
    would never arrive at a server that fails at one request in fifteen.

    Parameters
    ----------
    node : tiled client of an array
        Where to write.
    array : ndarray
        Of the shape and type of the node.
    may_repeat : callable
        Asked before it is sent again: whether the place is still that of who writes.

    Raises
    ------
    httpx.HTTPStatusError
        The server refuses it, or fails again and again.
    """
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(data.nbytes)}
    for pause_s in (*PAUSES_S, None):
        try:
            handle_error(
                node.context.http_client.put(
                    node.item["links"]["full"], content=_Pieces(data), headers=headers
                )
            )
            return
        except httpx.HTTPStatusError as error:
            if pause_s is None or not is_outage(error):
                raise
            time.sleep(pause_s)
            if not may_repeat():
                raise


def _pieces(data: memoryview) -> Iterator[bytes]:
    for start in range(0, len(data), _PIECE_BYTES):
        yield bytes(data[start : start + _PIECE_BYTES])


def _cut(request: httpx.Request) -> None:
    length = int(request.headers.get("Content-Length", 0))
    if length > _LARGE_BYTES and isinstance(request.stream, httpx.ByteStream):
        request.stream = _Pieces(request.content)


class _Pieces(httpx.SyncByteStream):
    """A request body that can be sent again: the transport repeats a request after a login is renewed."""

    def __init__(self, content: bytes | memoryview) -> None:
        self._content = memoryview(content)

    def __iter__(self) -> Iterator[bytes]:
        return _pieces(self._content)
