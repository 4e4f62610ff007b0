"""The scanning transmission X-ray microscope as devices."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from ophyd import Component, DeviceStatus, Kind
from ophyd.status import Status

from beamline_devices import OutOfLimitsError
from beamline_devices.protocols import CountedLine
from sim_devices.twin import StxmSettings, StxmStation, StxmTruth

from ._positions import SimAxis, SimNamedPosition
from ._signals import ExposureSignal, SimSignal
from ._soft_beamline import SimSoftEnergy
from ._twin_device import TwinDetector, TwinDevice

__all__ = ["SimStxmBeamline"]

_REACH_UM = 50.0
_TURN_S = 0.01
_ALONG_UM = (50.0, 20_000.0)


class SimFineStage(TwinDevice):
    """Piezo stage of the sample, x and y in micrometres."""

    x = Component(SimAxis, units="um", limits=(-_REACH_UM, _REACH_UM), speed=2000.0, kind=Kind.normal)
    y = Component(SimAxis, units="um", limits=(-_REACH_UM, _REACH_UM), speed=2000.0, kind=Kind.normal)


class SimOptic(SimAxis):
    """Zone plate or aperture along the beam; position is the distance from the sample in micrometres."""

    def __init__(self, *, name: str, station: StxmStation, attribute: str, time_scale: float) -> None:
        super().__init__(
            name=name,
            units="um",
            limits=_ALONG_UM,
            speed=2000.0,
            twin=cast(Any, station),
            time_scale=time_scale,
        )
        self._station, self._attribute = station, attribute
        self.user_readback.put(getattr(station, attribute))
        self.when_moved(lambda: setattr(station, attribute, self.position))

    @property
    def hints(self) -> dict[str, Any]:
        """The readback."""
        return {"fields": [self.name]}

    def set(self, value: float) -> DeviceStatus:
        """Move; refused where it would touch its neighbour."""
        self.check_value(value)
        at = {name: getattr(self._station, name) for name in ("zone_plate_um", "aperture_um")}
        self._station.check_distances(**{**at, self._attribute: float(value)})
        return super().set(value)


class LineSignal(SimSignal):
    """The line that is taken next: a `CountedLine`."""

    def check_value(self, value: Any, **_: Any) -> None:
        """Refuse what is no line, or a line the stage does not reach."""
        if not isinstance(value, CountedLine):
            raise OutOfLimitsError(f"{self.name} takes a CountedLine, not {value!r}")
        for at in (value.y_um, value.first_um, value.last_um):
            if not abs(at) <= _REACH_UM:
                raise OutOfLimitsError(
                    f"{self.name} cannot reach {at:g} um, the stage goes to {_REACH_UM:g} um"
                )

    def set(self, value: Any, **_: Any) -> Status:
        """Take the line."""
        self.check_value(value)
        parent = cast(Any, self.parent)
        parent.take_over(value)
        status = Status(self)
        status.set_finished()
        return status


class SimLineCounter(TwinDetector):
    """Photon counter that counts at each point of a line while the stage runs along it.

    Parameters
    ----------
    name : str
        Name of the device; the counts are under it.
    station : StxmStation
        The microscope.
    stage : SimFineStage
        What it moves.
    time_scale : float
        Real seconds per simulated second.
    """

    counts = Component(
        SimSignal, value=np.zeros(2), units="counts", dtype_numpy="<i8", shape=(2,), kind=Kind.hinted
    )
    y_um = Component(SimSignal, value=0.0, units="um", precision=4, kind=Kind.normal)
    first_um = Component(SimSignal, value=0.0, units="um", precision=4, kind=Kind.normal)
    last_um = Component(SimSignal, value=0.0, units="um", precision=4, kind=Kind.normal)
    line = Component(LineSignal, value="", kind=Kind.omitted)
    exposure_s = Component(ExposureSignal, value=0.003, units="s", precision=5, kind=Kind.config)

    def __init__(
        self, *, name: str, station: StxmStation, stage: SimFineStage, time_scale: float = 0.0
    ) -> None:
        super().__init__(name=name, twin=cast(Any, station), time_scale=time_scale)
        self._station, self._stage = station, stage
        self._line = CountedLine(0.0, 0.0, 1.0, 2)
        self.counts.name = name

    def take_over(self, line: CountedLine) -> None:
        """Take the line that comes next."""
        self._line = line
        self.counts.amend(shape=[line.n_points])

    def trigger(self) -> DeviceStatus:
        """Run along the line and count; the status is done when the counts can be read."""
        self._check_reachable()
        line, dwell_s = self._line, float(self.exposure_s.get())
        x = np.linspace(line.first_um, line.last_um, line.n_points)

        def finish() -> None:
            self._station.wait(_TURN_S)
            counts = self._station.take(np.full(x.size, line.y_um), x, dwell_s)
            self._stage.x.user_readback.put(float(x[-1]))
            self._stage.y.user_readback.put(line.y_um)
            self.counts.put(counts)
            for signal, value in zip(
                (self.y_um, self.first_um, self.last_um), (line.y_um, x[0], x[-1]), strict=True
            ):
                signal.put(float(value))

        return self._start(dwell_s * line.n_points + _TURN_S, finish)


class SimPointCounter(TwinDetector):
    """Photon counter where the stage stands."""

    counts = Component(SimSignal, units="counts", dtype_numpy="<i8", value=0, kind=Kind.hinted)
    exposure_s = Component(ExposureSignal, value=0.003, units="s", precision=5, kind=Kind.config)

    def __init__(
        self, *, name: str, station: StxmStation, stage: SimFineStage, time_scale: float = 0.0
    ) -> None:
        super().__init__(name=name, twin=cast(Any, station), time_scale=time_scale)
        self._station, self._stage = station, stage
        self.counts.name = name

    def trigger(self) -> DeviceStatus:
        """Count; the status is done when the counts can be read."""
        self._check_reachable()
        dwell_s = float(self.exposure_s.get())
        y, x = np.array([self._stage.y.position]), np.array([self._stage.x.position])
        return self._start(dwell_s, lambda: self.counts.put(int(self._station.take(y, x, dwell_s)[0])))


class SimMesh(TwinDetector):
    """Current of a mesh before the zone plate."""

    current = Component(SimSignal, value=0.0, precision=5, kind=Kind.hinted)
    exposure_s = Component(ExposureSignal, value=0.1, units="s", precision=5, kind=Kind.config)

    def __init__(self, *, name: str, station: Any, measure: Callable[[], float]) -> None:
        super().__init__(name=name, twin=station, time_scale=0.0)
        self._measure = measure
        self.current.name = name

    def trigger(self) -> DeviceStatus:
        """Take a reading."""
        self._check_reachable()
        return self._start(0.0, lambda: self.current.put(self._measure()))


class SimStxmBeamline:
    """Simulated scanning transmission X-ray microscope.

    Parameters
    ----------
    seed : int
        Of the noise.
    settings : StxmSettings, optional
        Knobs of the microscope and of what lies in its field.
    time_scale : float
        Real seconds per simulated second; 0 waits for nothing.

    Attributes
    ----------
    energy, shutter
        Named "stxm_energy" and "stxm_shutter".
    zone_plate, aperture
        Distances from the sample, um; named "stxm_zone_plate" and "stxm_aperture".
    stage
        Fine stage with the axes x and y, named "stxm_stage".
    line_counter, counter
        Photon counter along a line, and at a point; named "stxm_line" and "stxm_counter".
    mesh
        Named "stxm_mesh".
    station : StxmStation
        The physics behind them.

    Examples
    --------
    >>> beamline = SimStxmBeamline()
    >>> round(beamline.focus_table([850.0, 860.0])["zone_plate_um"][0])
    5759
    """

    def __init__(
        self, *, seed: int = 1, settings: StxmSettings | None = None, time_scale: float = 0.0
    ) -> None:
        self.station = station = StxmStation(settings, seed=seed)
        self.energy = SimSoftEnergy(name="stxm_energy", station=cast(Any, station), time_scale=time_scale)
        self.shutter = SimNamedPosition(
            name="stxm_shutter",
            positions=("closed", "open"),
            twin=cast(Any, station),
            apply=self._set_shutter,
            duration_s=0.05,
            time_scale=time_scale,
        )
        self.zone_plate, self.aperture = (
            SimOptic(name=f"stxm_{name}", station=station, attribute=f"{name}_um", time_scale=time_scale)
            for name in ("zone_plate", "aperture")
        )
        self.stage = SimFineStage(name="stxm_stage", twin=cast(Any, station), time_scale=time_scale)
        self.line_counter = SimLineCounter(
            name="stxm_line", station=station, stage=self.stage, time_scale=time_scale
        )
        self.counter = SimPointCounter(
            name="stxm_counter", station=station, stage=self.stage, time_scale=time_scale
        )
        self.mesh = SimMesh(name="stxm_mesh", station=station, measure=station.take_mesh)

    def focus_table(self, energies_ev: Any, aperture_um: float = 400.0) -> dict[str, list[float]]:
        """Return the table of focus as it would be measured: energies and distances from the sample."""
        energies = [float(energy) for energy in energies_ev]
        return {
            "energy_ev": energies,
            "zone_plate_um": [self.station.focal_length_um(energy) for energy in energies],
            "aperture_um": [aperture_um] * len(energies),
        }

    def truth(self, y_um: Any, x_um: Any) -> StxmTruth:
        """Return what a perfect analysis would find at the points of a raster, seen with the spot in focus."""
        spot_nm = float(np.hypot(self.station.settings.jitter_nm, self.station.sharpest_nm))
        return self.station.truth(np.asarray(y_um, float), np.asarray(x_um, float), spot_nm=spot_nm)

    def _set_shutter(self, position: str) -> str:
        self.station.shutter_open = position == "open"
        return position
