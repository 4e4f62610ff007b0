"""Point and fluorescence detectors of the simulated IOC: scaler, electrometer and multi-channel analyser records."""

import asyncio
import math
from typing import Any

import numpy as np

from scan_contract import optional_import
from sim_devices.twin import FLUORESCENCE_EV, FWHM_PER_SIGMA, METALS, yields_of

from ._ioc_beam import Beam
from ._ioc_channels import choice, floating, integer, text, waveform

with optional_import("sim", "simulated control systems"):
    from caproto import SkipWrite

__all__ = ["AnalyserRecords", "ElectrometerRecords", "ScalerRecords"]

_COUNTS_PER_NA_S = 2.0e4
_CLOCK_HZ = 1.0e7
_YIELD_CURRENT = 1e-3
_FLUORESCENCE_SHARE = 1e-4
_PHOTONS_PER_NA_S = 1.0e8
_SATURATION_PHOTONS = 2.0e5


async def _pass(seconds: float, time_scale: float) -> None:
    if seconds * time_scale > 0:
        await asyncio.sleep(seconds * time_scale)


class ScalerRecords:
    """Scaler record: channel 1 is the clock, 2 I0, 3 It, 4 Iref.

    Parameters
    ----------
    prefix : str
        Name of the record.
    beam : Beam
        What is counted.
    time_scale : float
        Real seconds per simulated second.
    """

    def __init__(self, prefix: str, beam: Beam, time_scale: float) -> None:
        self._beam = beam
        self._time_scale = time_scale
        self.preset = floating(0.1, units="s", precision=3, limits=(0.0, 3600.0))
        self.elapsed = floating(0.0, units="s", precision=3)
        self.counts = [floating(0.0, units="counts", precision=0) for _ in range(4)]
        names = ("clock", "I0", "It", "Iref")
        self.pvdb: dict[str, Any] = {
            prefix + ".CNT": choice("Done", ("Done", "Count"), self._put_count),
            prefix + ".TP": self.preset,
            prefix + ".T": self.elapsed,
            prefix + ".FREQ": floating(_CLOCK_HZ, units="Hz"),
        }
        for number, (channel, name) in enumerate(zip(self.counts, names, strict=True), start=1):
            self.pvdb[f"{prefix}.S{number}"] = channel
            self.pvdb[f"{prefix}.NM{number}"] = text(name)

    async def _put_count(self, channel: Any, value: str) -> None:
        if value == "Done":
            return
        seconds = float(self.preset.value)
        await channel.write("Count", verify_value=False)
        await _pass(seconds, self._time_scale)
        rate = self._beam.read_i0() * _COUNTS_PER_NA_S
        open_share = float(self._beam.twin.shutter_open)
        yields = yields_of(self._beam.twin)
        values = (
            seconds * _CLOCK_HZ,
            seconds * rate,
            seconds * rate * open_share * yields.transmitted,
            seconds * rate * open_share * yields.behind_foil,
        )
        for record, counts in zip(self.counts, values, strict=True):
            await record.write(math.floor(counts))
        await self.elapsed.write(seconds)
        await channel.write("Done", verify_value=False)
        raise SkipWrite()


class ElectrometerRecords:
    """Four-channel electrometer with the PV names of quadEM: 1 I0, 2 It, 3 total electron yield, 4 fluorescence yield.

    Parameters
    ----------
    prefix : str
        For example "SIM:EM:".
    beam, time_scale
        As for `ScalerRecords`.
    """

    def __init__(self, prefix: str, beam: Beam, time_scale: float) -> None:
        self._beam = beam
        self._time_scale = time_scale
        self.averaging = floating(0.1, units="s", precision=3, limits=(0.0, 3600.0))
        self.currents = [floating(0.0, units="nA", precision=5) for _ in range(4)]
        self.pvdb: dict[str, Any] = {
            prefix + "Acquire": choice("Done", ("Done", "Acquire"), self._put_acquire),
            prefix + "AcquireMode": choice("Single", ("Continuous", "Multiple", "Single")),
            prefix + "AveragingTime": self.averaging,
            prefix + "AveragingTime_RBV": self.averaging,
            prefix + "NumAveraged_RBV": integer(1),
        }
        for number, channel in enumerate(self.currents, start=1):
            self.pvdb[f"{prefix}Current{number}:MeanValue_RBV"] = channel

    async def _put_acquire(self, channel: Any, value: str) -> None:
        if value == "Done":
            return
        await channel.write("Acquire", verify_value=False)
        await _pass(float(self.averaging.value), self._time_scale)
        i0 = self._beam.read_i0()
        through = i0 * float(self._beam.twin.shutter_open)
        yields = yields_of(self._beam.twin)
        values = (
            i0,
            through * yields.transmitted,
            through * yields.absorbed * _YIELD_CURRENT,
            through * float(yields.fluorescence.sum()) * _YIELD_CURRENT,
        )
        for record, current in zip(self.currents, values, strict=True):
            await record.write(current)
        await channel.write("Done", verify_value=False)
        raise SkipWrite()


