"""Holding a scan while there is no beam."""

from collections.abc import Sequence
from typing import Any, Optional

import bluesky.plan_stubs as bps
from bluesky.suspenders import SuspendFloor
from bluesky.utils import MsgGenerator

from ._errors import PlanError

__all__ = ["beam_suspenders"]


def beam_suspenders(
    signals: Sequence[tuple[Any, float, float]], *, settle_s: float = 10.0, shutter: Optional[Any] = None
) -> list[SuspendFloor]:
    """Make suspenders that hold a scan while the beam is gone.

    While a scan is held the shutter is closed, if one is given. When every signal is back, and
    `settle_s` later, the scan goes on with the energy it was at: it is taken again, marked as another
    attempt.

    Parameters
    ----------
    signals : sequence of (signal, lowest, resume)
        What to watch, such as the ring current and I0: a subscribable signal, the value below which the scan
        is held, and the value above which it goes on.
    settle_s : float
        How long to wait after a signal is back, in seconds.
    shutter : Shutter, optional
        Closed while the scan is held.

    Returns
    -------
    list of SuspendFloor
        For ``RE.install_suspender(...)`` or ``bluesky.preprocessors.suspend_wrapper``.

    Raises
    ------
    PlanError
        If a resume value is not above the lowest one or the settling time is negative.
    """
    if settle_s < 0:
        raise PlanError(f"settle_s must not be negative, not {settle_s}.")

    def close() -> MsgGenerator[None]:
        yield from bps.mv(shutter, "closed")

    suspenders = []
    for signal, lowest, resume in signals:
        if not resume > lowest:
            raise PlanError(
                f"{signal.name} must come back above {lowest:g}, not {resume:g}, before the scan goes on."
            )
        suspenders.append(
            SuspendFloor(
                signal,
                lowest,
                resume_thresh=resume,
                sleep=settle_s,
                pre_plan=None if shutter is None else close,
                tripped_message=f"{signal.name} fell below {lowest:g}",
            )
        )
    return suspenders
