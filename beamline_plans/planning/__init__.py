"""What a plan will take, before it runs."""

from ._dry_run import DryRun, dry_run

__all__ = [
    "DryRun",
    "dry_run",
]
