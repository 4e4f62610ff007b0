"""What is declared is what is imported, and an installed wheel works away from the sources."""

import ast
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib import metadata
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

NOT_IMPORTED = {
    "area-detector-handlers": "found by its entry points (databroker.handlers)",
    "pyepics": "ophyd's way to Channel Access",
    "databroker": "a way to read runs back that the documentation shows",
    "ophyd-async": "devices of the user that plans take",
    "bluesky-queueserver": "the manager that imports the startup file",
}
# Commands, plugins and back ends: named in the files that use them.
TOOLS = ("Makefile", "docs/conf.py", "pyproject.toml", ".pre-commit-config.yaml")

COMMANDS = {
    "editables": "--editable",
    "myst-parser": "myst_parser",
    "sphinx": "sphinx-build",
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
    own = {
        *PACKAGES,
        "benchmarks",
        "tests",
        "conftest",
        *(path.stem for path in (ROOT / "benchmarks").glob("*.py")),
    }
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
PURPOSES = [
    name for name in PROJECT["project"]["optional-dependencies"] if name not in ("all", "dev", "docs")
]
EXTRAS = {name: declared(lines) for name, lines in PROJECT["project"]["optional-dependencies"].items()}


def test_what_the_product_imports_is_declared_and_nothing_else_is():
    used = imported(*PACKAGES)
    # A plugin of pytest is imported by pytest only.
    assert used.pop("pytest") == "nimco/testing/plugin.py"
    optional = set().union(*(EXTRAS[name] for name in PURPOSES))
    undeclared = {name: where for name, where in used.items() if name not in DEPENDENCIES | optional}
    assert undeclared == {}
    assert (DEPENDENCIES | optional) - set(used) <= set(NOT_IMPORTED)
    assert len(DEPENDENCIES) <= 20
    assert PROJECT["project"]["optional-dependencies"]["all"] == [f"nimco[{','.join(PURPOSES)}]"]
    page = (ROOT / "docs" / "how-to" / "install.md").read_text()
    for extra in (*PURPOSES, "all"):
        assert f"`{extra}`" in page


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
    for name in (EXTRAS["dev"] | EXTRAS["docs"]) - set(used):
        command = COMMANDS.get(name, name)
        assert command in tools, f"{name} is declared for development and used nowhere"


def test_every_dependency_is_pinned():
    pins = declared((ROOT / "requirements.txt").read_text().splitlines())
    assert DEPENDENCIES.union(*EXTRAS.values()) - {"nimco"} <= pins
    assert all(re.match(r"[\w.-]+(\[[\w,-]+\])?==", line) for line in (ROOT / "requirements.txt").open())


def test_the_versions_of_python_named_are_those_that_are_tried():
    classifiers = PROJECT["project"]["classifiers"]
    named = [found[1] for line in classifiers if (found := re.search(r"Python :: (3\.\d+)$", line))]
    assert named[0] == PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f"Python {named[0]}" in (ROOT / "README.md").read_text()
    assert f"{named[-1]}" in (ROOT / "README.md").read_text()


def closure(lines):
    """Return the distributions that requirements bring, with what these require, in this environment."""
    wanted, found = [Requirement(line) for line in lines], set()
    while wanted:
        requirement = wanted.pop()
        for extra in {"", *requirement.extras}:
            name = normal(requirement.name)
            if (name, extra) in found:
                continue
            found.add((name, extra))
            for line in metadata.distribution(name).requires or []:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    wanted.append(needed)
    return sorted({name for name, _ in found})


class Environment:
    """A virtual environment with the project's wheel; what else it sees is up to the test."""

    def __init__(self, place, unpacked):
        venv.create(place, with_pip=False, symlinks=True)
        paths = {"base": str(place), "platbase": str(place)}
        self.installed = Path(sysconfig.get_path("purelib", vars=paths))
        self.where = place / "empty"
        self.where.mkdir()
        self._python = place / "bin" / "python"
        # Links, not copies: kernels that one test compiled serve the next.
        self.link(unpacked.iterdir())

    def link(self, entries):
        for entry in entries:
            if not (self.installed / entry.name).exists():
                (self.installed / entry.name).symlink_to(entry)

    def run(self, *command, code=0):
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [str(self._python), *command],
            capture_output=True,
            text=True,
            timeout=600,
            cwd=self.where,
            env={**kept, "MPLBACKEND": "Agg"},
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def command(self, *arguments, code=0):
        return self.run("-c", "from nimco._cli import main; main()", *arguments, code=code)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel, built and unpacked."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(place), str(ROOT)], check=True, timeout=240, cwd=place)
    (wheel,) = place.glob("nimco-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if not name.startswith("nimco-")} == set(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    zipfile.ZipFile(wheel).extractall(place / "unpacked")
    # Kernels that are compiled already are not again: numba takes them for those of a file of the same age and size.
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            beside = place / "unpacked" / path.relative_to(ROOT)
            if path.suffix in (".nbi", ".nbc"):
                beside.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, beside)
            elif path.suffix == ".py" and beside.is_file() and beside.read_bytes() == path.read_bytes():
                age = path.stat()
                os.utime(beside, ns=(age.st_atime_ns, age.st_mtime_ns))
    return place / "unpacked"


@pytest.mark.slow
def test_a_wheel_runs_the_demo_away_from_the_sources(unpacked, tmp_path):
    environment = Environment(tmp_path / "environment", unpacked)
    # It sees the packages of this environment, but not the sources it may be linked to.
    linked = sysconfig.get_path("purelib")
    (environment.installed / "zz_dependencies.pth").write_text(f"import sys; sys.path.append({linked!r})\n")
    found = environment.run("-c", "import nimco; print(nimco.__file__)").strip()
    assert Path(found).is_relative_to(environment.installed)
    assert PROJECT["project"]["scripts"] == {"nimco": "nimco._cli:main"}
    said = environment.command("demo", "--size", "32", "--data-dir", "data")
    assert re.search(r"state of charge", said, re.IGNORECASE)
    assert (environment.where / "data" / "catalog.db").is_file()


# Fits a stack; then follows a run live, with the map in a server elsewhere, reads it back and plots it.
CORE = """
import importlib, pickle, sys
import numpy as np
from edge_fitting import ReferenceSeries, fit_stack
from nimco import RemoteTiled, Session, open_soc

uri, api_key, documents = sys.argv[1:]
with open(documents, "rb") as file:
    documents, stack = pickle.load(file)
start = documents[0][1]
references = ReferenceSeries.from_dict(start["xanes"]["references"])
maps = fit_stack(np.array(start["xanes"]["energies_ev"]), stack, edge="Ni_K", references=references)
server = RemoteTiled(uri, api_key, data_dir="data")
with Session(server, plot_path="map.png").start() as session:
    for name, doc in documents:
        session(name, doc)
    session.wait()
read = open_soc(server.client(), start["uid"])
print("differ", float(np.nanmax(abs(read.soc.values - maps.soc))))

for package in ("beamline_plans", "beamline_devices", "callbacks", "edge_fitting", "nimco", "scan_contract"):
    module = importlib.import_module(package)
    for name in module.__all__:
        getattr(module, name)
"""

# What needs an extra, each in a way that a user meets.
NEEDS = {
    "sim_devices import SimBeamline": "sim",
    "sim_devices.ioc import run_ioc": "sim",
    "beamline_devices.epics import Monochromator": "epics",
    "nimco import TiledServer; TiledServer('data').start()": "server",
    "callbacks import DocumentPublisher; DocumentPublisher('127.0.0.1:5577')": "network",
    "callbacks import open_stream; open_stream('zmq://:5578')": "network",
    "callbacks import open_stream; open_stream('kafka://127.0.0.1:9092/documents')": "kafka",
    "edge_fitting import line_groups; line_groups(['Ni'], 9000.0)": "xrf",
    "nimco._queueserver_plans import queue_plan": "queueserver",
    "nimco.monitor import Monitor; Monitor('http://127.0.0.1:9').start()": "monitor",
    "callbacks import TomographySettings; TomographySettings(clean_up='all').reconstruction()": "tomography",
    "nimco._task_runners import task_runner; task_runner(None, 'tcp://127.0.0.1:9').__enter__()": "cluster",
}
WITHOUT = """
import json, sys
import numpy as np, xarray as xr
from scan_contract import MissingPackageError

about = {"raw_uid": "r", "edge": "Ni_K", "definition": "series"}
soc = xr.DataArray(np.ones((4, 4), np.float32), dims=("row", "column"), attrs={"long_name": "state of charge"})
maps, said = xr.Dataset({"soc": soc}, attrs=about), {}
for statement in json.loads(sys.argv[1]):
    try:
        exec("from " + statement)
    except MissingPackageError as error:
        said[statement] = str(error)
print("said", json.dumps(said))
"""


@pytest.fixture(scope="module")
def core(unpacked, tmp_path_factory):
    """An environment that holds the wheel and what the core declares, and nothing else."""
    environment = Environment(tmp_path_factory.mktemp("core") / "environment", unpacked)
    for name in closure(PROJECT["project"]["dependencies"]):
        held = metadata.distribution(name)
        parts = {file.parts[0] for file in held.files or []} - {"..", "__pycache__"}
        environment.link(Path(held.locate_file(part)) for part in parts)
    return environment


@pytest.mark.slow
def test_the_core_alone_fits_reads_and_plots_a_map(core, tiled_server, scan_documents, tmp_path):
    scan = scan_documents()
    documents = scan.run()
    energy = scan.energies_ev[:, None, None]
    stack = 0.3 - 1e-4 * (energy - 8340) + scan.jump * scan.spectrum(energy, scan.soc)
    (tmp_path / "run.pickle").write_bytes(pickle.dumps((documents, stack)))
    said = core.run("-c", CORE, tiled_server.uri, tiled_server.api_key, str(tmp_path / "run.pickle"))
    assert float(re.search(r"differ (\S+)", said)[1]) < 0.02
    assert (core.where / "map.png").stat().st_size > 10_000


def test_what_is_missing_is_one_sentence_that_names_its_extra(core):
    said = json.loads(core.run("-c", WITHOUT, json.dumps(list(NEEDS))).rpartition("said")[2])
    for statement, extra in NEEDS.items():
        sentence = said.get(statement, "nothing was said")
        assert re.fullmatch(
            rf"[\w' ]+ need the package \w+, which is not installed here; run: pip install 'nimco\[{extra}\]'",
            sentence,
        ), (statement, sentence)
    # What files need of TIFF comes with scikit-image as well.
    assert set(NEEDS.values()) | {"ophyd-async", "files"} == set(PURPOSES)
    for command, extra in (("demo", "sim"), ("dry-run", "sim"), ("ioc", "sim"), ("serve", "server")):
        (line,) = core.command(command, code=2).strip().splitlines()
        assert re.fullmatch(rf"nimco: .*run: pip install 'nimco\[{extra}\]'", line)
    assert "demo" in core.command("--help")
