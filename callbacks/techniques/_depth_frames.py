"""Optical depth of the frames of a run within a bound of memory: the spectrum of any region, while the scan runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.documents import FILE_TIMEOUT_S, AnyDocument, FrameLoss, RootMap, Slot, read_run
from callbacks.errors import CallbackError
from callbacks.reduce import CorrectedFrame, Reduced, RegisterChoice, optical_depth

from ._full_field import FULL_FIELD
from ._pipeline import RunPipeline
from ._technique import EstimatorOptions, RunState

FloatImage = npt.NDArray[np.float32]

_MOST_BYTES = 256 * 2**20


@dataclass(frozen=True)
class DepthFrame:
    """One sample frame, corrected.

    Attributes
    ----------
    slot : tuple
        Stream, energy index, repeat and places on further axes.
    attempt, seq_num : int
        Which attempt at it, and number of its event.
    energy_ev, time_s, weight : float
        Readback, when it was recorded (seconds since the epoch), inverse of its variance in a unit of the run.
    depth : ndarray of float32, (rows, cols)
        Mean optical depth of the pixels of each bin that have one; NaN where none has.
    """

    slot: Slot
    attempt: int
    seq_num: int
    energy_ev: float
    time_s: float
    weight: float
    depth: FloatImage = field(repr=False)


@dataclass(frozen=True)
class RegionSpectrum:
    """Mean optical depth of some pixels in every frame, by rising energy; repeats are points of their own.

    Attributes
    ----------
    energy_ev, optical_depth : ndarray, (n,)
        Readback, and mean over the pixels that have a value.
    scatter : ndarray, (n,)
        Standard deviation of the pixels: noise and the difference between them.
    weight : ndarray, (n,)
        Inverse of the variance of the frames, in a unit of the run.
    n_pixels : int
        Pixels of the region, in those of the camera.
    """

    energy_ev: npt.NDArray[np.float64]
    optical_depth: npt.NDArray[np.float64]
    scatter: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]
    n_pixels: int


class DepthFrames:
    """Keeps the optical depth of each frame of a full-field run, read, checked and corrected as `LiveSOC` does it.

    Call it with the documents of the run. Where the frames of the whole run would take more memory than allowed,
    neighbouring pixels are averaged to bins. Spectra can be asked for on any thread, meanwhile.

    Parameters
    ----------
    register : {"auto", "on", "off"}
        Whether frames are moved back by the drift of the sample, see `LiveSOC`.
    most_bytes : int
        Memory that the frames may take.
    left_out_ev : sequence of float
        Energies whose frames were left out of the analysis, and are left out here.
    file_timeout_s : float
        How long to wait for a frame that should be in a file.
    root_map : mapping of str to str or Path, optional
        Folders of the detector's files as documents name them, and where they are on this machine.

    Attributes
    ----------
    shape : (int, int) or None
        Rows and columns of the camera; None before the first frame.
    binning : int
        Pixels that are averaged, along rows and along columns.
    is_full : bool
        Whether a frame was not kept, because the run has more than it planned.
    """

    def __init__(
        self,
        *,
        register: RegisterChoice = "auto",
        most_bytes: int = _MOST_BYTES,
        left_out_ev: Sequence[float] = (),
        file_timeout_s: float = FILE_TIMEOUT_S,
        root_map: Mapping[str, Any] | None = None,
    ) -> None:
        self._options = EstimatorOptions(register=register)
        self._most_bytes = most_bytes
        self._left_out_ev = left_out_ev
        self._file_timeout_s = file_timeout_s
        self._roots = RootMap(root_map)
        self._run: RunPipeline | None = None
        self._frames: dict[Slot, DepthFrame] = {}
        self.shape: tuple[int, int] | None = None
        self.binning = 1
        self.is_full = False

    def __call__(self, name: str, doc: AnyDocument) -> bool:
        """Take one document and return whether there is another frame, or one less.

        Raises
        ------
        CallbackError
            A run of another kind, or a document or frame that cannot be used; the others can.
        """
        if name == "start":
            self._open(doc)
            return False
        return self._run is not None and self._run.add(name, doc)

    @property
    def frames(self) -> list[DepthFrame]:
        """The frames so far, by rising energy."""
        return sorted(self._held(), key=lambda frame: (frame.energy_ev, frame.slot))

    @property
    def n_frames(self) -> int:
        """Number of frames so far."""
        return len(self._frames)

    @property
    def frames_expected(self) -> int:
        """Number of frames of the whole run."""
        return 0 if self._run is None else self._run.frames_expected

    @property
    def losses(self) -> list[FrameLoss]:
        """Frames that are left out, of the sample and of what corrects them, with the reason of each."""
        return [] if self._run is None else self._run.losses

    @property
    def is_final(self) -> bool:
        """Whether the run is over."""
        return self._run is not None and self._run.final

    def spectrum(self, mask: npt.NDArray[np.bool_]) -> RegionSpectrum:
        """Return the mean spectrum of a region.

        Parameters
        ----------
        mask : ndarray of bool, (rows, cols)
            Pixels of the camera. With bins, those count of which at least half of the pixels are in the region, and
            where there is no such bin, that of the middle of the region.

        Raises
        ------
        CallbackError
            The region has no pixel, or there is no frame yet.
        """
        frames = self.frames
        if not frames or self.shape is None:
            raise CallbackError("there are no frames yet")
        if mask.shape != self.shape or not mask.any():
            raise CallbackError(f"the region has no pixel in the field of {self.shape[0]} x {self.shape[1]}")
        where = self._bins_of(mask)
        rows = []
        for frame in frames:
            values = frame.depth[where[0]].reshape(-1)
            values = values if where[1] is None else values.take(where[1])
            mean, scatter = _mean_and_scatter(values)
            if math.isfinite(mean):
                rows.append((frame.energy_ev, mean, scatter, frame.weight))
        table = np.asarray(rows, float).reshape(-1, 4)
        return RegionSpectrum(table[:, 0], table[:, 1], table[:, 2], table[:, 3], int(np.count_nonzero(mask)))

    def close(self) -> None:
        """Let go of what the correction of frames needs; the frames stay."""
        if self._run is not None:
            self._run.close()

    def _open(self, start: AnyDocument) -> None:
        contract = read_run(start)
        if contract.scan.technique != "full_field":
            raise CallbackError(
                f"run {contract.raw_uid[:8]} has no frames of a camera (technique {contract.scan.technique})"
            )
        before = self._run
        self._run = RunPipeline(
            FULL_FIELD,
            contract,
            _FrameSink(self),
            file_timeout_s=self._file_timeout_s,
            roots=self._roots,
            options=self._options,
        )
        if before is not None:
            if contract.scan.resumes in before.raw_uids:
                self._run.resume(before)
            else:
                before.close()

    def _bins_of(
        self, mask: npt.NDArray[np.bool_]
    ) -> tuple[tuple[slice, slice], npt.NDArray[np.intp] | None]:
        """Return the box of the bins of a region, and their flat places in it; None where it fills the box."""
        binned = mask
        if self.binning > 1:
            share = _binned(mask.astype(np.float32), self.binning)
            binned = share >= 0.5
            if not binned.any():
                rows, columns = (int(np.median(places)) // self.binning for places in np.nonzero(mask))
                binned[min(rows, binned.shape[0] - 1), min(columns, binned.shape[1] - 1)] = True
        down, along = np.flatnonzero(binned.any(axis=1)), np.flatnonzero(binned.any(axis=0))
        box = slice(down[0], down[-1] + 1), slice(along[0], along[-1] + 1)
        inside = binned[box]
        return box, None if inside.all() else np.flatnonzero(inside)

    def _keep(self, reduced: Reduced) -> None:
        if any(abs(reduced.energy_ev - energy) < 0.05 for energy in self._left_out_ev):
            return
        values = reduced.values
        if isinstance(values, CorrectedFrame):
            depth = optical_depth(values).reshape(values.reading.image.shape)
        else:
            depth = np.array(values, np.float32)
        if self.shape is None:
            self.shape = (len(depth), depth.size // len(depth))
            wanted = 4 * depth.size * max(self.frames_expected, 1)
            self.binning = max(1, math.ceil(math.sqrt(wanted / self._most_bytes)))
        depth[~np.isfinite(depth)] = np.nan
        if self.binning > 1:
            depth = _binned(depth, self.binning)
        held = len(self._frames) - (reduced.slot in self._frames)
        if (held + 1) * depth.nbytes > max(self._most_bytes, depth.nbytes):
            self.is_full = True
            return
        self._frames[reduced.slot] = DepthFrame(
            slot=reduced.slot,
            attempt=reduced.label.attempt,
            seq_num=int(reduced.notes.get("seq_num", 0)),
            energy_ev=reduced.energy_ev,
            time_s=reduced.time_s,
            weight=reduced.weight,
            depth=depth,
        )

    def _held(self) -> tuple[DepthFrame, ...]:
        # At once: they are asked for on one thread while another adds some.
        return tuple(self._frames.values())

    def _forget(self, slot: Slot) -> None:
        self._frames.pop(slot, None)


class _FrameSink:
    """Estimator: hands frames to whoever keeps them."""

    def __init__(self, frames: DepthFrames) -> None:
        self._held = frames

    def push(self, reduced: Reduced) -> None:
        self._held._keep(reduced)

    def retract(self, reduced: Reduced) -> None:
        self._held._forget(reduced.slot)

    def merge(self, other: "_FrameSink") -> None:
        """Nothing: both hand to the same keeper."""

    def result(self, state: RunState) -> None:
        return None


def _binned(image: FloatImage, size: int) -> FloatImage:
    """Return the mean of what is finite in each bin of size times size pixels; smaller ones at the far edges count."""
    rows, columns = image.shape
    if rows % size or columns % size:
        image = np.pad(image, ((0, -rows % size), (0, -columns % size)), constant_values=np.nan)
    blocks = image.reshape(image.shape[0] // size, size, image.shape[1] // size, size)
    total = blocks.sum(axis=(1, 3))
    if not np.isfinite(total).all():
        good = np.isfinite(blocks)
        count = good.sum(axis=(1, 3), dtype=np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(good, blocks, 0.0).sum(axis=(1, 3)) / count, np.float32)
    return np.asarray(total / np.float32(size * size), np.float32)


def _mean_and_scatter(values: FloatImage) -> tuple[float, float]:
    total = float(values.sum(dtype=np.float64))
    if not math.isfinite(total):
        values = values[np.isfinite(values)]
        total = float(values.sum(dtype=np.float64))
    if not values.size:
        return math.nan, math.nan
    mean = total / values.size
    difference = values - np.float32(mean)
    return mean, math.sqrt(float(np.dot(difference, difference)) / values.size)
