"""The site builds without a warning, and its reference has every public name."""

import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_site_builds_without_warnings_and_has_every_public_name(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--keep-going",
        "--builder",
        "html",
    ]
    done = subprocess.run(
        [*build, str(ROOT / "docs"), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "reference" / "api.html").read_text(encoding="utf-8")
    described = set(re.findall(r'(?:id|name)="([\w.]+)"', page))
    packages = ("edge_fitting", "beamline_plans", "callbacks", "nimco", "scan_contract", "sim_devices")
    names = {f"{package}.{name}" for package in packages for name in import_module(package).__all__}
    # Constants and aliases of types without a docstring have nothing to be described.
    assert {name for name in names - described if _is_described(name)} == set()
    index = (tmp_path / "README.html").read_text(encoding="utf-8")
    for source in (ROOT / "docs").rglob("*.md"):
        assert str(source.relative_to(ROOT / "docs").with_suffix(".html")) in index or source.stem == "README"


def _is_described(name: str) -> bool:
    package, _, attribute = name.partition(".")
    value = getattr(import_module(package), attribute)
    return inspect.isclass(value) or inspect.isroutine(value)
