"""The whole simulated beamline in one object."""

from pathlib import Path

from beamline_devices import DeviceError
from sim_devices.twin import (
    Fault,
    Faults,
    IonChambers,
    Truth,
    Twin,
    TwinSettings,
    VolumeSettings,
    VolumeTruth,
    edge_of_twin,
    yields_of,
)

from ._camera import SimCamera
from ._counters import SimElectrometer, SimFluorescence, SimIonChamber, SimPointDetector
from ._energy import SimEnergy
from ._flyer import SimEnergyFlyer
from ._optics import SimOptics
from ._positions import SimAxis, SimFilters, SimNamedPosition, SimSampleStage

__all__ = ["SimBeamline"]

_FULL_FRAME = 1024
_FULL_FRAME_PIXEL_NM = 31.2


class SimBeamline:
    """Simulated full-field microscope: an electrode of NMC622 in transmission.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the camera. Up to 1024 pixels the field of view stays 32 um and the pixels grow, as
        with binning.
    seed : int
        Everything random follows from it: two beamlines of one seed give the same frames in the same order.
    pixel_size_nm : float, optional
        Pixel size at the sample; by default 31.2 nm times the binning.
    settings : TwinSettings, optional
        The knobs of the twin.
    time_scale : float
        Real seconds per simulated second of motion and exposure; 0 waits for nothing.
    data_dir : Path, optional
        Where flights are recorded; by default a new temporary folder.

    Attributes
    ----------
    energy, camera, shutter, stage, i0
        The devices a scan needs, named "energy", "camera", "shutter", "sample" and "i0".
    optics, ring, filters, electrometer, fluorescence
        What else there is, named "optics" (follows the energy), "ring_current", "filters", "electrometer" and
        "fluorescence".
    fine_y, fine_x
        Axes in um on top of the stage, named "fine_y" and "fine_x": they displace the picture along rows and columns
        and stay where they are when the stage takes the sample out.
    i0_chamber, it_chamber, iref_chamber
        Ion chambers of the end station for point spectra: before the sample, behind it, and behind the reference foil
        that follows it; named like that.
    flyer
        Moves the energy evenly and records the ion chambers on the way; named "flyer".
    twin : Twin
        The physics behind them.

    Examples
    --------
    >>> beamline = SimBeamline(shape=(64, 64))
    >>> beamline.truth("Ni_K").soc.shape
    (64, 64)
    """

    def __init__(
        self,
        shape: tuple[int, int] = (256, 256),
        *,
        seed: int = 1,
        pixel_size_nm: float | None = None,
        settings: TwinSettings | None = None,
        time_scale: float = 0.0,
        data_dir: Path | None = None,
    ) -> None:
        if pixel_size_nm is None:
            pixel_size_nm = _FULL_FRAME_PIXEL_NM * max(_FULL_FRAME / max(min(shape), 1), 1.0)
        if time_scale < 0:
            raise DeviceError(f"time_scale cannot be negative ({time_scale:g})")
        self.twin = Twin(shape, pixel_size_nm=pixel_size_nm, seed=seed, settings=settings or TwinSettings())
        self.optics = SimOptics(name="optics", twin=self.twin, time_scale=time_scale)
        self.energy = SimEnergy(name="energy", twin=self.twin, followers=[self.optics], time_scale=time_scale)
        self.camera = SimCamera(name="camera", twin=self.twin, time_scale=time_scale)
        self.shutter = SimNamedPosition(
            name="shutter",
            positions=("closed", "open"),
            twin=self.twin,
            apply=self._set_shutter,
            duration_s=0.05,
            time_scale=time_scale,
        )
        self.stage = SimSampleStage(name="sample", twin=self.twin, time_scale=time_scale)
        self.fine_y, self.fine_x = (
            SimAxis(
                name=f"fine_{axis}",
                twin=self.twin,
                units="um",
                limits=(-500.0, 500.0),
                speed=50.0,
                time_scale=time_scale,
            )
            for axis in "yx"
        )
        for fine in (self.fine_y, self.fine_x):
            fine.when_moved(self._set_fine)
        self.filters = SimFilters(name="filters", twin=self.twin, time_scale=time_scale)
        self.i0 = SimPointDetector(name="i0", units="nA", twin=self.twin, measure=self.twin.read_i0)
        self.foil = SimPointDetector(name="foil", units="nA", twin=self.twin, measure=self._behind_foil)
        self.ring = SimPointDetector(
            name="ring_current", units="mA", twin=self.twin, measure=lambda: self.twin.ring_current_ma
        )
        chambers = IonChambers(self.twin, seed=seed)
        self.i0_chamber, self.it_chamber, self.iref_chamber = (
            SimIonChamber(
                name=f"{chamber}_chamber",
                twin=self.twin,
                chambers=chambers,
                chamber=chamber,
                time_scale=time_scale,
            )
            for chamber in IonChambers.names
        )
        self.flyer = SimEnergyFlyer(
            name="flyer",
            twin=self.twin,
            energy=self.energy,
            chambers=chambers,
            keys={chamber: f"{chamber}_chamber" for chamber in IonChambers.names},
            folder=data_dir,
            time_scale=time_scale,
        )
        self.electrometer = SimElectrometer(name="electrometer", twin=self.twin, time_scale=time_scale)
        self.fluorescence = SimFluorescence(
            name="fluorescence", twin=self.twin, seed=seed, time_scale=time_scale
        )

    def _behind_foil(self) -> float:
        """Intensity behind sample and reference foil in nA."""
        return self.twin.read_i0() * float(self.twin.shutter_open) * yields_of(self.twin).behind_foil

    def _set_fine(self) -> None:
        self.twin.fine_um = (self.fine_y.position, self.fine_x.position)

    def _set_shutter(self, position: str) -> str:
        if position == "open" and not self.twin.shutter_open:
            if self.faults.occurs(Fault.SHUTTER_STUCK):
                return "closed"
            if self.faults.occurs(Fault.SHUTTER_SILENT):
                return "open"
        self.twin.shutter_open = position == "open"
        return position

    @property
    def faults(self) -> Faults:
        """What is to go wrong, armed by tests and by those who train for it."""
        return self.twin.faults

    @property
    def pixel_size_nm(self) -> float:
        """Pixel size at the sample in nm."""
        return self.twin.pixel_size_nm

    def load_standard(self, edge: str, soc: float) -> None:
        """Replace the sample by a uniform pellet of known state of charge.

        Parameters
        ----------
        edge : str
            Edge it will be measured at: Ni_K, Mn_K or Co_K.
        soc : float
            State of charge between 0 and 1.
        """
        edge_of_twin(edge)  # refuses what it has not
        self.twin.load_pellet(soc)

    def load_compound(self, name: str) -> None:
        """Replace the sample by a foil or pellet of a pure compound, such as "Ni" or "NiO"."""
        self.twin.load_compound(name)

    def load_electrode(self) -> None:
        """Put the electrode back on the stage."""
        self.twin.load_electrode()

    def load_volume(self, settings: VolumeSettings | None = None) -> None:
        """Put particles with three dimensions on the stage, which `stage.rotation` turns."""
        self.twin.load_volume(settings)

    def volume_truth(self, edge: str) -> VolumeTruth:
        """Return what is really in each voxel of the sample."""
        return self.twin.volume_truth(edge)

    def truth(self, edge: str, *, whole: bool = False) -> Truth:
        """Return what is really in the beam, as maps; or in the whole of a sample that is larger than the field."""
        return self.twin.truth(edge, whole=whole)
