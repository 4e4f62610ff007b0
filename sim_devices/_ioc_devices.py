"""The real device classes, connected to the simulated EPICS beamline."""

from dataclasses import dataclass
from pathlib import Path

from beamline_devices.epics import (
    EpicsCamera,
    EpicsElectrometer,
    EpicsFilters,
    EpicsFluorescence,
    EpicsSampleStage,
    EpicsScaler,
    EpicsShutter,
    FollowingAxis,
    Monochromator,
    RegionOfInterest,
    ZonePlate,
    ZonePlateOptics,
    connect_devices,
)
from sim_devices._settings import MonoSettings
from sim_devices._yields import FLUORESCENCE_EV

__all__ = ["IOCBeamline", "connect_ioc"]

_TABLE_EV = tuple(range(5000, 12001, 100))
_SAMPLE_TO_CAMERA_MM = 1000.0
_PIXEL_UM = 1.2


@dataclass(frozen=True)
class IOCBeamline:
    """Devices of the simulated EPICS beamline, with the roles of `SimBeamline`.

    Attributes
    ----------
    energy, camera, shutter, stage, i0
        What a scan needs.
    optics, filters, electrometer, fluorescence
        What else there is. The optics follow the energy.
    """

    energy: Monochromator
    camera: EpicsCamera
    shutter: EpicsShutter
    stage: EpicsSampleStage
    i0: EpicsScaler
    optics: ZonePlateOptics
    filters: EpicsFilters
    electrometer: EpicsElectrometer
    fluorescence: EpicsFluorescence

    @property
    def pixel_size_nm(self) -> float:
        """Pixel size at the sample in nm."""
        return float(self.camera.pixel_size_nm.get())


def connect_ioc(
    prefix: str = "SIM:", *, data_dir: Path | str, pixel_size_nm: float = 0.0, timeout_s: float = 10.0
) -> IOCBeamline:
    """Connect the real device classes to the simulated EPICS beamline.

    This is also what a beamline's own start-up file looks like: names of records, limits, calibration tables.

    Parameters
    ----------
    prefix : str
        In front of every PV name.
    data_dir : Path or str
        Folder for the HDF5 files of the camera.
    pixel_size_nm : float
        Pixel size at the sample, for the record.
    timeout_s : float
        How long to wait for the IOC.

    Raises
    ------
    NotConnectedError
        When the IOC does not answer.
    """
    mono = MonoSettings()
    zone_plate = ZonePlate(diameter_um=125.0, outermost_zone_nm=30.0)
    table = zone_plate.table(
        _TABLE_EV, sample_to_camera_mm=_SAMPLE_TO_CAMERA_MM, at_energy_ev=8333.0, at_position_mm=26.0
    )
    optics = ZonePlateOptics(
        prefix,
        name="optics",
        axes={"z": FollowingAxis("zp:z", table)},
        zone_plate=zone_plate,
        camera_pixel_um=_PIXEL_UM,
        sample_to_camera_mm=_SAMPLE_TO_CAMERA_MM,
    )
    energy = Monochromator(
        prefix,
        bragg="mono:bragg",
        name="energy",
        d_spacing_a=mono.d_spacing_a,
        limits_ev=(mono.low_ev, mono.high_ev),
        settle_s=0.0,
        settle_s_per_ev=0.0,
        followers=[optics],
    )
    camera = EpicsCamera(
        prefix + "CAM:", name="camera", write_path=str(Path(data_dir).resolve()), pixel_size_nm=pixel_size_nm
    )
    shutter = EpicsShutter(prefix, name="shutter", command="shutter:Set", status="shutter:Status")
    stage = EpicsSampleStage(
        prefix,
        name="sample",
        axes={name: f"stage:{name}" for name in ("x", "y", "z", "rotation")},
        in_position={"x": 0.0},
        out_position={"x": 5.0},
    )
    i0 = EpicsScaler(prefix + "scaler1", name="i0", channels={"i0": 2, "it": 3, "iref": 4})
    filters = EpicsFilters(
        prefix,
        name="filters",
        blades={f"blade{n}": (f"filter{n}:Set", f"filter{n}:Status") for n in (1, 2, 3, 4)},
        choices={"none": (), "thin": ("blade1",), "thick": ("blade1", "blade2", "blade3", "blade4")},
    )
    electrometer = EpicsElectrometer(
        prefix + "EM:", name="electrometer", channels={"tey": 3, "fy": 4, "i0": 1, "it": 2}
    )
    fluorescence = EpicsFluorescence(
        prefix + "mca1",
        name="fluorescence",
        rois={metal.lower(): RegionOfInterest.around(line) for metal, line in FLUORESCENCE_EV.items()},
    )
    beamline = IOCBeamline(
        energy=energy,
        camera=camera,
        shutter=shutter,
        stage=stage,
        i0=i0,
        optics=optics,
        filters=filters,
        electrometer=electrometer,
        fluorescence=fluorescence,
    )
    connect_devices(
        energy, camera, shutter, stage, i0, optics, filters, electrometer, fluorescence, timeout_s=timeout_s
    )
    return beamline
