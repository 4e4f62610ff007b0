"""What made a result."""

from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("nimco", "bluesky", "bluesky-tiled-plugins", "numba", "numpy", "tiled")


def software_versions() -> dict[str, str]:
    """Return the versions of what made a result."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
