"""What a plan says when it refuses."""

__all__ = ["FrameError", "GridError", "NotSafeError", "PlanError"]


class PlanError(ValueError):
    """A plan was asked for something it cannot or must not do."""


class GridError(PlanError):
    """The energies of a scan make no sense."""


class FrameError(PlanError):
    """A frame could not be taken, even after the allowed number of attempts."""


class NotSafeError(PlanError):
    """A scan has ended and something is not as it has to be left: shutter, sample, filters or energy."""
