"""The soft X-ray end station as devices."""

from typing import Any, cast

from ophyd import Component, DeviceStatus, Kind

from beamline_devices import OutOfLimitsError
from sim_devices.twin import SOFT_SAMPLES, Fault, LayeredSample, SoftSettings, SoftStation, SoftTruth

from ._counters import SimIonChamber
from ._energy_axis import TwinEnergyAxis
from ._positions import SimNamedPosition
from ._signals import SimSignal

__all__ = ["SimSoftBeamline", "SimSoftEnergy"]

_EV_PER_S, _SETTLE_S = 5.0, 0.1
# Gap of the undulator for an energy: that of a device of 49 mm period at 3 GeV, rounded.
_GAP_MM, _GAP_AT_EV, _MM_PER_DECADE = 22.0, 850.0, 19.0


class SimSoftEnergy(TwinEnergyAxis):
    """Photon energy of a grating monochromator in eV; the gap of the undulator follows it.

    Parameters
    ----------
    name : str
        Name of the device and of its readback key.
    station : SoftStation
        The simulated station.
    time_scale : float
        Real seconds per simulated second; 0 moves at once.
    """

    gap_mm = Component(SimSignal, units="mm", precision=3, kind=Kind.normal)
    polarisation = Component(
        SimSignal,
        choices=("horizontal", "vertical", "circular"),
        value="horizontal",
        dtype_numpy="<U40",
        kind=Kind.config,
    )
    resolving_power = Component(SimSignal, precision=0, kind=Kind.config)

    def __init__(self, *, name: str, station: SoftStation, time_scale: float = 0.0) -> None:
        self._station = station
        super().__init__(name=name, twin=cast(Any, station), time_scale=time_scale)
        settings = station.settings
        self._show(station.setpoint_ev, (settings.low_ev, settings.high_ev))
        self.resolving_power.put(settings.resolving_power)
        self._arrive(station.setpoint_ev)

    def set(self, value: float) -> DeviceStatus:
        """Move to an energy in eV, gap and all; the status is done on arrival."""
        self.check_value(value)
        self._check_reachable()
        start, target = self.position, float(value)
        duration_s = abs(target - start) / _EV_PER_S + _SETTLE_S

        def arrive(share: float = 1.0) -> None:
            self._station.wait(duration_s * share)
            self._arrive(target if share >= 1.0 else start + share * (target - start))

        status = self._start(duration_s, arrive, interrupted=arrive)
        self.setpoint.put(target)
        return status

    def _arrive(self, energy_ev: float) -> None:
        self._station.setpoint_ev = energy_ev
        self._station.polarisation = str(self.polarisation.get())
        if not self._station.faults.occurs(Fault.ENERGY_STUCK, self.name):
            # A gap that is stuck leaves the energy where it should be, and the flux behind.
            self._station.gap_ev = energy_ev
        self.gap_mm.put(_GAP_MM + _MM_PER_DECADE * (self._station.gap_ev / _GAP_AT_EV - 1.0))
        self.readback.put(energy_ev)


class SimSoftBeamline:
    """Simulated soft X-ray beamline: drain current, fluorescence, gold mesh and a reference sample.

    Parameters
    ----------
    seed : int
        Of the noise.
    settings : SoftSettings, optional
        Knobs of the station.
    time_scale : float
        Real seconds per simulated second; 0 waits for nothing.

    Attributes
    ----------
    energy, shutter
        Named "soft_energy" and "soft_shutter".
    mesh, tey, fy, reference
        Currents of the gold mesh, of the sample's drain, of the fluorescence diode and of the drain of a reference
        sample before the station, named "soft_mesh", "soft_tey", "soft_fy" and "soft_reference".
    station : SoftStation
        The physics behind them.

    Examples
    --------
    >>> beamline = SimSoftBeamline()
    >>> round(beamline.truth().gamma["tey"], 2)
    0.56
    """

    def __init__(
        self, *, seed: int = 1, settings: SoftSettings | None = None, time_scale: float = 0.0
    ) -> None:
        self.station = SoftStation(settings, seed=seed)
        twin = cast(Any, self.station)
        self.energy = SimSoftEnergy(name="soft_energy", station=self.station, time_scale=time_scale)
        self.shutter = SimNamedPosition(
            name="soft_shutter",
            positions=("closed", "open"),
            twin=twin,
            apply=self._set_shutter,
            duration_s=0.05,
            time_scale=time_scale,
        )
        self.mesh, self.tey, self.fy, self.reference = (
            SimIonChamber(
                name=f"soft_{channel}",
                twin=twin,
                chambers=self.station,
                chamber=channel,
                time_scale=time_scale,
            )
            for channel in ("mesh", "tey", "fy", "reference")
        )

    def load(self, sample: str | LayeredSample) -> None:
        """Replace the sample: a `LayeredSample`, or the name of one of the published ones in `SOFT_SAMPLES`."""
        if isinstance(sample, str) and sample not in SOFT_SAMPLES:
            raise OutOfLimitsError(f"there is no sample {sample!r}, choose one of {', '.join(SOFT_SAMPLES)}")
        self.station.sample = SOFT_SAMPLES[sample] if isinstance(sample, str) else sample

    def truth(self) -> SoftTruth:
        """Return what a perfect analysis would find."""
        return self.station.truth()

    def _set_shutter(self, position: str) -> str:
        self.station.shutter_open = position == "open"
        return position
