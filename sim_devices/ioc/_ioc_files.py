"""HDF5 file writer of the simulated IOC, laid out as areaDetector's NDFileHDF5 does it."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

__all__ = ["FrameFile"]

_DATASET = "/entry/data/data"


class FrameFile:
    """One HDF5 file that grows frame by frame.

    Parameters
    ----------
    path : Path
        File to create.
    frame_shape : tuple of int
        Rows and columns.
    dtype : numpy dtype
        Type of the counts.
    swmr : bool
        Whether others may read it while it grows.
    """

    def __init__(self, path: Path, frame_shape: tuple[int, int], dtype: Any, *, swmr: bool) -> None:
        self._file = h5py.File(path, "x", libver="latest")
        self._frames = self._file.create_dataset(
            _DATASET, (0, *frame_shape), maxshape=(None, *frame_shape), chunks=(1, *frame_shape), dtype=dtype
        )
        self._ids = self._file.create_dataset(
            "/entry/instrument/NDAttributes/NDArrayUniqueId",
            (0,),
            maxshape=(None,),
            chunks=(64,),
            dtype=np.int64,
        )
        self._times = self._file.create_dataset(
            "/entry/instrument/NDAttributes/NDArrayTimeStamp",
            (0,),
            maxshape=(None,),
            chunks=(64,),
            dtype=np.float64,
        )
        if swmr:
            self._file.swmr_mode = True

    def append(self, frame: NDArray[Any], unique_id: int, time_s: float) -> None:
        """Add one frame and make it readable."""
        count = self._frames.shape[0] + 1
        # The frame comes last: who sees it sees its number and time too.
        for dataset, value in ((self._ids, unique_id), (self._times, time_s), (self._frames, frame)):
            dataset.resize(count, axis=0)
            dataset[count - 1] = value
            dataset.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
