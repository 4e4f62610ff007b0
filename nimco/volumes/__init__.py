"""Volumes and rotation series from and to files."""

from ._volume import Volume
from ._volume_files import read_volume, write_volume

__all__ = ["Volume", "read_volume", "write_volume"]
