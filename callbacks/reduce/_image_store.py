"""Frames that may be needed again, in bounded memory: the older ones wait on disk."""

import logging
import os
import tempfile
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.documents import Reading

logger = logging.getLogger("nimco.callbacks")

MEMORY_BYTES = 256 * 2**20

_NOTHING: npt.NDArray[Any] = np.empty((0, 0), np.uint16)
_NOTHING.flags.writeable = False


class HeldFrame:
    """A frame that is held by an `ImageStore`.

    Attributes
    ----------
    reading : Reading
        Everything about the frame but its image.
    light : float or None
        Light of a flat per dose, once it has been looked at.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading.with_image(_NOTHING)
        self.light: float | None = None
        self._image: npt.NDArray[Any] | None = reading.image
        self._place: tuple[int, int] = (-1, 0)
        self._shape = reading.image.shape
        self._dtype = reading.image.dtype

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the counts."""
        return self._dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self._shape

    @property
    def nbytes(self) -> int:
        """Size of the image."""
        return int(np.prod(self._shape)) * self._dtype.itemsize

    def load(self) -> Reading:
        """Return the frame with its image."""
        image = self._image
        if image is None:
            file, offset = self._place
            image = np.empty(self._shape, self._dtype)
            view = image.reshape(-1).view(np.uint8).data
            while view:
                got = os.preadv(file, [view], offset)
                offset += got
                view = view[got:]
        return self.reading.with_image(image)

    def move_to(self, file: int, offset: int) -> int:
        """Write the image to a file and let go of it; return where it ends."""
        assert self._image is not None
        view = np.ascontiguousarray(self._image).reshape(-1).view(np.uint8).data
        at = offset
        while view:
            written = os.pwrite(file, view, at)
            at += written
            view = view[written:]
        self._place, self._image = (file, offset), None
        return at


class ImageStore:
    """Holds frames; what exceeds the memory is moved to a temporary file that goes with the store.

    Where the disk is full, frames stay in memory, which is said.

    Parameters
    ----------
    memory_bytes : int
        How much to hold in memory.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._limit = memory_bytes
        self._in_memory: deque[HeldFrame] = deque()
        self._nbytes = 0
        self._file: Any = None
        self._end = 0
        self._said = False

    @property
    def memory_nbytes(self) -> int:
        """Memory that the frames take."""
        return self._nbytes

    def hold(self, reading: Reading) -> HeldFrame:
        """Hold a frame."""
        held = HeldFrame(reading)
        self._in_memory.append(held)
        self._nbytes += held.nbytes
        while self._nbytes > self._limit and self._in_memory:
            try:
                self._move(self._in_memory[0])
            except OSError as error:
                if not self._said:
                    self._said = True
                    logger.error("frames stay in memory: cannot write them to a temporary file (%s)", error)
                break
            self._nbytes -= self._in_memory.popleft().nbytes
        return held

    def close(self) -> None:
        """Let go of all frames."""
        self._in_memory.clear()
        self._nbytes = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _move(self, held: HeldFrame) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="nimco-frames-", buffering=0)  # noqa: SIM115
        self._end = held.move_to(self._file.fileno(), self._end)
