"""The option --soc-range: the colours of a picture from one state of charge to another."""

from nimco.errors import NimcoError


def parse_soc_range(text: str | None) -> tuple[float, float] | None:
    """Read "LOW,HIGH".

    Raises
    ------
    NimcoError
        If the text is no rising pair of numbers.
    """
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise NimcoError(f"--soc-range must be LOW,HIGH such as 0,1, not '{text}'.") from None
    if not -1e6 < low < high < 1e6:
        raise NimcoError(f"--soc-range must rise, such as 0,1; '{text}' does not.")
    return low, high
