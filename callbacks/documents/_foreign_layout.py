"""How the runs of other plans are to be understood."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import h5py
import numpy as np
import numpy.typing as npt

from callbacks.errors import CallbackError
from edge_fitting import ReferenceSeries, edge_name
from scan_contract import exposure_slip, pixel_size_slip

from ._hdf5_guard import is_written, leads_nowhere, missing_source, not_a_file, source_files, too_large

Stream = Literal["dark", "flat", "primary"]
_KEV = 1000.0

#: Key of a translated start document that says which layout it was understood by.
LAYOUT_KEY = "foreign_layout"
# No edge of the project lies below 280 eV or above 100 keV, so that a number tells its unit.
_HIGHEST_KEV = 100.0
_OUR_STREAMS: Mapping[str, Stream] = {"primary": "primary", "flat": "flat", "dark": "dark"}


@dataclass(frozen=True)
class FrameFile:
    """Frames in an HDF5 file, for flats or darks that are in no run.

    Parameters
    ----------
    path : Path or str
        The file.
    dataset : str
        Path of the dataset, (rows, cols) or (n, rows, cols).
    exposure_s : float, optional
        Exposure of the frames; by default that of the scan.
    """

    path: Path | str
    dataset: str
    exposure_s: float | None = None

    def read(self) -> npt.NDArray[Any]:
        """Return the frames, (n, rows, cols).

        Raises
        ------
        CallbackError
            The file or the dataset cannot be read, or holds no frames.
        """
        if what := not_a_file(Path(self.path)):
            raise CallbackError(f"{self.path} is {what} where an HDF5 file with {self.dataset} is needed")
        try:
            with h5py.File(self.path, "r") as file:
                if what := leads_nowhere(file, self.dataset):
                    raise CallbackError(f"{self.path} has a link on the way to {self.dataset} to {what}")
                frames = self._read(file[self.dataset])
        except CallbackError:
            raise
        except FileNotFoundError as error:
            raise CallbackError(f"there is no file {self.path} to read {self.dataset} from") from error
        # h5py raises whatever for links in a loop, missing filters, damaged chunks and types without a counterpart.
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError) as error:
            raise CallbackError(
                f"no frames can be read from {self.dataset} of {self.path}: {error or type(error).__name__}"
            ) from error
        return frames.reshape(-1, *frames.shape[-2:])

    def _read(self, held: Any) -> npt.NDArray[Any]:
        if not isinstance(held, h5py.Dataset):
            raise CallbackError(f"{self.dataset} of {self.path} is a group, which is no frames")
        if held.ndim not in (2, 3) or not held.size or held.dtype.kind not in "uif":
            raise CallbackError(
                f"{self.dataset} of {self.path} holds {held.dtype} of shape {held.shape}, which are no frames"
            )
        n_images = held.shape[0] if held.ndim == 3 else 1
        if what := too_large(held, n_images):
            raise CallbackError(f"{self.dataset} of {self.path} has {what}")
        if what := missing_source(source_files(held), 0, n_images):
            raise CallbackError(f"{self.dataset} of {self.path} needs {what}, which is not there")
        if not is_written(held, 0, n_images):
            raise CallbackError(f"the frames in {self.dataset} of {self.path} were never written")
        return np.asarray(held[()])


def planned_energies(start: Mapping[str, Any]) -> list[float] | None:
    """Read the planned positions of a `bluesky.plans.list_scan` or `scan` of one motor from its start document.

    Returns
    -------
    list of float or None
        In the order of the plan; None where the document does not say.
    """
    pattern = start.get("plan_pattern_args")
    arguments = pattern.get("args") if isinstance(pattern, Mapping) else None
    try:
        if isinstance(arguments, list | tuple) and len(arguments) == 2:
            return [float(value) for value in arguments[1]]
        if isinstance(arguments, list | tuple) and len(arguments) == 3:
            n_points = int(
                start.get("num_points", pattern.get("num", 0)) if isinstance(pattern, Mapping) else 0
            )
            return (
                np.linspace(float(arguments[1]), float(arguments[2]), n_points).tolist() if n_points else None
            )
    except (TypeError, ValueError):
        return None
    return None


@dataclass(frozen=True)
class ForeignLayout:
    """How the runs of a beamline's own plans are to be understood.

    Parameters
    ----------
    edge : str
        Edge that is scanned, such as ``Ni_K``.
    camera, energy : str
        Names of the camera and of the energy axis in the documents.
    i0 : str, optional
        Name of what measures the incident intensity.
    exposure_s : float or str
        Exposure of a frame, or the key that holds it: in the events, or in a device's configuration.
    streams : mapping of str to {"primary", "flat", "dark"}
        What their streams hold.
    frame_type : str, optional
        Key of the events that says what a frame is, where one stream holds all kinds.
    frame_types : mapping, optional
        What the values of that key mean; NeXus' ``image_key`` by default.
    energies : callable
        Gives the planned energies from the start document, in eV or keV, or None where they are not known: the
        run is then told as a whole when it has ended. By default those of `list_scan` and `scan`.
    accepts : callable, optional
        Whether a start document opens such a scan. By default where it names the camera as a detector and the
        energy axis as a motor.
    flat_runs, dark_runs : mapping, optional
        Metadata by which to know runs that hold nothing but flats or darks; those last seen serve the next scan.
    flats, darks : FrameFile, optional
        Flats and darks that are in files.
    n_flats : int
        Flats to wait for at an energy before frames are fitted.
    n_darks : int
        Darks to wait for; 0 for a counting detector, which needs none.
    references : ReferenceSeries, optional
        Reference spectra.
    pixel_size_nm : float, optional
        Pixel size at the sample.
    name : str
        What the beamline calls it; said in the options of every analysis that used it.
    """

    edge: str
    camera: str
    energy: str
    i0: str | None = None
    exposure_s: float | str = 1.0
    streams: Mapping[str, Stream] = field(default_factory=lambda: _OUR_STREAMS)
    frame_type: str | None = None
    frame_types: Mapping[Any, Stream] = field(default_factory=lambda: {0: "primary", 1: "flat", 2: "dark"})
    energies: Callable[[Mapping[str, Any]], Sequence[float] | None] = planned_energies
    accepts: Callable[[Mapping[str, Any]], bool] | None = None
    flat_runs: Mapping[str, Any] | None = None
    dark_runs: Mapping[str, Any] | None = None
    flats: FrameFile | None = None
    darks: FrameFile | None = None
    n_flats: int = 1
    n_darks: int = 1
    references: ReferenceSeries | None = None
    pixel_size_nm: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "edge", edge_name(self.edge))
        given = [self.exposure_s, *(one.exposure_s for one in (self.flats, self.darks) if one is not None)]
        for value in given:
            if isinstance(value, int | float) and (slip := exposure_slip(value)):
                raise ValueError(f"exposure_s is {slip}.")
        if self.pixel_size_nm is not None and (slip := pixel_size_slip(self.pixel_size_nm)):
            raise ValueError(f"pixel_size_nm is {slip}.")

    def opens_scan(self, start: Mapping[str, Any]) -> bool:
        """Return whether a start document opens a scan of this layout."""
        if self.accepts is not None:
            return bool(self.accepts(start))
        return self.camera in _names(start.get("detectors")) and self.energy in _names(start.get("motors"))

    def kind_of_run(self, start: Mapping[str, Any]) -> Stream | None:
        """Return what a run holds nothing but: flats or darks; None for any other run."""
        for wanted, stream in ((self.flat_runs, "flat"), (self.dark_runs, "dark")):
            if wanted and all(start.get(key) == value for key, value in wanted.items()):
                return cast(Stream, stream)
        return None


def _names(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def in_ev(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return energies in eV, given in eV or keV."""
    return np.where(np.abs(values) < _HIGHEST_KEV, values * _KEV, values)
