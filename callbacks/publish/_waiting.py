"""What a spool folder holds for Tiled."""

from pathlib import Path

from ._publisher import SUFFIX as MAP_SUFFIX
from ._run_log import SUFFIX as RUN_SUFFIX


def waiting_in(spool_dir: Path) -> str:
    """Say how many runs and maps wait in a spool folder to be delivered; empty where there are none."""
    counts = ((RUN_SUFFIX, "run"), (MAP_SUFFIX, "map"))
    found = [(sum(1 for _ in spool_dir.glob(f"*{suffix}")), word) for suffix, word in counts]
    return " and ".join(f"{n} {word}{'s' if n > 1 else ''}" for n, word in found if n)
