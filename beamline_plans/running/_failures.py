"""What went wrong with a device, in words, and whether it may come back."""

from typing import Optional

from bluesky.utils import (
    FailedStatus,
)

#: How often something is tried before it counts as failed.
ATTEMPTS = 3
#: How often a control system that is lost is asked whether it is back.
POLL_S = 1.0


def describe_failure(error: Exception) -> str:
    """Say what went wrong: a failed status only wraps what its device raised."""
    cause = error.__cause__ if isinstance(error, FailedStatus) and error.__cause__ is not None else error
    return f"{type(cause).__name__}: {cause}"


def is_lost_connection(error: Optional[BaseException]) -> bool:
    """Say whether a device could not be reached; ophyd has an exception of its own for it, and a timeout."""
    while error is not None:
        if isinstance(error, ConnectionError) or type(error).__name__ in (
            "DisconnectedError",
            "NotConnected",
        ):
            return True
        if isinstance(error, TimeoutError) and "connect" in str(error):
            return True
        error = error.__cause__
    return False
