"""What the records of the simulated IOC share: the twin as motors, shutter and detectors act on it."""

import math

import numpy as np
from numpy.typing import NDArray

from sim_devices.devices import SimBeamline
from sim_devices.twin import Fault, bragg_energy_ev

__all__ = ["Beam"]

_SAMPLE_IN_MM = 1.0
_UM_PER_MM = 1e3
_SHORTEST_MISS_DEG = 2e-3


class Beam:
    """The twin as the IOC drives it.

    Parameters
    ----------
    beamline : SimBeamline
        Its twin is what is measured; its devices are not used.
    """

    def __init__(self, beamline: SimBeamline) -> None:
        self.beamline = beamline
        self.twin = beamline.twin
        self.faults = beamline.faults
        self._at_mm = [0.0, 0.0]
        self.twin.sample_in = True

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the camera."""
        return self.twin.shape

    @property
    def spacing_a(self) -> float:
        """Lattice spacing of the crystals in angstrom."""
        return self.twin.settings.mono.d_spacing_a

    def set_angle(self, angle_deg: float, duration_s: float) -> None:
        """Take the monochromator to an angle."""
        self.twin.wait(duration_s)
        self.twin.energy_ev = bragg_energy_ev(angle_deg, self.spacing_a)

    def end_of_travel(self, start_deg: float, target_deg: float) -> float:
        """Where a move of the Bragg axis ends."""
        if start_deg == target_deg or not self.faults.occurs(Fault.ENERGY_STUCK):
            return target_deg
        miss = max(abs(target_deg - start_deg) * 0.1, _SHORTEST_MISS_DEG)
        return target_deg - math.copysign(miss, target_deg - start_deg)

    def set_sample(self, axis: int, position_mm: float, duration_s: float) -> None:
        """Take the sample to a place along rows (axis 0) or columns (axis 1); near 0 it is in the beam."""
        self.twin.wait(duration_s)
        self._at_mm[axis] = position_mm
        self.twin.sample_in = max(map(abs, self._at_mm)) < _SAMPLE_IN_MM
        if self.twin.sample_in:
            rows_mm, columns_mm = self._at_mm
            self.twin.stage_um = (rows_mm * _UM_PER_MM, columns_mm * _UM_PER_MM)

    def set_shutter(self, is_open: bool) -> bool:
        """Move the shutter; return whether it says that it is open."""
        if is_open and not self.twin.shutter_open:
            if self.faults.occurs(Fault.SHUTTER_STUCK):
                return False
            if self.faults.occurs(Fault.SHUTTER_SILENT):
                return True
        self.twin.shutter_open = is_open
        return is_open

    def expose(self, exposure_s: float) -> NDArray[np.uint16]:
        """Take one frame."""
        return self.twin.expose(exposure_s)

    def read_i0(self) -> float:
        """Incident current in nA upstream of the shutter."""
        return self.twin.read_i0()
