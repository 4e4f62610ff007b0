"""Tests use public names; the few that test a private module are listed, and the product knows no test helper."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "beamline_devices", "beamline_plans", "callbacks", "edge_fitting", "nimco", "scan_contract", "sim_devices",
)  # fmt: skip
PRIVATE = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)*?\.(?:_(?!_)\w+)")

# Test file -> the private modules that it tests.
TESTED: dict[str, set[str]] = {
    "test_nimco_monitor.py": {"nimco._cmd_monitor"},
    "test_callbacks_axis_offset.py": {"callbacks.views._picture", "nimco._axis_offset"},
    "test_callbacks_registration.py": {"nimco._recordings", "nimco._replay"},
    "test_beamline_devices_lost_ioc.py": {
        "beamline_plans.running._frames",
        "beamline_plans.running._safe_state",
    },
    "test_beamline_plans_informative.py": {"edge_fitting.design._fisher"},
    "test_beamline_devices_pure.py": {"beamline_devices._described", "beamline_devices._tasks"},
    "test_callbacks_bad_frames.py": {"callbacks.documents._saturation"},
    "test_callbacks_bounded_memory.py": {
        "callbacks.documents._document_queue",
        "callbacks.documents._spool_format",
        "callbacks.reduce._image_store",
    },
    "test_callbacks_exports.py": {"nimco._commands"},
    "test_callbacks_frame_comparison.py": {"callbacks.views._picture"},
    "test_callbacks_foreign_runs.py": {"nimco._commands", "nimco._layouts"},
    "test_callbacks_live_plot.py": {
        "callbacks.views._live_plot",
        "callbacks.views._map_panel",
        "callbacks.views._quantity",
    },
    "test_callbacks_lost_frames.py": {"callbacks.reduce._image_store"},
    "test_callbacks_mosaic.py": {"nimco._commands"},
    "test_callbacks_plain_documents.py": {"callbacks.documents._plain_documents"},
    "test_callbacks_raw_writer.py": {
        "callbacks.publish._raw_writer",
        "nimco._containers",
        "nimco._server_process",
    },
    "test_callbacks_routing.py": {"nimco._progress"},
    "test_callbacks_samples.py": {"nimco._commands"},
    "test_callbacks_spool.py": {"callbacks.documents._spool_format", "callbacks.publish._run_log"},
    "test_callbacks_stored_run.py": {"callbacks.documents._reading"},
    "test_callbacks_tomography.py": {"nimco._cli"},
    "test_callbacks_uploads.py": {"callbacks.publish._uploads"},
    "test_callbacks_versions.py": {
        "callbacks.publish._kept_results",
        "callbacks.publish._result_writer",
        "nimco._commands",
    },
    "test_edge_fitting_larch.py": {"nimco._reference_files"},
    "test_callbacks_wire_format.py": {
        "callbacks.documents._received_documents",
        "callbacks.documents._trusted_messages",
        "callbacks.documents._wire_format",
    },
    "test_callbacks_workers.py": {"callbacks.techniques._live_soc"},
    "test_beamline_plans_beam_loss.py": {
        "beamline_plans.running._frames",
        "beamline_plans.running._safe_state",
    },
    "test_edge_fitting_no_edge.py": {"nimco._reference_files", "nimco._reference_options"},
    "test_edge_fitting_streaming.py": {
        "edge_fitting.series._series_kernels",
        "edge_fitting.series._series_records",
        "edge_fitting.sums._projection_kernels",
        "edge_fitting.sums._records",
    },
    "test_nimco_analyse.py": {
        "callbacks.documents._document_streams",
        "nimco._commands",
    },
    "test_nimco_cli.py": {"nimco._cli", "nimco._cmd_demo"},
    "test_nimco_compiling.py": {"nimco._compiling"},
    "test_nimco_dry_run.py": {"nimco._commands", "nimco._learned_times"},
    "test_nimco_hostile_recordings.py": {"nimco._recordings", "nimco._replay"},
    "test_nimco_imports.py": {"nimco._cli"},
    "test_nimco_interrupted_scan.py": {"nimco._commands"},
    "test_nimco_ioc.py": {"nimco._cli", "nimco._commands"},
    "test_nimco_key_guard.py": {"nimco._key_guard", "nimco._server_process"},
    "test_nimco_queueserver.py": {"nimco._queueserver_plans", "nimco._queueserver_startup"},
    "test_nimco_recordings.py": {"nimco._recordings", "nimco._replay"},
    "test_nimco_reanalyse.py": {
        "callbacks.publish._result_writer",
        "nimco._cmd_reanalyse",
        "nimco._commands",
        "nimco._reanalysis",
        "nimco._reanalysis_store",
        "nimco._stopping",
        "nimco._stored_runs",
        "nimco._task_runners",
    },
    "test_nimco_report.py": {"nimco._commands"},
    "test_nimco_reference_files.py": {"nimco._reference_files", "nimco._reference_options"},
    "test_nimco_reference_library.py": {"nimco._cli", "nimco._reference_options"},
    "test_nimco_selection.py": {"nimco._commands", "nimco._selection"},
    "test_nimco_server.py": {"nimco._commands", "nimco._server"},
    "test_nimco_session.py": {"callbacks.techniques._live_soc", "nimco._session"},
    "test_nimco_stopping.py": {
        "callbacks.documents._worker",
        "callbacks.techniques._live_soc",
        "callbacks.techniques._stack_fit",
        "nimco._cli",
        "nimco._server",
        "nimco._session",
    },
    "test_nimco_volume.py": {"nimco._commands"},
    "test_packaging.py": {"nimco._cli", "nimco._queueserver_plans", "nimco._task_runners"},
    "test_sim_devices_absorption.py": {"sim_devices.twin._absorption"},
    "test_sim_devices_lineshape.py": {"sim_devices.twin._absorption", "sim_devices.twin._compounds"},
    "test_sim_devices_render.py": {"sim_devices.twin._projection", "sim_devices.twin._render"},
    "test_sim_devices_sample.py": {"sim_devices.twin._absorption", "sim_devices.twin._sample"},
    "test_sim_devices_twin.py": {"sim_devices.twin._absorption"},
    "test_text_tables.py": {"nimco._reference_files"},
}


def names_in(source: str) -> Iterator[str]:
    """Yield every module or name of ours that a file imports, or names in a text as a place to patch."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Programs for another process, and targets of monkeypatch.
            for found in re.finditer(r"from ([\w.]+) import ([\w, ]+)", node.value):
                yield from (f"{found[1]}.{name.strip().split(' ')[0]}" for name in found[2].split(","))
            yield from PRIVATE.findall(node.value)


