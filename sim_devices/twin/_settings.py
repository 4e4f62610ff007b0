"""Knobs of the twin: one frozen dataclass per part, one field per property or imperfection.

By default the twin is a well-behaved instrument: it has noise, a flat field, a finite resolution and a slowly
changing source. `TwinSettings.ideal` switches every imperfection off, `TwinSettings.harsh` every one on.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from beamline_devices import DeviceError

from ._constants import NI_K_EV

__all__ = [
    "CameraSettings",
    "ChamberSettings",
    "MonoSettings",
    "OpticsSettings",
    "SampleSettings",
    "SourceSettings",
    "TwinSettings",
]


@dataclass(frozen=True)
class SampleSettings:
    """The electrode.

    Attributes
    ----------
    extent : float
        Height and width of the sample over those of the field of view, 1 or more.
    coverage : float
        Share of the field covered by secondary particles.
    diameter_um : tuple of float
        Smallest and largest diameter of a secondary particle; the field of view caps the largest.
    density : float
        Share of a particle's volume that is oxide, the rest being pores.
    grain_nm, grain_roughness : float
        Mean size of the primary grains, and the relative spread of their thickness.
    cracks : float
        Mean number of radial cracks in a particle.
    crack_nm : float
        Width of a crack.
    mean_soc, particle_spread, grain_spread : float
        Mean state of charge, its standard deviation between particles, and between the grains of a particle.
    shell_excess : float
        State of charge at the surface of a particle minus that at its centre.
    nickel_excess : float
        Ni fraction at the centre of a particle minus that at its surface, in exchange for Mn.
    film_depth : float
        Optical depth at 8 keV of binder, carbon and electrolyte, the same everywhere.
    """

    extent: float = 1.0
    coverage: float = 0.55
    diameter_um: tuple[float, float] = (5.0, 25.0)
    density: float = 0.9
    grain_nm: float = 400.0
    grain_roughness: float = 0.05
    cracks: float = 2.0
    crack_nm: float = 150.0
    mean_soc: float = 0.5
    particle_spread: float = 0.18
    grain_spread: float = 0.05
    shell_excess: float = 0.15
    nickel_excess: float = 0.0
    film_depth: float = 0.05


@dataclass(frozen=True)
class SourceSettings:
    """The storage ring and what steers its beam.

    Attributes
    ----------
    current_ma : float
        Ring current just after a top-up.
    lifetime_h : float
        Decay time of the current; 0 for a constant one.
    top_up_s : float
        Time between top-ups.
    drift, drift_period_s : float
        Relative amplitude and period of the slow change of intensity as the beam wanders.
    """

    current_ma: float = 400.0
    lifetime_h: float = 9.0
    top_up_s: float = 120.0
    drift: float = 0.02
    drift_period_s: float = 900.0


@dataclass(frozen=True)
class MonoSettings:
    """The double-crystal monochromator.

    Attributes
    ----------
    resolution : float
        Relative energy width (FWHM); 1.3e-4 for Si(111), 0 for a perfect one.
    offset_ev : float
        Readback minus true energy.
    drift_ev_per_h : float
        How fast that offset grows, as the crystals warm up.
    glitch_depth : float
        Largest relative loss of intensity at a glitch; 0 for none.
    d_spacing_a : float
        Lattice spacing of the reflection, Angstrom.
    low_ev, high_ev : float
        Range the axis accepts.
    speed_ev_s, settle_s : float
        Speed and settling time of a move.
    """

    resolution: float = 1.3e-4
    offset_ev: float = 0.0
    drift_ev_per_h: float = 0.0
    glitch_depth: float = 0.0
    d_spacing_a: float = 3.1356
    low_ev: float = 5000.0
    high_ev: float = 12000.0
    speed_ev_s: float = 50.0
    settle_s: float = 0.05


@dataclass(frozen=True)
class OpticsSettings:
    """Zone plate, stages and stray light.

    Attributes
    ----------
    blur_nm : float
        Width (FWHM) of the point spread function in focus.
    zone_plate_um, outermost_zone_nm : float
        Diameter and outermost zone width of the zone plate.
    magnification : float
        Magnification in focus.
    focus_ev, focus_mm : float
        An energy, and the position of the zone plate along the beam at which the image is sharp there.
    magnification_per_ev : float
        Relative change of the magnification per eV away from `focus_ev`, as from a camera that does not follow.
    drift_nm, drift_period_s : float
        Amplitude and time scale of the wandering of the sample.
    rotation_deg : float
        Amplitude of the slow turning of the sample about the middle of the field, on the time scale of the drift.
    runout_nm : float
        Amplitude of the shift of the image with energy, from the zone plate's travel.
    stray_light : float
        Share of the open beam that reaches the camera without having passed the sample.
    """

    blur_nm: float = 30.0
    zone_plate_um: float = 125.0
    outermost_zone_nm: float = 30.0
    magnification: float = 37.6
    focus_ev: float = NI_K_EV
    focus_mm: float = 26.0
    magnification_per_ev: float = 0.0
    drift_nm: float = 0.0
    drift_period_s: float = 600.0
    rotation_deg: float = 0.0
    runout_nm: float = 0.0
    stray_light: float = 0.0


@dataclass(frozen=True)
class CameraSettings:
    """The X-ray camera.

    Attributes
    ----------
    photons_per_s : float
        Mean detected photons per pixel and second in the open beam.
    gain : float
        Counts per detected photon.
    structure : float
        Standard deviation of the flat field, relative; it also tilts a little with energy.
    offset : float
        Counts without light.
    dark_per_s : float
        Mean dark charge, photon equivalents per second.
    read_noise : float
        Standard deviation of the read-out, counts.
    pattern_noise : float
        Standard deviation of the offset between pixels, counts.
    hot_pixels, dead_pixels : float
        Share of pixels with a thousandfold dark charge, and of those that see nothing.
    full_well : int
        Largest count.
    dead_time_s : float
        Time to read a frame out.
    shot_noise : bool
        Whether photons arrive at random.
    """

    photons_per_s: float = 20000.0
    gain: float = 1.0
    structure: float = 0.08
    offset: float = 100.0
    dark_per_s: float = 4.0
    read_noise: float = 2.0
    pattern_noise: float = 1.0
    hot_pixels: float = 0.0
    dead_pixels: float = 0.0
    full_well: int = 65535
    dead_time_s: float = 0.02
    shot_noise: bool = True


@dataclass(frozen=True)
class ChamberSettings:
    """Ion chambers before the sample (I0), behind it (It), and behind the reference foil (Iref).

    Attributes
    ----------
    noise : float
        Relative standard deviation of a current of 50 nA that is averaged for 1 s.
    dark_na : tuple of float
        Currents of the three without beam, nA.
    glitch_mismatch : float
        Part of a glitch of the monochromator that the chambers behind the sample see in addition.
    """

    noise: float = 2e-4
    dark_na: tuple[float, float, float] = (0.11, 0.07, 0.05)
    glitch_mismatch: float = 0.1


_MAY_BE_NEGATIVE = {
    "shell_excess",
    "nickel_excess",
    "offset_ev",
    "drift_ev_per_h",
    "magnification_per_ev",
    "dark_na",
}
_NOT_ZERO = {
    "density",
    "grain_nm",
    "top_up_s",
    "drift_period_s",
    "d_spacing_a",
    "speed_ev_s",
    "gain",
    "full_well",
}
_NOT_ZERO |= {"extent", "zone_plate_um", "outermost_zone_nm", "magnification", "photons_per_s"}


def _check(part: Any) -> None:
    for knob in fields(part):
        value = getattr(part, knob.name)
        for number in value if isinstance(value, tuple) else (value,):
            if not math.isfinite(number) or (number < 0 and knob.name not in _MAY_BE_NEGATIVE):
                problem = "a finite number, not negative"
            elif number == 0 and knob.name in _NOT_ZERO:
                problem = "above 0"
            else:
                continue
            raise DeviceError(f"{type(part).__name__}.{knob.name} has to be {problem}, not {number:g}")


@dataclass(frozen=True)
class TwinSettings:
    """All knobs of the twin.

    Raises
    ------
    DeviceError
        When a knob has a value that makes no sense.
    """

    sample: SampleSettings = field(default_factory=SampleSettings)
    source: SourceSettings = field(default_factory=SourceSettings)
    mono: MonoSettings = field(default_factory=MonoSettings)
    optics: OpticsSettings = field(default_factory=OpticsSettings)
    camera: CameraSettings = field(default_factory=CameraSettings)
    chambers: ChamberSettings = field(default_factory=ChamberSettings)

    def __post_init__(self) -> None:
        for part in fields(self):
            _check(getattr(self, part.name))
        if self.mono.low_ev >= self.mono.high_ev:
            raise DeviceError(
                f"MonoSettings.low_ev ({self.mono.low_ev:g}) has to be below high_ev ({self.mono.high_ev:g})"
            )

    @classmethod
    def ideal(cls) -> "TwinSettings":
        """Return an instrument without imperfections looking at the usual electrode."""
        return cls(
            source=SourceSettings(lifetime_h=0.0, drift=0.0),
            mono=MonoSettings(resolution=0.0),
            optics=OpticsSettings(blur_nm=0.0),
            camera=CameraSettings(
                structure=0.0,
                dark_per_s=0.0,
                read_noise=0.0,
                pattern_noise=0.0,
                dead_time_s=0.0,
                shot_noise=False,
            ),
            chambers=ChamberSettings(noise=0.0, dark_na=(0.0, 0.0, 0.0), glitch_mismatch=0.0),
        )

    @classmethod
    def harsh(cls) -> "TwinSettings":
        """Return an instrument with every imperfection a user may meet in one night."""
        return cls(
            sample=SampleSettings(cracks=4.0, shell_excess=0.3, nickel_excess=0.15),
            source=SourceSettings(lifetime_h=5.0, top_up_s=60.0, drift=0.05, drift_period_s=300.0),
            mono=MonoSettings(offset_ev=-1.4, drift_ev_per_h=0.5, glitch_depth=0.25),
            optics=OpticsSettings(
                magnification_per_ev=1e-5, drift_nm=150.0, rotation_deg=0.05, runout_nm=60.0, stray_light=0.02
            ),
            camera=CameraSettings(
                hot_pixels=5e-4, dead_pixels=5e-4, full_well=16383, gain=1.2, read_noise=4.0
            ),
        )
