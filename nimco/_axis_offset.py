"""The option --axis-offset: what to do about an offset between the energy axes of scan and references."""

from edge_fitting import EdgeFittingError, OffsetChoice, check_offset
from nimco.errors import NimcoError


def parse_axis_offset(text: str) -> OffsetChoice:
    """Read ``report``, ``fit`` or a number of eV.

    Raises
    ------
    NimcoError
        It is none of these.
    """
    try:
        return check_offset(text if text in ("report", "fit") else float(text))
    except (ValueError, EdgeFittingError) as error:
        raise NimcoError(
            f"--axis-offset {text!r} cannot be used; give report, fit, or the offset in eV such as 0.3."
        ) from error
