"""The nanoprobe as devices."""

from typing import Any, cast

from ophyd import Component, DeviceStatus, Kind

from beamline_devices import OutOfLimitsError
from sim_devices.twin import NANO_SAMPLES, NanoSample, NanoSettings, NanoStation, NanoTruth

from ._energy_axis import TwinEnergyAxis
from ._mca import SimLineMca, SimMca
from ._positions import SimAxis, SimNamedPosition
from ._signals import SimSignal
from ._twin_device import TwinDetector

__all__ = ["SimNanoBeamline"]

_EV_PER_S, _SETTLE_S = 100.0, 0.05
_UM_LIMITS, _UM_PER_S = (-50.0, 50.0), 50.0


class SimNanoEnergy(TwinEnergyAxis):
    """Photon energy of the nanoprobe in eV; the focus stays where it is."""

    def __init__(self, *, name: str, station: NanoStation, time_scale: float = 0.0) -> None:
        self._station = station
        super().__init__(name=name, twin=cast(Any, station), time_scale=time_scale)
        self._show(station.setpoint_ev, (station.settings.low_ev, station.settings.high_ev))

    def set(self, value: float) -> DeviceStatus:
        """Move to an energy in eV; the status is done on arrival."""
        self.check_value(value)
        self._check_reachable()
        start, target = self.position, float(value)
        duration_s = abs(target - start) / _EV_PER_S + _SETTLE_S

        def arrive(share: float = 1.0) -> None:
            self._station.wait(duration_s * share)
            self._station.setpoint_ev = target if share >= 1.0 else start + share * (target - start)
            self.readback.put(self._station.setpoint_ev)

        status = self._start(duration_s, arrive, interrupted=arrive)
        self.setpoint.put(target)
        return status


class SimNanoI0(TwinDetector):
    """Ion chamber in front of the focus: the current during the last point."""

    current = Component(SimSignal, units="nA", precision=5, kind=Kind.hinted)

    def __init__(self, *, name: str, station: NanoStation) -> None:
        self._station = station
        super().__init__(name=name, twin=cast(Any, station), time_scale=0.0)
        self.current.name = name

    def read(self) -> dict[str, Any]:
        """Return the current of the point that was measured last."""
        self.current.put(self._station.last_i0)
        return super().read()


class SimNanoBeamline:
    """Simulated nanoprobe: a focus, a stage, a fluorescence detector of several elements.

    Parameters
    ----------
    seed : int
        Of the noise, and of what differs between detector elements.
    settings : NanoSettings, optional
        Knobs of the station.
    sample : str or NanoSample
        What is in it: a sample, or the name of one of `NANO_SAMPLES`.
    time_scale : float
        Real seconds per simulated second; 0 waits for nothing.

    Attributes
    ----------
    energy, shutter
        Named "nano_energy" and "nano_shutter".
    row_axis, column_axis
        The sample's stage in um, named "nano_y" and "nano_x".
    mca, line_mca
        The detector for points and for lines that are flown, named "mca" and "line_mca".
    i0
        Incident intensity, named "nano_i0".
    station : NanoStation
        The physics behind them.

    Examples
    --------
    >>> beamline = SimNanoBeamline()
    >>> round(float(beamline.truth([0.0], [0.0]).fractions["Ni"][0, 0]), 2)
    0.65
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        settings: NanoSettings | None = None,
        sample: str | NanoSample = "gradient",
        time_scale: float = 0.0,
    ) -> None:
        self.station = station = NanoStation(settings, seed=seed)
        self.load(sample)
        twin = cast(Any, station)
        self.energy = SimNanoEnergy(name="nano_energy", station=station, time_scale=time_scale)
        self.shutter = SimNamedPosition(
            name="nano_shutter",
            positions=("closed", "open"),
            twin=twin,
            apply=self._set_shutter,
            duration_s=0.05,
            time_scale=time_scale,
        )
        about: Any = {"twin": twin, "time_scale": time_scale, "units": "um", "limits": _UM_LIMITS}
        self.row_axis = SimAxis(name="nano_y", speed=_UM_PER_S, **about)
        self.column_axis = SimAxis(name="nano_x", speed=_UM_PER_S, **about)
        for axis in (self.row_axis, self.column_axis):
            axis.when_moved(self._moved)
        self.mca = SimMca(name="mca", station=station, time_scale=time_scale)
        self.line_mca = SimLineMca(
            name="line_mca", station=station, column_axis=self.column_axis, time_scale=time_scale
        )
        self.i0 = SimNanoI0(name="nano_i0", station=station)

    @property
    def calibration(self) -> list[dict[str, float]]:
        """Nominal energy scale of each detector element, as the manufacturer would say."""
        settings = self.station.settings
        return [{"gain_ev": settings.gain_ev, "offset_ev": 0.0}] * settings.n_elements

    def load(self, sample: str | NanoSample) -> None:
        """Replace the sample."""
        if isinstance(sample, str) and sample not in NANO_SAMPLES:
            raise OutOfLimitsError(f"there is no sample {sample!r}, choose one of {', '.join(NANO_SAMPLES)}")
        self.station.sample = NANO_SAMPLES[sample] if isinstance(sample, str) else sample

    def truth(self, rows_um: Any, columns_um: Any) -> NanoTruth:
        """Return what a perfect analysis would find on a grid of positions."""
        return self.station.truth(rows_um, columns_um)

    def _moved(self) -> None:
        self.station.row_um = self.row_axis.position
        self.station.column_um = self.column_axis.position

    def _set_shutter(self, position: str) -> str:
        self.station.shutter_open = position == "open"
        return position
