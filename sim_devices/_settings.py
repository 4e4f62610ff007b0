"""Knobs of the twin: one frozen dataclass per part, one field per property or imperfection."""

from dataclasses import dataclass, field

__all__ = ["CameraSettings", "MonoSettings", "SampleSettings", "SourceSettings", "TwinSettings"]


@dataclass(frozen=True)
class SampleSettings:
    """The electrode.

    Attributes
    ----------
    coverage : float
        Share of the field covered by secondary particles.
    diameter_um : tuple of float
        Smallest and largest diameter of a secondary particle.
    density : float
        Share of a particle's volume that is oxide, the rest being pores.
    mean_soc, particle_spread, grain_spread : float
        Mean state of charge, its standard deviation between particles, and between the grains of a particle.
    shell_excess : float
        State of charge at the surface of a particle minus that at its centre.
    grain_nm : float
        Mean size of the primary grains.
    film_depth : float
        Optical depth at 8 keV of binder, carbon and electrolyte, the same everywhere.
    """

    coverage: float = 0.55
    diameter_um: tuple[float, float] = (5.0, 25.0)
    density: float = 0.9
    mean_soc: float = 0.5
    particle_spread: float = 0.18
    grain_spread: float = 0.05
    shell_excess: float = 0.15
    grain_nm: float = 400.0
    film_depth: float = 0.05


@dataclass(frozen=True)
class SourceSettings:
    """Photons that reach the sample.

    Attributes
    ----------
    drift : float
        Relative amplitude of the slow change of intensity.
    drift_period_s : float
        Period of that change.
    """

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
    low_ev, high_ev : float
        Range the axis accepts.
    speed_ev_s, settle_s : float
        Speed and settling time of a move.
    """

    resolution: float = 1.3e-4
    offset_ev: float = 0.0
    low_ev: float = 5000.0
    high_ev: float = 12000.0
    speed_ev_s: float = 50.0
    settle_s: float = 0.05


@dataclass(frozen=True)
class CameraSettings:
    """The X-ray camera.

    Attributes
    ----------
    counts_per_s : float
        Mean counts per pixel and second in the open beam.
    structure : float
        Standard deviation of the flat-field, relative.
    offset : float
        Counts without light.
    dark_per_s : float
        Mean dark charge, counts per second.
    read_noise : float
        Standard deviation of the read-out, counts.
    saturation : int
        Largest count.
    """

    counts_per_s: float = 20000.0
    structure: float = 0.08
    offset: float = 100.0
    dark_per_s: float = 4.0
    read_noise: float = 2.0
    saturation: int = 65535


@dataclass(frozen=True)
class TwinSettings:
    """All knobs of the twin."""

    sample: SampleSettings = field(default_factory=SampleSettings)
    source: SourceSettings = field(default_factory=SourceSettings)
    mono: MonoSettings = field(default_factory=MonoSettings)
    camera: CameraSettings = field(default_factory=CameraSettings)
