"""What an import, a help page or a typing mistake may load: not the seconds that a scan needs."""

import importlib
import os
import subprocess
import sys

import pytest

HEAVY = (
    "numba",
    "scipy",
    "tiled",
    "matplotlib",
    "pandas",
    "xarray",
    "h5py",
    "ophyd",
    "bluesky",
    "epics",
    "caproto",
)
# The command line, and on the last line what it loaded.
COMMAND_LINE = """
import sys
from nimco._cli import main
try:
    main()
except SystemExit as end:
    code = end.code or 0
print("\\nloaded", *sys.modules)
sys.exit(code)
"""


def loaded(program: str, *arguments: str, code: int = 0) -> tuple[set[str], str]:
    """Heavy packages that a program loads in a process of its own, and all that it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == code, done.stdout + done.stderr
    modules = done.stdout.rpartition("loaded")[2].split()
    return {name for name in HEAVY if name in modules}, done.stdout + done.stderr


def import_of(statement: str) -> set[str]:
    return loaded(f"{statement}; import sys; print('loaded', *sys.modules)")[0]


@pytest.mark.parametrize("package", ["nimco", "callbacks"])
def test_packages_load_what_is_used(package: str) -> None:
    assert import_of(f"import {package}; dir({package}); {package}.__all__") == set()
    module = importlib.import_module(package)
    assert set(module.__all__) == set(module._HOME) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'LiveSock'"):
        module.LiveSock  # noqa: B018
    with pytest.raises(ImportError):
        exec(f"from {package} import LiveSock")


def test_the_live_analysis_draws_nothing_and_plans_know_no_server() -> None:
    assert not import_of("from callbacks import LiveSOC, RawRunWriter, SOCPublisher") & {
        "matplotlib",
        "ophyd",
    }
    assert not import_of("import beamline_plans") & {
        "tiled",
        "matplotlib",
        "pandas",
        "ophyd",
        "h5py",
        "xarray",
    }


COMMANDS = ["demo", "replay", "dry-run", "serve", "monitor", "analyse", "export", "ioc"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "dry-run"),
        (["--version"], 0, "nimco 0."),
        ([], 2, "dry-run"),
        (["demmo"], 2, "Did you mean 'demo'?"),
        (["repley", "file.h5"], 2, "Did you mean 'replay'?"),
        (["demo", "--sise", "64"], 2, "--size"),
        (["demo", "--size", "many"], 2, "valid integer"),
        (["export"], 2, "Missing argument"),
        (["export", "0f", "--format", "png"], 2, "nexus"),
        *([[command, "--help"], 0, "Usage"] for command in COMMANDS),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_help_and_mistakes_load_nothing_heavy(arguments: list[str], code: int, said: str) -> None:
    heavy, printed = loaded(COMMAND_LINE, *arguments, code=code)
    assert heavy == set()
    assert said in printed
