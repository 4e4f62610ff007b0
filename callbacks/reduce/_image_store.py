"""Frames that may be needed again, in bounded memory: the older ones wait on disk."""

import logging
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.documents import FirstTime, Reading, RecordStore
from callbacks.errors import SpoolError

logger = logging.getLogger("nimco.callbacks")

MEMORY_BYTES = 256 * 2**20

_NO_IMAGE: npt.NDArray[Any] = np.empty((0, 0), np.uint16)
_NO_IMAGE.flags.writeable = False


class HeldFrame:
    """A frame that is held by an `ImageStore`.

    Attributes
    ----------
    reading : Reading
        Everything about the frame but its image.
    light : float or None
        Light of a flat per second, once it has been looked at.
    dtype : dtype
        Type of the counts.
    shape : tuple of int
        Rows and columns.
    is_lost : bool
        Whether it was on disk and could not be read back.
    spikes : ndarray of int64 or None
        Flat indices of pixels that do not belong, once it has been looked at.
    suspected : ndarray of int64
        Of those of which that may be.
    """

    def __init__(self, reading: Reading, store: RecordStore) -> None:
        image = reading.image
        self.reading = reading.with_image(_NO_IMAGE)
        self.light: float | None = None
        self.is_lost = False
        self.spikes: npt.NDArray[np.int64] | None = None
        self.suspected: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self.dtype, self.shape = image.dtype, image.shape
        self.record = store.add("image", {"image": image}, nbytes=image.nbytes)
        self._store = store

    def load(self) -> Reading:
        """Return the frame with its image.

        Raises
        ------
        SpoolError
            The image was on disk and is not to be had from there as it was.
        """
        try:
            _, content = self._store.read(self.record)
        except SpoolError:
            self.is_lost = True
            raise
        return self.reading.with_image(content["image"])


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
        self._store = RecordStore()
        self._is_new = FirstTime()

    @property
    def memory_nbytes(self) -> int:
        """Memory that the frames take."""
        return self._store.memory_nbytes

    def hold(self, reading: Reading) -> HeldFrame:
        """Hold a frame."""
        held = HeldFrame(reading, self._store)
        self._in_memory.append(held)
        while self._in_memory and self.memory_nbytes > self._limit:
            try:
                self._store.write(self._in_memory[0].record)
            except SpoolError as error:
                if self._is_new("error"):
                    logger.error("frames stay in memory: %s", error)
                break
            self._store.release(self._in_memory.popleft().record)
        return held

    def close(self) -> None:
        """Let go of all frames."""
        for held in self._in_memory:
            self._store.forget(held.record)
        self._in_memory.clear()
        self._store.close()