def private_modules(source: str) -> set[str]:
    """Return the private modules that a file reaches into, up to the first private part of the name."""
    return {found[0] for name in names_in(source) if (found := PRIVATE.match(name))}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from nimco._server import TiledServer", {"nimco._server"}),
        ("def f():\n    from nimco import _server, Session", {"nimco._server"}),
        ("import callbacks.publish._uploads as u", {"callbacks.publish._uploads"}),
        ("from callbacks.publish._uploads import _x", {"callbacks.publish._uploads"}),
        ("m.setattr('nimco._session._CLOSE_S', 1)", {"nimco._session"}),
        ("code = 'from callbacks.views import LiveSOCPlot, _picture'", {"callbacks.views._picture"}),
        ("from nimco import __version__, Session", set()),
        ("import _thread", set()),
    ],
)
def test_what_counts_as_private(source, expected):
    assert private_modules(source) == expected


def test_a_test_reaches_only_into_the_private_module_that_it_tests():
    reached = {
        path.name: found
        for path in sorted((ROOT / "tests").glob("*.py"))
        if path.name != Path(__file__).name and (found := private_modules(path.read_text(encoding="utf-8")))
    }
    beyond = {name: sorted(found - TESTED.get(name, set())) for name, found in reached.items()}
    assert {name: modules for name, modules in beyond.items() if modules} == {}, (
        "use a public name or nimco.testing, or list the module here if the file tests it"
    )
    unused = {name: sorted(modules - reached.get(name, set())) for name, modules in TESTED.items()}
    assert {name: modules for name, modules in unused.items() if modules} == {}


def test_the_product_does_not_know_the_helpers_of_tests():
    files = [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if (ROOT / "nimco" / "testing") not in path.parents
    ]
    assert len(files) > 150
    for path in files:
        said = set(names_in(path.read_text(encoding="utf-8")))
        assert not any(name.startswith(("nimco.testing", "pytest")) for name in said), path


def test_the_product_reaches_into_no_private_module_of_another_package_or_sub_package():
    beyond, of_devices = {}, set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            source, here = path.read_text(encoding="utf-8"), ".".join(path.relative_to(ROOT).parent.parts)
            imports = [
                node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom | ast.Import)
            ]
            for node in imports:
                if isinstance(node, ast.ImportFrom) and node.level > 1:
                    beyond[path.name] = f"from {'.' * node.level}{node.module}"
            named = set(
                names_in("\n".join(ast.unparse(node) for node in imports if not getattr(node, "level", 0)))
            )
            private = {found[0] for name in named if (found := PRIVATE.match(name))}
            # Of its own package, or of one that it is part of.
            if others := {
                name for name in private if not f"{here}.".startswith(f"{name.rpartition('.')[0]}.")
            }:
                beyond[path.name] = others
            if package == "beamline_plans":
                of_devices |= {name for name in named if name.startswith("beamline_devices")}
    assert beyond == {}
    assert of_devices
    assert all(name.startswith("beamline_devices.protocols.") for name in of_devices)
