"""Knobs of a sample with three dimensions and of the stage that turns it."""

import math
from dataclasses import dataclass, fields

from beamline_devices import DeviceError

__all__ = ["VolumeSettings"]

_MAY_BE_NEGATIVE = ("shell_excess", "crack_excess", "axis_offset_px")


@dataclass(frozen=True)
class VolumeSettings:
    """Particles of layered oxide with binder-free space between them, and particles of another phase.

    Attributes
    ----------
    n_particles, n_other : int
        Particles of NMC622, and of manganese dioxide, which has no nickel.
    radius : tuple of float
        Smallest and largest radius of a particle, over the width of the field.
    fill : float
        Radius of the cylinder that holds them, over half the width of the field.
    density : float
        Share of a particle's volume that is oxide.
    mean_soc, particle_spread, grain_spread : float
        Mean state of charge, its standard deviation between particles, and between the grains of a particle.
    shell_excess : float
        State of charge at the surface of a particle minus that at its centre.
    crack_excess : float
        How far the state of charge beside a crack lies above that of the particle.
    wide_cracks, fine_cracks : float
        Mean number of either in a particle.
    wide_voxels, fine_voxels : float
        Width of either in voxels; fine ones are narrower than one and only lower the density.
    axis_offset_px : float
        By how far the axis of rotation lies beside the middle column.
    runout_px : float
        Amplitude by which the axis wanders along columns, and half of that along rows, while it turns.
    """

    n_particles: int = 7
    n_other: int = 1
    radius: tuple[float, float] = (0.13, 0.22)
    fill: float = 0.86
    density: float = 0.9
    mean_soc: float = 0.5
    particle_spread: float = 0.15
    grain_spread: float = 0.03
    shell_excess: float = 0.2
    crack_excess: float = 0.1
    wide_cracks: float = 1.0
    fine_cracks: float = 2.0
    wide_voxels: float = 2.5
    fine_voxels: float = 0.5
    axis_offset_px: float = 0.0
    runout_px: float = 0.0

    def __post_init__(self) -> None:
        for knob in fields(self):
            value = getattr(self, knob.name)
            for number in value if isinstance(value, tuple) else (value,):
                if not math.isfinite(number) or (number < 0 and knob.name not in _MAY_BE_NEGATIVE):
                    raise DeviceError(
                        f"VolumeSettings.{knob.name} has to be a finite number, not negative, not {number:g}"
                    )
        if not 0.0 < self.radius[0] <= self.radius[1] < 0.5 or not 0.0 < self.fill <= 1.0:
            raise DeviceError(
                "VolumeSettings.radius has to rise within 0 to 0.5 and fill within 0 to 1: particles stay in the field"
            )
