"""Ion chambers, yields and fluorescence: scaler, electrometer and multi-channel analyser records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ophyd import Component, Device, DeviceStatus, EpicsSignal, EpicsSignalRO, Kind
from ophyd.device import create_device_from_components

from beamline_devices._checks import check_range
from beamline_devices._described import CompleteDescriptions
from beamline_devices._parameters import Parameter
from beamline_devices._tasks import Task, await_put, put_complete
from beamline_devices.errors import DeviceError

__all__ = ["EpicsElectrometer", "EpicsFluorescence", "EpicsScaler", "RegionOfInterest"]

_OVERHEAD_S = 10.0
_ANSWER_TIMEOUT_S = 5.0


class _Counted(CompleteDescriptions, Device):
    """A detector that is started by writing 1 to a record and has ended when the record says so.

    Attributes
    ----------
    start : ophyd.EpicsSignal
        The record.
    exposure_s : ophyd.EpicsSignal
        Counting time.
    """

    start: EpicsSignal
    exposure_s: EpicsSignal
    _exposure_limits_s = (1e-4, 3600.0)

    def __init__(self, prefix: str, *, name: str, values: Sequence[str], **kwargs: Any) -> None:
        super().__init__(prefix, name=name, **kwargs)
        self._task = Task(self)
        self._values = tuple(values)
        first, *others = values
        # The first value is what a plan takes as *the* reading; the others are recorded beside it.
        getattr(self, first).kind = Kind.hinted
        getattr(self, first).name = name
        for other in others:
            getattr(self, other).kind = Kind.normal

    def set_exposure(self, seconds: float) -> None:
        """Set the counting time.

        Raises
        ------
        OutOfLimitsError
            When it is no sensible time.
        """
        check_range(f"{self.name}_exposure_s", seconds, self._exposure_limits_s, "s")
        await_put(
            put_complete(self.exposure_s, float(seconds)),
            _ANSWER_TIMEOUT_S,
            lambda: f"{self.name} does not answer in {_ANSWER_TIMEOUT_S:g} s",
        )

    def trigger(self) -> DeviceStatus:
        """Count once; the status is done when the values can be read."""

        def count() -> None:
            allowed_s = float(self.exposure_s.get()) + _OVERHEAD_S
            await_put(
                put_complete(self.start, 1),
                allowed_s,
                lambda: f"{self.name} has not counted to its end within {allowed_s:g} s",
                self._task,
            )
            self._counted()

        return self._task.start(count)

    def _counted(self) -> None:
        """Do what is to be done with new values."""

    def stop(self, *, success: bool = False) -> None:
        """Stop counting."""
        self._task.stop(success=success)
        self.start.put(0)
        super().stop(success=success)

    def pause(self) -> None:
        """End a measurement under way; the RunEngine will ask for it again."""
        self.stop(success=True)

    def resume(self) -> None:
        """Carry on after a pause; nothing to do."""


def _check_channels(name: str, channels: Mapping[str, int], highest: int) -> None:
    wrong = [str(number) for number in channels.values() if not 1 <= number <= highest]
    if not channels or wrong:
        raise DeviceError(
            f"{name} has channels 1 to {highest}, give at least one of them"
            + (f", not {wrong[0]}" if wrong else "")
        )


class EpicsScaler(_Counted):
    """Counts of ion chambers or diodes behind a scaler record.

    The reading is counts; a rate follows with ``<name>_elapsed_s``. The first channel is the value of the
    device.

    Parameters
    ----------
    prefix : str
        Name of the scaler record.
    name : str
        Name of the device, and of the key of its first channel.
    channels : mapping of str to int
        Channel number of the record (1 to 32) by the name of the component, for example ``{"i0": 2, "it":
        3, "iref": 4}``.
    """

    start = Component(EpicsSignal, ".CNT", kind=Kind.omitted)
    exposure_s = Component(EpicsSignal, ".TP", kind=Kind.config)
    elapsed_s = Component(EpicsSignalRO, ".T", kind=Kind.normal)
    clock_hz = Component(EpicsSignalRO, ".FREQ", kind=Kind.config)

    def __new__(cls, prefix: str, *, name: str, channels: Mapping[str, int], **kwargs: Any) -> "EpicsScaler":
        """Make a class with one component per channel, and an instance of it."""
        _check_channels(name, channels, 32)
        components = {
            attribute: Component(EpicsSignalRO, f".S{number}") for attribute, number in channels.items()
        }
        made = create_device_from_components(cls.__name__, base_class=cls, **components)
        instance: EpicsScaler = object.__new__(made)
        return instance

    def __init__(self, prefix: str, *, name: str, channels: Mapping[str, int], **kwargs: Any) -> None:
        super().__init__(prefix, name=name, values=tuple(channels), **kwargs)

    def describe(self) -> dict[str, Any]:
        """Return the data keys, with units that the record does not know."""
        described = super().describe()
        for attribute in self._values:
            described[getattr(self, attribute).name].update(units="counts", precision=0)
        described[self.elapsed_s.name].update(units="s", precision=3)
        return described


class EpicsElectrometer(_Counted):
    """Currents of ion chambers, diodes or the sample (electron yield) from a four-channel electrometer (quadEM).

    Parameters
    ----------
    prefix : str
        In front of ``Acquire`` and ``Current1:MeanValue_RBV``.
    name : str
        Name of the device, and of the key of its first channel.
    channels : mapping of str to int
        Channel number (1 to 4) by the name of the component, for example ``{"tey": 3, "fy": 4, "i0": 1}``.
    units : str
        Unit of the currents, where the records do not say.
    """

    start = Component(EpicsSignal, "Acquire", kind=Kind.omitted)
    exposure_s = Component(EpicsSignal, "AveragingTime", kind=Kind.config)
    mode = Component(EpicsSignal, "AcquireMode", string=True, kind=Kind.config)

    def __new__(
        cls, prefix: str, *, name: str, channels: Mapping[str, int], **kwargs: Any
    ) -> "EpicsElectrometer":
        """Make a class with one component per channel, and an instance of it."""
        _check_channels(name, channels, 4)
        components = {
            attribute: Component(EpicsSignalRO, f"Current{number}:MeanValue_RBV")
            for attribute, number in channels.items()
        }
        made = create_device_from_components(cls.__name__, base_class=cls, **components)
        instance: EpicsElectrometer = object.__new__(made)
        return instance

    def __init__(
        self, prefix: str, *, name: str, channels: Mapping[str, int], units: str = "nA", **kwargs: Any
    ) -> None:
        self._units = units
        super().__init__(prefix, name=name, values=tuple(channels), **kwargs)
        # One averaging period per trigger; only then does the record say when it has ended.
        self.stage_sigs[self.mode] = "Single"

    def describe(self) -> dict[str, Any]:
        """Return the data keys, with the unit of the currents."""
        described = super().describe()
        for entry in described.values():
            entry["units"] = entry["units"] or self._units
        return described


@dataclass(frozen=True)
class RegionOfInterest:
    """Range of photon energies whose counts are summed.

    Attributes
    ----------
    low_ev, high_ev : float
        First and last energy.
    """

    low_ev: float
    high_ev: float

    @classmethod
    def around(cls, energy_ev: float, width_ev: float = 200.0) -> "RegionOfInterest":
        """Return the region of a width around a line."""
        return cls(energy_ev - width_ev / 2, energy_ev + width_ev / 2)


class EpicsFluorescence(_Counted):
    """Fluorescence detector with regions of interest, behind an MCA record.

    The reading has the counts per region, corrected for dead time in ``<name>_<region>_corrected``, and the
    dead time itself. The regions are written to the record when the device is staged.

    Parameters
    ----------
    prefix : str
        Name of the MCA record.
    name : str
        Name of the device, and of the key of its first region.
    rois : mapping of str to RegionOfInterest
        At most 8, by the name of the component, for example ``{"ni": RegionOfInterest.around(7478.0)}``.
    zero_ev, ev_per_channel : float
        Energy of channel 0, and width of a channel.
    n_channels : int
        Number of channels of the record.
    """

    start = Component(EpicsSignal, "EraseStart", kind=Kind.omitted)
    exposure_s = Component(EpicsSignal, ".PRTM", kind=Kind.config)
    real_s = Component(EpicsSignalRO, ".ERTM", kind=Kind.normal)
    live_s = Component(EpicsSignalRO, ".ELTM", kind=Kind.normal)
    spectrum = Component(EpicsSignalRO, ".VAL", kind=Kind.omitted)
    zero_ev = Component(Parameter, value=0.0, units="eV", precision=2, kind=Kind.config)
    ev_per_channel = Component(Parameter, value=1.0, units="eV", precision=4, kind=Kind.config)

    def __new__(
        cls, prefix: str, *, name: str, rois: Mapping[str, RegionOfInterest], **kwargs: Any
    ) -> "EpicsFluorescence":
        """Make a class with the components of each region, and an instance of it."""
        if not 1 <= len(rois) <= 8:
            raise DeviceError(f"{name} has 1 to 8 regions of interest, not {len(rois)}")
        components: dict[str, Any] = {}
        for index, attribute in enumerate(rois):
            components[attribute] = Component(EpicsSignalRO, f".R{index}")
            components[f"{attribute}_low"] = Component(EpicsSignal, f".R{index}LO", kind=Kind.config)
            components[f"{attribute}_high"] = Component(EpicsSignal, f".R{index}HI", kind=Kind.config)
            components[f"{attribute}_corrected"] = Component(
                Parameter, value=0.0, units="counts", precision=0, kind=Kind.normal
            )
        made = create_device_from_components(cls.__name__, base_class=cls, **components)
        instance: EpicsFluorescence = object.__new__(made)
        return instance

    def __init__(
        self,
        prefix: str,
        *,
        name: str,
        rois: Mapping[str, RegionOfInterest],
        zero_ev: float = 0.0,
        ev_per_channel: float = 10.0,
        n_channels: int = 2048,
        **kwargs: Any,
    ) -> None:
        super().__init__(prefix, name=name, values=tuple(rois), **kwargs)
        self.zero_ev.put(float(zero_ev))
        self.ev_per_channel.put(float(ev_per_channel))
        for attribute, roi in rois.items():
            limits = []
            for energy_ev in (roi.low_ev, roi.high_ev):
                channel = round((energy_ev - zero_ev) / ev_per_channel)
                limits.append(
                    int(check_range(f"{name}_{attribute}", channel, (0, n_channels - 1), "channels"))
                )
            if limits[0] > limits[1]:
                raise DeviceError(
                    f"{name}: the region {attribute!r} ends at {roi.high_ev:g} eV, before it begins"
                )
            self.stage_sigs[getattr(self, f"{attribute}_low")] = limits[0]
            self.stage_sigs[getattr(self, f"{attribute}_high")] = limits[1]

    @property
    def dead_time(self) -> float:
        """Share of the real time of the last measurement in which the detector could not count."""
        real_s = float(self.real_s.get())
        return 1.0 - float(self.live_s.get()) / real_s if real_s > 0 else 0.0

    def _counted(self) -> None:
        live_s, real_s = float(self.live_s.get()), float(self.real_s.get())
        scale = real_s / live_s if live_s > 0 else float("nan")
        for attribute in self._values:
            getattr(self, f"{attribute}_corrected").put(float(getattr(self, attribute).get()) * scale)

    def describe(self) -> dict[str, Any]:
        """Return the data keys, with units that the record does not know."""
        described = super().describe()
        for attribute in self._values:
            described[getattr(self, attribute).name].update(units="counts", precision=0)
        for signal in (self.real_s, self.live_s):
            described[signal.name].update(units="s", precision=3)
        return described
