"""Point detectors of the twin as devices: currents, yields, and fluorescence with regions of interest."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from ophyd import Component, DeviceStatus, Kind

from sim_devices.twin import FLUORESCENCE_EV, METALS, Twin, yields_of

from ._signals import ExposureSignal, SimSignal
from ._twin_device import TwinDetector

__all__ = ["SimElectrometer", "SimFluorescence", "SimIonChamber", "SimPointDetector"]

_YIELD_CURRENT = 1e-3
_FLUORESCENCE_SHARE = 1e-4
_PHOTONS_PER_NA_S = 1.0e8
_SATURATION_PHOTONS = 2.0e5
_ROI_WIDTH_EV = 200.0
_EV_PER_CHANNEL = 10.0
_LINE_SHARE = 0.907
"""Share of a line of 140 eV width inside a region of 200 eV."""


class Chambers(Protocol):
    """Detectors that see the same shot of the beam."""

    def take(self, channel: Any, exposure_s: float, /) -> float:
        """Return the mean current of one of them over an exposure, nA."""


class SimPointDetector(TwinDetector):
    """One number of the twin per trigger, such as the incident intensity.

    Parameters
    ----------
    name : str
        Name of the device and of its key.
    units : str
        Unit of the number.
    twin : Twin
        The simulated beamline.
    measure : callable
        Takes the number from the twin.
    """

    value = Component(SimSignal, precision=4, kind=Kind.hinted)

    def __init__(self, *, name: str, units: str, twin: Twin, measure: Callable[[], float]) -> None:
        super().__init__(name=name, twin=twin, time_scale=0.0)
        self._measure = measure
        self.value.name = name
        self.value.amend(units=units)

    def trigger(self) -> DeviceStatus:
        """Take a reading."""
        self._check_reachable()
        return self._start(0.0, lambda: self.value.put(self._measure()))


class SimIonChamber(TwinDetector):
    """Current of an ion chamber of the twin in nA; those of one end station see the same shot of the beam.

    Parameters
    ----------
    name : str
        Name of the device and of its key.
    twin : Twin
        The simulated beamline.
    chambers : Chambers
        The end station.
    chamber : str
        Which one of them, such as "i0".
    time_scale : float
        Real seconds per simulated second.
    """

    current = Component(SimSignal, units="nA", precision=5, kind=Kind.hinted)
    exposure_s = Component(ExposureSignal, value=0.5, units="s", precision=3, kind=Kind.config)

    def __init__(
        self, *, name: str, twin: Twin, chambers: Chambers, chamber: str, time_scale: float = 0.0
    ) -> None:
        super().__init__(name=name, twin=twin, time_scale=time_scale)
        self._chambers = chambers
        self._chamber = chamber
        self.current.name = name

    def trigger(self) -> DeviceStatus:
        """Average the current over the exposure."""
        self._check_reachable()
        exposure_s = float(self.exposure_s.get())
        value = self._chambers.take(self._chamber, exposure_s)
        return self._start(exposure_s, lambda: self.current.put(value))


class SimElectrometer(TwinDetector):
    """Currents of the twin in nA: total electron yield, fluorescence yield, I0 and transmitted.

    Parameters
    ----------
    name : str
        Name of the device, and of the key of the electron yield.
    twin : Twin
        The simulated beamline.
    time_scale : float
        Real seconds per simulated second.
    """

    tey = Component(SimSignal, units="nA", precision=5, kind=Kind.hinted)
    fy = Component(SimSignal, units="nA", precision=5, kind=Kind.normal)
    i0 = Component(SimSignal, units="nA", precision=5, kind=Kind.normal)
    it = Component(SimSignal, units="nA", precision=5, kind=Kind.normal)
    exposure_s = Component(ExposureSignal, value=0.1, units="s", precision=3, kind=Kind.config)

    def __init__(self, *, name: str, twin: Twin, time_scale: float = 0.0) -> None:
        super().__init__(name=name, twin=twin, time_scale=time_scale)
        self.tey.name = name

    def trigger(self) -> DeviceStatus:
        """Take a reading."""
        self._check_reachable()
        exposure_s = float(self.exposure_s.get())

        def read_out() -> None:
            incident = self._twin.read_i0()
            self._twin.wait(exposure_s)
            on_sample = incident * float(self._twin.shutter_open)
            yields = yields_of(self._twin)
            self.tey.put(on_sample * yields.absorbed * _YIELD_CURRENT)
            self.fy.put(on_sample * float(yields.fluorescence.sum()) * _YIELD_CURRENT)
            self.i0.put(incident)
            self.it.put(on_sample * yields.transmitted)

        return self._start(exposure_s, read_out)


class SimFluorescence(TwinDetector):
    """Fluorescence detector of the twin: counts in a region around the K-alpha line of each metal.

    Parameters
    ----------
    name : str
        Name of the device, and of the key of the nickel counts.
    twin : Twin
        The simulated beamline.
    seed : int
        Of the counting noise.
    time_scale : float
        Real seconds per simulated second.
    """

    ni = Component(SimSignal, units="counts", precision=0, kind=Kind.hinted)
    ni_corrected = Component(SimSignal, units="counts", precision=0, kind=Kind.normal)
    ni_low = Component(SimSignal, precision=0, kind=Kind.config)
    ni_high = Component(SimSignal, precision=0, kind=Kind.config)
    mn = Component(SimSignal, units="counts", precision=0, kind=Kind.normal)
    mn_corrected = Component(SimSignal, units="counts", precision=0, kind=Kind.normal)
    mn_low = Component(SimSignal, precision=0, kind=Kind.config)
    mn_high = Component(SimSignal, precision=0, kind=Kind.config)
    co = Component(SimSignal, units="counts", precision=0, kind=Kind.normal)
    co_corrected = Component(SimSignal, units="counts", precision=0, kind=Kind.normal)
    co_low = Component(SimSignal, precision=0, kind=Kind.config)
    co_high = Component(SimSignal, precision=0, kind=Kind.config)
    real_s = Component(SimSignal, units="s", precision=3, kind=Kind.normal)
    live_s = Component(SimSignal, units="s", precision=3, kind=Kind.normal)
    zero_ev = Component(SimSignal, value=0.0, units="eV", precision=2, kind=Kind.config)
    ev_per_channel = Component(SimSignal, value=_EV_PER_CHANNEL, units="eV", precision=4, kind=Kind.config)
    exposure_s = Component(ExposureSignal, value=0.5, units="s", precision=3, kind=Kind.config)

    def __init__(self, *, name: str, twin: Twin, seed: int, time_scale: float = 0.0) -> None:
        super().__init__(name=name, twin=twin, time_scale=time_scale)
        self._rng = np.random.default_rng([seed, 6])
        self.ni.name = name
        for metal in METALS:
            line_ev = FLUORESCENCE_EV[metal]
            for end, place in (("low", -0.5), ("high", 0.5)):
                channel = round((line_ev + place * _ROI_WIDTH_EV) / _EV_PER_CHANNEL)
                getattr(self, f"{metal.lower()}_{end}").put(float(channel))

    @property
    def dead_time(self) -> float:
        """Share of the real time of the last measurement in which the detector could not count."""
        real_s = float(self.real_s.get())
        return 1.0 - float(self.live_s.get()) / real_s if real_s > 0 else 0.0

    def trigger(self) -> DeviceStatus:
        """Count once; the status is done when the values can be read."""
        self._check_reachable()
        exposure_s = float(self.exposure_s.get())

        def read_out() -> None:
            photons = self._twin.read_i0() * float(self._twin.shutter_open) * _PHOTONS_PER_NA_S
            self._twin.wait(exposure_s)
            rates = photons * yields_of(self._twin).fluorescence * _FLUORESCENCE_SHARE
            # The live time of a chain that is dead for a fixed time after each photon.
            live_s = exposure_s / (1.0 + float(rates.sum()) / _SATURATION_PHOTONS)
            self.real_s.put(exposure_s)
            self.live_s.put(live_s)
            for rate, metal in zip(rates, METALS, strict=True):
                counts = float(self._rng.poisson(rate * live_s * _LINE_SHARE))
                getattr(self, metal.lower()).put(counts)
                getattr(self, f"{metal.lower()}_corrected").put(counts * exposure_s / live_s)

        return self._start(exposure_s, read_out)
