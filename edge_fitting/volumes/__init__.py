"""Particles, cracks and damage in volumes, and a quantity such as state of charge in their zones."""

from ._cracks import CrackKind, VolumeCracks, segment_volume_cracks
from ._damage import DAMAGE_LIMITS, Damage, DamageProfile, check_limits, damage_classes, damage_profile
from ._levels import MaterialLevels
from ._segment import VolumeSegmentation, split_volume
from ._zones import VolumeZones, volume_zones

__all__ = [
    "DAMAGE_LIMITS",
    "CrackKind",
    "Damage",
    "DamageProfile",
    "MaterialLevels",
    "VolumeCracks",
    "VolumeSegmentation",
    "VolumeZones",
    "check_limits",
    "damage_classes",
    "damage_profile",
    "segment_volume_cracks",
    "split_volume",
    "volume_zones",
]
