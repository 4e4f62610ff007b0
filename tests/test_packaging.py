"""What is declared is what is imported, and an installed wheel works away from the sources."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

NOT_IMPORTED = {
    "area-detector-handlers": "found by its entry points (databroker.handlers)",
    "pyepics": "ophyd's way to Channel Access",
    "databroker": "a way to read runs back that the documentation shows",
}
# Commands, plugins and back ends: named in the files that use them.
TOOLS = ("Makefile", "pyproject.toml", ".pre-commit-config.yaml")

COMMANDS = {
    "editables": "--editable",
    "import-linter": "lint-imports",
    "pre-commit": "repos:",
    "pytest-timeout": "timeout =",
    "pytest-xdist": "--numprocesses",
}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(lines):
    return {normal(re.match(r"[\w.-]+", line)[0]) for line in lines}


def imported(*folders):
    """Return the distributions whose modules are imported, wherever in a module that is."""
    own = {*PACKAGES, "benchmarks", "tests", "conftest"}
    distributions = packages_distributions()
    found = {}
    for path in (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - own:
                for distribution in distributions.get(name, [name]):
                    found.setdefault(normal(distribution), str(path.relative_to(ROOT)))
    return found


DEPENDENCIES = declared(PROJECT["project"]["dependencies"])
EXTRAS = {name: declared(lines) for name, lines in PROJECT["project"]["optional-dependencies"].items()}


def test_what_the_product_imports_is_declared_and_nothing_else_is():
    used = imported(*PACKAGES)
    optional = set().union(*(names for extra, names in EXTRAS.items() if extra != "dev"))
    undeclared = {name: where for name, where in used.items() if name not in DEPENDENCIES | optional}
    assert undeclared == {}
    assert DEPENDENCIES - set(used) == set(NOT_IMPORTED)
    assert EXTRAS["kafka"] <= set(used)
    documented = "".join(page.read_text() for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")))
    for name in (*NOT_IMPORTED, *(optional - set(used))):
        assert name in documented or name in ("area-detector-handlers", "pyepics")


def test_the_extras_beyond_the_product_are_used_by_tests_and_tools():
    used = imported("tests", "benchmarks", "docs")
    known = DEPENDENCIES.union(*EXTRAS.values())
    # Larch made a golden file, in an environment of its own.
    assert {name: where for name, where in used.items() if name not in known} in (
        {},
        {"larch": used.get("larch")},
    )
    tools = "".join((ROOT / name).read_text() for name in TOOLS)
    tools = tools.replace((ROOT / "pyproject.toml").read_text().split("dev = [")[1].split("]\n")[0], "")
    for name in EXTRAS["dev"] - set(used):
        command = COMMANDS.get(name, name)
        assert command in tools, f"{name} is declared for development and used nowhere"


def test_every_dependency_is_pinned():
    pins = declared((ROOT / "requirements.txt").read_text().splitlines())
    assert DEPENDENCIES.union(*EXTRAS.values()) <= pins
    assert all(re.match(r"[\w.-]+(\[[\w,-]+\])?==", line) for line in (ROOT / "requirements.txt").open())


def test_the_versions_of_python_named_are_those_that_are_tried():
    classifiers = PROJECT["project"]["classifiers"]
    named = [found[1] for line in classifiers if (found := re.search(r"Python :: (3\.\d+)$", line))]
    assert named[0] == PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f"Python {named[0]}" in (ROOT / "README.md").read_text()
    assert f"{named[-1]}" in (ROOT / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)  # every kernel is compiled anew, in a place of its own
def test_a_wheel_runs_the_demo_away_from_the_sources(tmp_path):
    wheels, place = tmp_path / "wheels", tmp_path / "environment"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(wheels), str(ROOT)], check=True, timeout=240, cwd=tmp_path)
    (wheel,) = wheels.glob("nimco-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if not name.startswith("nimco-")} == set(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    # An environment of its own that sees the packages of this one, but not the sources it may be linked to.
    venv.create(place, with_pip=False, symlinks=True)
    paths = {"base": str(place), "platbase": str(place)}
    installed = Path(sysconfig.get_path("purelib", vars=paths))
    zipfile.ZipFile(wheel).extractall(installed)
    linked = sysconfig.get_path("purelib")
    (installed / "zz_dependencies.pth").write_text(f"import sys; sys.path.append({linked!r})\n")
    python = place / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    where = tmp_path / "empty"
    where.mkdir()

    def run(*command):
        done = subprocess.run(
            [str(python), *command],
            capture_output=True,
            text=True,
            timeout=600,
            cwd=where,
            env={**environment, "MPLBACKEND": "Agg"},
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    start = "from nimco._cli import main; main()"
    assert Path(run("-c", "import nimco; print(nimco.__file__)").strip()).is_relative_to(installed)
    assert PROJECT["project"]["scripts"] == {"nimco": "nimco._cli:main"}
    said = run("-c", start, "demo", "--size", "32", "--data-dir", "data")
    assert re.search(r"state of charge", said, re.IGNORECASE)
    assert (where / "data" / "catalog.db").is_file()
