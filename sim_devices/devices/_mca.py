"""Fluorescence detector of several elements, of a point or of a line that is flown."""

import numpy as np
from ophyd import Component, DeviceStatus, Kind

from beamline_devices import DeviceError, OutOfLimitsError
from beamline_devices.protocols import LinePath
from sim_devices.twin import NanoStation

from ._positions import SimAxis
from ._signals import ExposureSignal, SimSignal
from ._twin_device import TwinDetector

__all__ = ["SimLineMca", "SimMca"]

_TURN_S = 0.2


class SimMca(TwinDetector):
    """Spectra of all elements where the focus is.

    Parameters
    ----------
    name : str
        Name of the device and of the key of its spectra, shape (elements, channels).
    station : NanoStation
        The nanoprobe.
    time_scale : float
        Real seconds per simulated second.
    """

    spectra = Component(SimSignal, units="counts", dtype_numpy="<u4", kind=Kind.normal)
    live_s = Component(SimSignal, units="s", kind=Kind.normal)
    real_s = Component(SimSignal, units="s", kind=Kind.normal)
    exposure_s = Component(ExposureSignal, value=0.02, units="s", precision=4, kind=Kind.config)

    def __init__(self, *, name: str, station: NanoStation, time_scale: float = 0.0) -> None:
        self._station = station
        super().__init__(name=name, twin=station, time_scale=time_scale)  # type: ignore[arg-type]
        self.spectra.name = name
        n, m = station.settings.n_elements, station.settings.n_channels
        for signal, shape in ((self.spectra, (n, m)), (self.live_s, (n,)), (self.real_s, (n,))):
            signal.amend(dtype="array", shape=list(shape))
            signal.put(np.zeros(shape))

    def trigger(self) -> DeviceStatus:
        """Count for the exposure."""
        self._check_reachable()
        exposure_s = float(self.exposure_s.get())

        def read_out() -> None:
            found = self._station.measure(exposure_s)
            self._station.last_i0 = found.i0
            self.spectra.put(found.spectra)
            self.live_s.put(found.live_s)
            self.real_s.put(found.real_s)

        return self._start(exposure_s, read_out)


class SimLineMca(TwinDetector):
    """Spectra of all elements at the points of a line, taken while the sample moves.

    Parameters
    ----------
    name : str
        Name of the device and of the key of its spectra, shape (points, elements, channels).
    station : NanoStation
        The nanoprobe.
    column_axis : SimAxis
        What moves along a line.
    time_scale : float
        Real seconds per simulated second.
    """

    spectra = Component(SimSignal, units="counts", dtype_numpy="<u4", kind=Kind.normal)
    live_s = Component(SimSignal, units="s", kind=Kind.normal)
    real_s = Component(SimSignal, units="s", kind=Kind.normal)
    i0 = Component(SimSignal, units="nA", kind=Kind.normal)
    exposure_s = Component(ExposureSignal, value=0.02, units="s", precision=4, kind=Kind.config)

    def __init__(
        self, *, name: str, station: NanoStation, column_axis: SimAxis, time_scale: float = 0.0
    ) -> None:
        self._station = station
        self._axis = column_axis
        super().__init__(name=name, twin=station, time_scale=time_scale)  # type: ignore[arg-type]
        self.spectra.name = name
        self._path: LinePath | None = None
        self._shape(1)

    def _shape(self, n_points: int) -> None:
        n, m = self._station.settings.n_elements, self._station.settings.n_channels
        shapes = (
            (self.spectra, (n_points, n, m)),
            (self.live_s, (n_points, n)),
            (self.real_s, (n_points, n)),
        )
        for signal, shape in (*shapes, (self.i0, (n_points,))):
            signal.amend(dtype="array", shape=list(shape))
            signal.put(np.zeros(shape))

    def check_value(self, value: LinePath) -> None:
        """Refuse a line whose ends the axis cannot reach.

        Raises
        ------
        OutOfLimitsError
            When one end is out of its limits, or the line has no point.
        """
        if value.n_points < 1:
            raise OutOfLimitsError(f"{self.name} needs at least one point in a line")
        for end in (value.first_um, value.last_um):
            self._axis.check_value(end)

    def prepare(self, value: LinePath) -> DeviceStatus:
        """Go to the start of a line."""
        self.check_value(value)
        self._check_reachable()
        if self._path is None or self._path.n_points != value.n_points:
            self._shape(value.n_points)
        self._path = value
        return self._start(_TURN_S, lambda: self._go(value.first_um))

    def trigger(self) -> DeviceStatus:
        """Fly the line that was prepared."""
        self._check_reachable()
        path = self._path
        if path is None:
            raise DeviceError(f"{self.name} has no line to fly, prepare one")

        def fly() -> None:
            self._go(path.first_um)
            columns = np.linspace(path.first_um, path.last_um, path.n_points)
            speed = (columns[-1] - columns[0]) / max(path.duration_s, 1e-9)
            row = self._station.row_um
            found = [self._station.measure(path.dwell_s, (row, float(column)), speed) for column in columns]
            self._go(path.last_um)
            self.spectra.put(np.stack([one.spectra for one in found]))
            self.live_s.put(np.stack([one.live_s for one in found]))
            self.real_s.put(np.stack([one.real_s for one in found]))
            self.i0.put(np.array([one.i0 for one in found]))

        return self._start(path.duration_s, fly)

    def _go(self, column_um: float) -> None:
        self._axis.user_readback.put(column_um)
        self._station.column_um = column_um
