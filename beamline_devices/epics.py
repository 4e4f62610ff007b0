"""Device classes that drive real hardware over EPICS, made with ophyd.

Importing this module starts Channel Access: set ``EPICS_CA_ADDR_LIST`` and the like before.
"""

from importlib.util import find_spec

from beamline_devices._axis import EpicsAxis
from beamline_devices._bragg import bragg_angle_deg, bragg_energy_ev, silicon_spacing_angstrom
from beamline_devices._calibration_table import CalibrationTable
from beamline_devices._camera import EpicsCamera
from beamline_devices._continuous import ContinuousAcquisition
from beamline_devices._monochromator import EnergyFollower, Monochromator, UndulatorMonochromator
from beamline_devices._named_positions import EpicsFilters, EpicsSampleStage, EpicsShutter
from beamline_devices._point_detectors import (
    EpicsElectrometer,
    EpicsFluorescence,
    EpicsScaler,
    RegionOfInterest,
)
from beamline_devices._tasks import connect_devices
from beamline_devices._zone_plate import FollowingAxis, ZonePlate, ZonePlateOptics
from scan_contract import MissingPackageError

if not any(find_spec(client) for client in ("epics", "caproto")):  # ophyd would take none of its own accord
    raise MissingPackageError("devices of EPICS", "epics", "epics")

__all__ = [
    "CalibrationTable",
    "ContinuousAcquisition",
    "EnergyFollower",
    "EpicsAxis",
    "EpicsCamera",
    "EpicsElectrometer",
    "EpicsFilters",
    "EpicsFluorescence",
    "EpicsSampleStage",
    "EpicsScaler",
    "EpicsShutter",
    "FollowingAxis",
    "Monochromator",
    "RegionOfInterest",
    "UndulatorMonochromator",
    "ZonePlate",
    "ZonePlateOptics",
    "bragg_angle_deg",
    "bragg_energy_ev",
    "connect_devices",
    "silicon_spacing_angstrom",
]