class AnalyserRecords:
    """MCA record with the spectrum of the metals' K-alpha lines.

    Parameters
    ----------
    prefix : str
        Name of the record.
    beam, time_scale
        As for `ScalerRecords`.
    """

    channels = 2048
    ev_per_channel = 10.0
    rois = 8
    _width_ev = 140.0

    def __init__(self, prefix: str, beam: Beam, time_scale: float) -> None:
        self._beam = beam
        self._time_scale = time_scale
        self._rng = np.random.default_rng(7)
        self.preset = floating(0.5, units="s", precision=3, limits=(0.0, 3600.0))
        self.real_time = floating(0.0, units="s", precision=3)
        self.live_time = floating(0.0, units="s", precision=3)
        self.spectrum = waveform(self.channels)
        self.low = [integer(-1) for _ in range(self.rois)]
        self.high = [integer(-1) for _ in range(self.rois)]
        self.sums = [floating(0.0, units="counts", precision=0) for _ in range(self.rois)]
        self.pvdb: dict[str, Any] = {
            prefix: self.spectrum,
            prefix + ".VAL": self.spectrum,
            prefix + ".PRTM": self.preset,
            prefix + ".ERTM": self.real_time,
            prefix + ".ELTM": self.live_time,
            prefix + ".NUSE": integer(self.channels),
            prefix + ".CALO": floating(0.0, units="eV"),
            prefix + ".CALS": floating(self.ev_per_channel, units="eV"),
            prefix + "EraseStart": choice("Done", ("Done", "Acquire"), self._put_start),
            prefix + ".ACQG": choice("Done", ("Done", "Acquiring")),
            prefix + "Stop": integer(0),
        }
        for index in range(self.rois):
            self.pvdb[f"{prefix}.R{index}LO"] = self.low[index]
            self.pvdb[f"{prefix}.R{index}HI"] = self.high[index]
            self.pvdb[f"{prefix}.R{index}"] = self.sums[index]

    async def _put_start(self, channel: Any, value: str) -> None:
        if value == "Done":
            return
        seconds = float(self.preset.value)
        await channel.write("Acquire", verify_value=False)
        await _pass(seconds, self._time_scale)
        counts, live_s = self._measure(seconds)
        await self.spectrum.write(counts.tolist())
        await self.real_time.write(seconds)
        await self.live_time.write(live_s)
        for low, high, total in zip(self.low, self.high, self.sums, strict=True):
            first, last = low.value, high.value
            await total.write(float(counts[first : last + 1].sum()) if 0 <= first <= last else 0.0)
        await channel.write("Done", verify_value=False)
        raise SkipWrite()

    def _measure(self, seconds: float) -> tuple[np.ndarray, float]:
        """Return the counts per channel and the live time."""
        photons = self._beam.read_i0() * float(self._beam.twin.shutter_open) * _PHOTONS_PER_NA_S
        share = yields_of(self._beam.twin).fluorescence * _FLUORESCENCE_SHARE
        rates = photons * share
        # A paralysable chain would fold back; the record gives the live time of a non-paralysable one.
        live_s = seconds / (1.0 + rates.sum() / _SATURATION_PHOTONS)
        energy_ev = np.arange(self.channels) * self.ev_per_channel
        sigma = self._width_ev / FWHM_PER_SIGMA
        expected = np.full(self.channels, 0.02 * live_s)
        for rate, metal in zip(rates, METALS, strict=True):
            line = np.exp(-0.5 * ((energy_ev - FLUORESCENCE_EV[metal]) / sigma) ** 2)
            expected += rate * live_s * line / line.sum()
        return self._rng.poisson(expected), live_s
