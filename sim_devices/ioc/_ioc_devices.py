"""The real device classes, connected to the simulated EPICS beamline."""

from dataclasses import dataclass
from pathlib import Path

from beamline_devices.epics import (
    CalibrationTable,
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
from sim_devices.twin import FLUORESCENCE_EV, NI_K_EV, MonoSettings

__all__ = ["IOCBeamline", "connect_ioc"]

_TABLE_EV = tuple(range(5000, 12001, 100))
_MAGNIFICATION = 37.6
_PIXEL_UM = 1.2
_ZONE_PLATE_MM = 26.0
_CAMERA_MM = 1000.0


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


def _following_axes(zone_plate: ZonePlate) -> dict[str, FollowingAxis]:
    """Zone plate and camera over the energy, from theory and one focus found by hand; the magnification stays."""

    def distances_mm(energy_ev: float) -> tuple[float, float]:
        to_lens = zone_plate.object_distance_mm(energy_ev, _MAGNIFICATION)
        return to_lens, to_lens + zone_plate.image_distance_mm(energy_ev, _MAGNIFICATION)

    focused = distances_mm(NI_K_EV)
    lens, camera = zip(*(distances_mm(energy_ev) for energy_ev in _TABLE_EV), strict=True)
    return {
        "z": FollowingAxis(
            "zp:z", CalibrationTable(_TABLE_EV, [_ZONE_PLATE_MM + mm - focused[0] for mm in lens])
        ),
        "camera": FollowingAxis(
            "zp:camera", CalibrationTable(_TABLE_EV, [_CAMERA_MM + mm - focused[1] for mm in camera])
        ),
    }


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
    optics = ZonePlateOptics(
        prefix,
        name="optics",
        axes=_following_axes(zone_plate),
        zone_plate=zone_plate,
        camera_pixel_um=_PIXEL_UM,
        magnification=_MAGNIFICATION,
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
        prefix + "CAM:",
        name="camera",
        write_path=str(Path(data_dir).resolve()),
        pixel_size_nm=pixel_size_nm,
        bit_depth="cam1:BitsPerPixel_RBV",
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
