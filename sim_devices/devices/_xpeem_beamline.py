"""The photoemission electron microscope as devices."""

from typing import Any, cast

import numpy as np
from ophyd import Component, DeviceStatus, Kind

from sim_devices.twin import StxmTruth, XpeemSettings, XpeemStation

from ._positions import SimNamedPosition
from ._signals import ExposureSignal, SimSignal
from ._soft_beamline import SimSoftEnergy
from ._stxm_beamline import SimMesh
from ._twin_device import TwinDetector

__all__ = ["SimXpeemBeamline"]


class SimXpeemCamera(TwinDetector):
    """Camera behind the channel plate: one trigger, one frame of counts inside the event."""

    image = Component(SimSignal, shape=(1, 1), dtype_numpy="<u2", units="counts", kind=Kind.normal)
    mean = Component(SimSignal, value=0.0, units="counts", precision=1, kind=Kind.hinted)
    exposure_s = Component(ExposureSignal, value=1.0, units="s", precision=3, kind=Kind.config)

    def __init__(self, *, name: str, station: XpeemStation, time_scale: float = 0.0) -> None:
        super().__init__(name=name, twin=cast(Any, station), time_scale=time_scale)
        self._station = station
        self.image.amend(shape=list(station.settings.shape))
        self.image.put(np.zeros(station.settings.shape, np.uint16))

    def trigger(self) -> DeviceStatus:
        """Expose one frame; the status is done when it can be read."""
        self._check_reachable()
        exposure_s = float(self.exposure_s.get())

        def read_out() -> None:
            frame = self._station.take(exposure_s)
            self.image.put(frame)
            self.mean.put(float(frame.mean()))

        return self._start(exposure_s, read_out)


class SimXpeemBeamline:
    """Simulated photoemission electron microscope.

    Parameters
    ----------
    seed : int
        Of noise and pattern.
    settings : XpeemSettings, optional
        Knobs of the microscope and of what lies in its field.
    time_scale : float
        Real seconds per simulated second; 0 waits for nothing.

    Attributes
    ----------
    energy, shutter, sample
        Named "xpeem_energy", "xpeem_shutter" and "xpeem_sample"; the sample is "in" or "out" for a plain surface.
    camera, mesh
        Named "xpeem_camera" and "xpeem_mesh".
    station : XpeemStation
        The physics behind them.
    """

    def __init__(
        self, *, seed: int = 1, settings: XpeemSettings | None = None, time_scale: float = 0.0
    ) -> None:
        self.station = station = XpeemStation(settings, seed=seed)
        twin = cast(Any, station)
        self.energy = SimSoftEnergy(name="xpeem_energy", station=twin, time_scale=time_scale)
        self.shutter, self.sample = (
            SimNamedPosition(
                name=f"xpeem_{name}",
                positions=positions,
                twin=twin,
                apply=apply,
                duration_s=0.05,
                time_scale=time_scale,
            )
            for name, positions, apply in (
                ("shutter", ("closed", "open"), self._set_shutter),
                ("sample", ("in", "out"), self._set_sample),
            )
        )
        self.camera = SimXpeemCamera(name="xpeem_camera", station=station, time_scale=time_scale)
        self.mesh = SimMesh(name="xpeem_mesh", station=station, measure=station.take_mesh)
        self.pixel_size_nm = station.pixel_nm

    def truth(self) -> StxmTruth:
        """Return what a perfect analysis would find; its thickness is the share of a pixel that is grain."""
        return self.station.truth()

    def _set_shutter(self, position: str) -> str:
        self.station.shutter_open = position == "open"
        return position

    def _set_sample(self, position: str) -> str:
        self.station.sample_in = position == "in"
        return position
