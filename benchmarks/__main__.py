"""Run every benchmark of this folder, each in a process of its own: ``python -m benchmarks [name ...]``."""

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run ``bench_<name>.py`` for the names given, or all of them; return the number that failed."""
    folder = Path(__file__).parent
    names = sys.argv[1:] or sorted(path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py"))
    failed = 0
    for name in names:
        print(f"== {name}", flush=True)
        failed += subprocess.run([sys.executable, folder / f"bench_{name}.py"], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
