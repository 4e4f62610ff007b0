"""Numbers that cannot be in the unit that they are meant to be in."""

__all__ = ["LONGEST_EXPOSURE_S", "exposure_slip", "pixel_size_slip"]

#: No frame of an energy scan is exposed longer; what is more was given in milliseconds.
LONGEST_EXPOSURE_S = 60.0
# From the pixel of a ptychogram to that of a raster with a hard X-ray beam that is not focused.
_PIXELS_NM = (0.5, 1e6)


def exposure_slip(exposure_s: float) -> str | None:
    """Return what is wrong with the exposure of a frame; None for one that can be meant.

    Parameters
    ----------
    exposure_s : float
        Exposure of one frame in seconds.
    """
    if exposure_s <= LONGEST_EXPOSURE_S:
        return None
    return (
        f"{exposure_s:g} s, more than the {LONGEST_EXPOSURE_S:g} s a frame may take: seconds are meant "
        f"({exposure_s:g} ms are {exposure_s / 1000:g} s); expose longer by repeats"
    )


def pixel_size_slip(pixel_size_nm: float) -> str | None:
    """Return what is wrong with a pixel size; None for one that can be meant.

    Parameters
    ----------
    pixel_size_nm : float
        Pixel size at the sample in nm.
    """
    low, high = _PIXELS_NM
    if low <= pixel_size_nm <= high:
        return None
    um = f" ({pixel_size_nm:g} um are {pixel_size_nm * 1000:g} nm)" if 0 < pixel_size_nm < low else ""
    return f"{pixel_size_nm:g}, where nanometres are meant{um}"
