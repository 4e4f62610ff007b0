"""The energy axis of the twin in motion, with the ion chambers read on the way."""

import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from bluesky.protocols import StreamAsset
from event_model import StreamDatum, StreamRange, StreamResource
from ophyd import DeviceStatus

from beamline_devices import DeviceError
from beamline_devices.protocols import FlightPath
from sim_devices.twin import Chamber, IonChambers, Twin

from ._energy import SimEnergy

__all__ = ["SimEnergyFlyer"]

_CHUNK = 1024
# Samples that are written at a time.
_BLOCK = 64
_LONGEST_UNWRITTEN_S = 0.2
_STOP_S = 10.0


class SimEnergyFlyer:
    """Flies the energy axis of the twin, as a sequencer with position capture does.

    Every sample is the mean over its time of the Bragg angle and of the currents of the ion chambers. All samples of a
    run are rows of one HDF5 file that may be read while it grows (SWMR).

    Parameters
    ----------
    name : str
        Name of the device, and beginning of the keys of its own columns.
    twin : Twin
        The simulated beamline.
    energy : SimEnergy
        Its energy axis.
    chambers : IonChambers
        The end station.
    keys : dict
        Key of the column of each chamber.
    folder : Path, optional
        Where the files go; by default a new temporary folder.
    time_scale : float
        Real seconds per simulated second.

    Attributes
    ----------
    recorded : dict
        Which column is what, see `scan_contract.Flight`.
    """

    parent = None

    def __init__(
        self,
        *,
        name: str,
        twin: Twin,
        energy: SimEnergy,
        chambers: IonChambers,
        keys: dict[Chamber, str],
        folder: Path | None = None,
        time_scale: float = 0.0,
    ) -> None:
        self.name = name
        self._twin = twin
        self._energy = energy
        self._chambers = chambers
        self._keys = keys
        self._folder = folder
        self._time_scale = time_scale
        self._units = {
            f"{name}_angle": "deg",
            **dict.fromkeys(keys.values(), "nA"),
            f"{name}_exposure_s": "s",
            f"{name}_sweep": "",
            f"{name}_flight": "",
        }
        self._file: h5py.File | None = None
        self._lock = threading.Lock()
        self._written = 0
        self._announced = 0
        self._resources: dict[str, str] = {}
        self._path: FlightPath | None = None
        self._flights = 0
        self._thread: threading.Thread | None = None
        self._flown: DeviceStatus | None = None
        self._abort = threading.Event()
        self._stopped_well = True

    @property
    def recorded(self) -> dict[str, Any]:
        """Which column is what."""
        return {
            "position": f"{self.name}_angle",
            "position_unit": "deg",
            "d_spacing_angstrom": self._twin.settings.mono.d_spacing_a,
            "offset_ev": float(self._energy.offset_ev.get()),
            "exposure": f"{self.name}_exposure_s",
            "sweep": f"{self.name}_sweep",
            "flight": f"{self.name}_flight",
        }

    @property
    def hints(self) -> dict[str, Any]:
        """No number to plot: the samples are in a file."""
        return {}

    def stage(self) -> list[Any]:
        """Open a new file."""
        if self._file is not None:
            raise DeviceError(f"{self.name} is staged already; unstage it first")
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="nimco-flights-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(self._folder / f"{self.name}-{uuid.uuid4()}.h5", "w", libver="latest")
        for key in self._units:
            self._file.create_dataset(key, (0,), "<f8", maxshape=(None,), chunks=(_CHUNK,))
        self._file.swmr_mode = True
        self._written = self._announced = self._flights = 0
        self._resources = {}
        self._path = None
        return [self]

    def unstage(self) -> list[Any]:
        """End a flight under way and close the file."""
        self.stop(success=True)
        if self._file is not None:
            self._file.close()
            self._file = None
        return [self]

    def prepare(self, value: FlightPath) -> DeviceStatus:
        """Go to the start of a path; the status is done on arrival.

        Raises
        ------
        OutOfLimitsError
            The axis cannot go there.
        """
        for energy_ev in (value.energies_ev[0], value.energies_ev[-1]):
            self._energy.check_value(energy_ev)
        self._path = value
        return self._energy.set(value.energies_ev[0])

    def kickoff(self) -> DeviceStatus:
        """Begin; the status is done when the axis moves."""
        if self._file is None or self._path is None:
            raise DeviceError(f"{self.name} has no path or no file; stage and prepare it first")
        if self._flown is not None and not self._flown.done:
            raise DeviceError(f"{self.name} is flying already, wait for it or stop it")
        self._abort = threading.Event()
        self._stopped_well = True
        self._flown = DeviceStatus(self, call_stop_on_failure=False)
        self._thread = threading.Thread(
            target=self._fly, args=(self._path, self._flown), daemon=True, name=f"sim-{self.name}"
        )
        self._thread.start()
        started = DeviceStatus(self)
        started.set_finished()
        return started

    def complete(self) -> DeviceStatus:
        """Return what is done when the axis has arrived."""
        if self._flown is None:
            raise DeviceError(f"{self.name} has not been started; kick it off first")
        return self._flown

    def stop(self, *, success: bool = False) -> None:
        """End a flight under way; what has been recorded stays in the file."""
        self._stopped_well = success
        self._abort.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def pause(self) -> None:
        """End a flight under way: the RunEngine will ask for it again."""
        self.stop(success=True)

    def resume(self) -> None:
        """Carry on after a pause; nothing to do."""

    def describe_collect(self) -> dict[str, Any]:
        """Return the data keys of the columns."""
        return {
            key: {
                "source": f"SIM:{self.name}:{key}",
                "dtype": "number",
                "dtype_numpy": "<f8",
                "shape": [1],
                "units": units,
                "external": "STREAM:",
            }
            for key, units in self._units.items()
        }

    def get_index(self) -> int:
        """Return how many samples are in the file."""
        with self._lock:
            return self._written

    def collect_asset_docs(self, index: int | None = None) -> Iterator[StreamAsset]:
        """Announce the samples that have come since the last time, up to a number of them."""
        count = self.get_index() if index is None else min(index, self.get_index())
        if count <= self._announced or self._file is None:
            return
        if not self._resources:
            for key in self._units:
                self._resources[key] = str(uuid.uuid4())
                yield (
                    "stream_resource",
                    StreamResource(
                        uid=self._resources[key],
                        data_key=key,
                        mimetype="application/x-hdf5",
                        uri=f"file://localhost{self._file.filename}",
                        parameters={"dataset": f"/{key}", "swmr": True, "chunk_shape": (_CHUNK,)},
                    ),
                )
        for uid in self._resources.values():
            yield (
                "stream_datum",
                StreamDatum(
                    uid=f"{uid}/{self._announced}",
                    stream_resource=uid,
                    descriptor="",
                    indices=StreamRange(start=self._announced, stop=count),
                    # The RunEngine numbers them.
                    seq_nums=StreamRange(start=0, stop=0),
                ),
            )
        self._announced = count

    def _fly(self, path: FlightPath, status: DeviceStatus) -> None:
        try:
            self._record(path)
            if self._abort.is_set() and not self._stopped_well:
                raise DeviceError(f"{self.name} was stopped before it was done")
        except Exception as error:
            status.set_exception(error)
        else:
            status.set_finished()

    def _record(self, path: FlightPath) -> None:
        """Move along the path and write the samples, a block at a time."""
        flight, self._flights = self._flights, self._flights + 1
        ends_s = np.append(np.arange(path.times_s[0], path.times_s[-1], path.sample_s), path.times_s[-1])
        # What is left at the end is a sample where it is more than half of one.
        if ends_s.size > 2 and ends_s[-1] - ends_s[-2] < 0.5 * path.sample_s:
            ends_s = np.delete(ends_s, -2)
        block: list[tuple[float, ...]] = []
        began_s = written_s = time.monotonic()
        for low_s, high_s in pairwise(ends_s):
            wait_s = self._time_scale * (high_s - path.times_s[0]) - (time.monotonic() - began_s)
            if self._abort.wait(max(wait_s, 0.0)):
                break
            middle_ev = float(np.interp(0.5 * (low_s + high_s), path.times_s, path.energies_ev))
            self._energy.follow(middle_ev)
            currents = self._chambers.shot(float(high_s - low_s))
            row = (
                float(self._energy.bragg.get()),
                *(currents[chamber] for chamber in self._keys),
                float(high_s - low_s),
                float(path.sweep),
                float(flight),
            )
            block.append(row)
            if len(block) == _BLOCK or time.monotonic() - written_s > _LONGEST_UNWRITTEN_S:
                self._write(block)
                block, written_s = [], time.monotonic()
        self._write(block)
        if not self._abort.is_set():
            self._energy.follow(path.energies_ev[-1])

    def _write(self, block: list[tuple[float, ...]]) -> None:
        if not block or self._file is None:
            return
        stop = self._written + len(block)
        for key, values in zip(self._units, np.array(block).T, strict=True):
            column = self._file[key]
            column.resize((stop,))
            column[self._written : stop] = values
            column.flush()
        with self._lock:
            self._written = stop
