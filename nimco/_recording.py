"""What a recorded energy scan holds, its frames left in the file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_fitting import ReferenceSeries
from nimco._hdf5_file import FrameStack
from nimco.errors import RecordingError


@dataclass(frozen=True)
class Truth:
    """What a simulated recording knows of itself: maps of shape (rows, cols), and how the sample drifted, (n, 2)."""

    soc: np.ndarray
    edge_jump: np.ndarray
    drift_px: np.ndarray | None = None


@dataclass(frozen=True)
class Recording:
    """A recorded energy scan, frames left in the file until asked for.

    Attributes
    ----------
    path : Path
        The file.
    layout : str
        Which layout was recognised.
    edge : str
        Key of `edge_fitting.EDGES`.
    energies_ev : numpy.ndarray
        Photon energy of each frame (eV), shape (n,), in the order of acquisition.
    frames : FrameStack
        Sample frames, shape (n, rows, cols).
    flats : FrameStack
        Open-beam frames, shape (n_flat, rows, cols); one per energy when `flats_per_energy`.
    flats_per_energy : bool
        Whether flat k belongs to energy k; otherwise all flats belong to all energies.
    darks : FrameStack
        Dark frames, shape (n_dark, rows, cols); none for a detector that needs none.
    i0 : numpy.ndarray or None
        Incident intensity at each energy, the same for frame and flat of that energy.
    exposure_s, flat_exposure_s : float
        Exposure times of the sample and open-beam frames.
    pixel_size_nm : float or None
        Size of a pixel at the sample.
    references : ReferenceSeries or None
        Reference spectra stored in the file.
    truth : Truth or None
        Known answer, where the file is simulated.
    notes : tuple of str
        What was recognised or decided while reading, for the user.
    left_out : tuple of int
        Indices of energies that are not to be used: left out on request, or not wholly in the file.
    """

    path: Path
    layout: str
    edge: str
    energies_ev: np.ndarray
    frames: FrameStack
    flats: FrameStack
    flats_per_energy: bool
    darks: FrameStack
    i0: np.ndarray | None
    exposure_s: float
    flat_exposure_s: float
    pixel_size_nm: float | None
    references: ReferenceSeries | None
    truth: Truth | None
    notes: tuple[str, ...]
    left_out: tuple[int, ...] = ()

    @property
    def taken(self) -> tuple[int, ...]:
        """Indices of the energies that are used."""
        return tuple(index for index in range(self.energies_ev.size) if index not in self.left_out)

    def without(self, indices: Sequence[int], why: str) -> "Recording":
        """Return the recording with some of its energies left out, and a note that names them.

        Raises
        ------
        RecordingError
            If nothing would be left.
        """
        new = sorted(set(indices) - set(self.left_out))
        if not new:
            return self
        left_out = tuple(sorted({*self.left_out, *new}))
        if len(left_out) == self.energies_ev.size:
            raise RecordingError(f"{self.path}: no frame is left to analyse ({why}).")
        named = ", ".join(f"{self.energies_ev[index]:.2f}" for index in new)
        return replace(self, left_out=left_out, notes=(*self.notes, f"left out, {why}: {named} eV"))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self.frames.shape[1], self.frames.shape[2]
