"""Camera of the twin as a device."""

import numpy as np
from ophyd import Component, DeviceStatus, Kind

from beamline_devices import DeviceError, DeviceTimeoutError
from sim_devices.twin import Fault, Twin

from ._signals import ExposureSignal, SimSignal
from ._twin_device import TwinDetector

__all__ = ["SimCamera"]


class SimCamera(TwinDetector):
    """Camera of the twin: one trigger, one frame of 16-bit counts inside the event.

    Parameters
    ----------
    name : str
        Name of the device; the frame is ``<name>_image``.
    twin : Twin
        The simulated beamline.
    time_scale : float
        Real seconds per simulated second; 0 exposes at once.
    """

    image = Component(SimSignal, shape=(1, 1), dtype_numpy="<u2", units="counts", kind=Kind.normal)
    mean = Component(SimSignal, units="counts", precision=1, kind=Kind.hinted)
    frame_number = Component(SimSignal, value=0, dtype_numpy="<i8", kind=Kind.normal)
    exposure_s = Component(ExposureSignal, value=0.5, units="s", precision=4, kind=Kind.config)
    pixel_size_nm = Component(SimSignal, units="nm", precision=2, kind=Kind.config)
    saturation_counts = Component(SimSignal, units="counts", precision=0, kind=Kind.config)

    def __init__(self, *, name: str, twin: Twin, time_scale: float = 0.0) -> None:
        super().__init__(name=name, twin=twin, time_scale=time_scale)
        self.image.amend(shape=list(twin.shape))
        self.image.put(np.zeros(twin.shape, dtype=np.uint16))
        self.pixel_size_nm.put(twin.pixel_size_nm)
        self.saturation_counts.put(float(twin.settings.camera.full_well))

    def trigger(self) -> DeviceStatus:
        """Expose one frame; the status is done when it can be read."""
        self._check_reachable()
        faults = self._twin.faults
        exposure_s = float(self.exposure_s.get())
        if faults.occurs(Fault.CAMERA_TIMEOUT):
            return self._start(exposure_s + 10.0, self._time_out, in_thread=True)
        stale = faults.occurs(Fault.STALE_FRAME)
        dropped = faults.occurs(Fault.DROPPED_FRAME)
        exposure = self._twin.begin(exposure_s)

        def read_out() -> None:
            if dropped:
                raise DeviceError(f"{self.name} lost frame {exposure.number}")
            if not stale:
                frame = self._twin.render(exposure)
                self.image.put(frame)
                self.mean.put(float(frame.mean()))
                self.frame_number.put(exposure.number)

        return self._start(exposure_s, read_out, in_thread=True)

    def _time_out(self) -> None:
        raise DeviceTimeoutError(f"{self.name} gave no frame within 10 s after its exposure")
