"""Everything a scan needs is compiled before its first frame: no scan adds a signature to a kernel."""

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_fitting import EdgeFitter, EdgeFittingError, fit_stack, warm_up

# Of the kinds below, those that reach the kernels of the other estimators in different ways.
SOME_KINDS = (
    "uint16",
    "float64",
    "dead pixels",
    "few frames, pooled noise",
    "frame taken again",
    "one pixel",
)
METHODS = ("half_jump", "inflection", "white_line", "lcf", "arctan_gauss")


def compiled() -> dict[str, int]:
    """Signatures of every kernel of ours that has been imported."""
    from numba.core.dispatcher import Dispatcher

    return {
        f"{name}.{found}": len(kernel.signatures)
        for name, module in list(sys.modules.items())
        if name.split(".")[0] in ("edge_fitting", "callbacks")
        for found, kernel in vars(module).items()
        if isinstance(kernel, Dispatcher) and kernel.py_func.__module__ == name
    }


def changed(steps: list[tuple[Any, ...]], change: Any) -> list[tuple[Any, ...]]:
    """Steps with every image put through a function."""
    return [(stream, index, change(image), *rest) for stream, index, image, *rest in steps]


def read_only(image: np.ndarray) -> np.ndarray:
    """As it comes from bytes of a file or a socket."""
    return np.frombuffer(image.tobytes(), image.dtype).reshape(image.shape)


def unaligned(image: np.ndarray) -> np.ndarray:
    return np.frombuffer(b"-" + image.tobytes(), image.dtype, offset=1).reshape(image.shape)


def dead_pixels(image: np.ndarray) -> np.ndarray:
    holed = image.astype(np.float32)
    holed[0, :3] = np.nan
    return holed


def scans(make: Any) -> dict[str, list[list[tuple[str, dict[str, Any]]]]]:
    """Documents of scans of every kind, by name; several runs where one resumes another."""
    plain = make(n_energies=24)
    steps = plain.steps()
    kinds: dict[str, Any] = {"uint16": [plain.run()]}
    for name, change in {
        **{
            name: (lambda image, dtype=name: image.astype(dtype))
            for name in ("uint8", "int32", "uint32", ">u2")
        },
        **{name: (lambda image, dtype=name: image.astype(dtype)) for name in ("float32", "float64")},
        "read-only": read_only,
        "unaligned": unaligned,
        "strided": lambda image: np.repeat(image, 2, axis=1)[:, ::2],
        "other order": np.asfortranarray,
        "dead pixels": dead_pixels,
        "saturated": lambda image: np.where(np.arange(image.shape[1]) == 2, np.uint16(65535), image),
    }.items():
        kinds[name] = [plain.run(changed(steps, change))]
    lost = [step for step in steps if step[:2] not in (("primary", 5), ("flat", 9))]
    kinds["frames lost"] = [plain.run(lost, exit_status="abort")]
    kinds["frame taken again"] = [plain.run([*steps, (*steps[-1][:3], {"xanes_attempt": 1})])]
    few = make(n_energies=20)
    kinds["few frames, pooled noise"] = [few.run([step for step in few.steps() if step[1] % 2 == 0])]
    kinds["two energies"] = [plain.run([step for step in steps if step[1] in (-1, 0, 23)])]
    kinds["one row"] = [make((1, 40), n_energies=24).run()]
    kinds["one pixel"] = [make((1, 1), n_energies=24).run()]
    kinds["large"] = [make((80, 64), n_energies=24).run()]
    averaged = make(n_energies=24, n_flats=3, repeats=2, flat_order="after_all")
    darks, frames, flats = [], [], []
    for step in averaged.steps():
        {"dark": darks, "flat": flats, "primary": frames}[step[0]].append(step)
    kinds["flats averaged, frames repeated"] = [
        averaged.run(
            darks
            + [(*frame[:3], {"xanes_repeat": repeat}) for frame in frames for repeat in range(2)]
            + [(*flat[:3], {"xanes_repeat": repeat}) for flat in flats for repeat in range(3)]
        )
    ]
    bare = make((24, 24), n_energies=24, references=None)
    kinds["no references"] = [bare.run()]
    kinds["no references, dead pixels"] = [bare.run(changed(bare.steps(), dead_pixels))]
    kinds["no references, few pixels"] = [make((6, 8), n_energies=24, references=None).run()]
    begun = plain.run(steps[:34], exit_status="abort")
    taken = list(range(16, plain.energies_ev.size))
    rest = make(n_energies=24, resumes=begun[0][1]["uid"], take={"primary": taken, "flat": taken})
    kinds["resumed"] = [begun, rest.run(steps[:2] + steps[34:])]
    return kinds


def gains(folder: Path, uri: str, api_key: str) -> dict[str, Any]:
    """What scans of every kind compile in this process after a session has started."""
    from callbacks import LiveSOC
    from nimco import RemoteTiled, Session
    from nimco._compiling import compile_kernels
    from nimco.testing import ScanDocuments

    found: dict[str, Any] = {"before": sum(compiled().values())}
    kinds = scans(ScanDocuments)

    def play(live: Any, name: str) -> None:
        before = compiled()
        for documents in kinds[name]:
            for document in documents:
                live(*document)
            live.wait(300)
        gained = {kernel: n for kernel, n in compiled().items() if n != before.get(kernel, 0)}
        if gained:
            found[f"{getattr(live, '_method', '')} {name}"] = gained

    server = RemoteTiled(uri, api_key, data_dir=folder)
    with Session(server, plot_path=folder / "live.png") as session:
        found["after"] = {kernel.rpartition(".")[2]: n for kernel, n in compiled().items()}
        for name in ("uint16", "no references"):
            play(session, name)
        found["maps"] = len(session.updates())
    # One map a run is enough to see what it compiles.
    with LiveSOC(update_period_s=1e9) as live:
        for name in kinds:
            play(live, name)
    for method in METHODS:
        compile_kernels(method)
        with LiveSOC(method=method, update_period_s=1e9) as live:
            for name in SOME_KINDS:
                play(live, name)
    found["kinds"] = list(kinds)
    return found


@pytest.mark.slow
def test_no_scan_of_any_kind_compiles_anything(tiled_server: Any, tmp_path: Path) -> None:
    # In a process of its own: in this one, other tests have compiled before.
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), tiled_server.uri],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TILED_API_KEY": tiled_server.api_key},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("before") == 0
    after = found.pop("after")
    for kernel in (
        "correct_counts",
        "fold",
        "reduce_series",
        "solve_series",
        "solve_gaps",
        "mean_square_around",
    ):
        assert after[kernel] == 1, kernel
    for kernel in ("fit_complete", "fit_half_jump"):
        assert after[kernel] == 1, kernel
    kinds = found.pop("kinds")
    assert found.pop("maps") == 2
    assert set(SOME_KINDS) < set(kinds)
    assert found == {}


def test_stacks_of_any_layout_share_what_is_compiled(scan_documents: Any, tmp_path: Path) -> None:
    scan = scan_documents()
    energy_ev = scan.energies_ev
    stack = np.stack([scan.jump * scan.spectrum(energy, scan.soc) for energy in energy_ev])
    np.save(tmp_path / "stack.npy", stack.astype(np.float32))
    weights = np.linspace(1, 2, 2 * energy_ev.size)
    for method in ("series", "half_jump", "lcf"):
        warm_up(method)
    before = compiled()
    for given, weight in (
        (stack, None),
        (np.load(tmp_path / "stack.npy", mmap_mode="r"), weights[::2]),
        (unaligned(stack.astype(np.float32)), read_only(weights[::2].copy())),
        (np.asfortranarray(stack), list(weights[::2])),
    ):
        for method in ("series", "half_jump", "lcf"):
            fit_stack(energy_ev, given, method=method, references=scan.references, weights=weight)
            holed = np.array(given)
            holed[3, 1, 1] = np.nan
            fit_stack(energy_ev[::-1], holed[::-1], method=method, references=scan.references, weights=weight)
    fitter = EdgeFitter(scan.shape, references=scan.references)
    fitter.push(energy_ev[::2], stack[::2], read_only(weights[: energy_ev[::2].size]))
    counts = {"dark": np.zeros(scan.shape), "flat": np.full(scan.shape, 2000.0)}
    fitter.push_counts(energy_ev[1], read_only(np.full(scan.shape, 900, np.uint16)), **counts)
    fitter.retract(energy_ev[2], read_only(stack[2].astype(np.float32)), weights[1])
    fitter.retract_counts(energy_ev[1], unaligned(np.full(scan.shape, 900, np.uint16)), **counts)
    fitter.maps()
    assert compiled() == before


def test_warm_up_refuses_what_there_is_not() -> None:
    with pytest.raises(EdgeFittingError, match="unknown method"):
        warm_up("serious")  # type: ignore[arg-type]


def test_a_wait_for_the_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from nimco import _compiling

    said = threading.Event()
    listener = logging.Handler()
    listener.emit = lambda record: said.set()  # type: ignore[method-assign]
    # A compiler that is slow until somebody has been told.
    monkeypatch.setattr(_compiling, "_LOADED_WITHIN_S", 0.0)
    monkeypatch.setattr(_compiling, "warm_up", lambda method: said.wait(240))
    logging.getLogger("nimco").addHandler(listener)
    try:
        _compiling.compile_kernels()
    finally:
        logging.getLogger("nimco").removeHandler(listener)
    assert said.is_set()


@pytest.mark.slow
def test_a_session_refuses_an_estimator_that_there_is_not(tiled_server: Any, tmp_path: Path) -> None:
    from nimco import RemoteTiled, Session

    server = RemoteTiled(tiled_server.uri, tiled_server.api_key, data_dir=tmp_path)
    threads = {thread.name for thread in threading.enumerate()}
    with pytest.raises(EdgeFittingError, match="unknown method"):
        Session(server, method="serious").start()
    assert {thread.name for thread in threading.enumerate()} <= threads


def test_every_kernel_is_kept_on_disk() -> None:
    from numba.core.dispatcher import Dispatcher

    import edge_fitting  # noqa: F401

    kernels = [
        kernel
        for name, module in list(sys.modules.items())
        if name.startswith("edge_fitting.")
        for kernel in vars(module).values()
        if isinstance(kernel, Dispatcher)
    ]
    assert len(kernels) > 20
    assert [k.py_func.__name__ for k in kernels if type(k._cache).__name__ == "NullCache"] == []


if __name__ == "__main__":
    sys.stdout.write(json.dumps(gains(Path(sys.argv[1]), sys.argv[2], os.environ["TILED_API_KEY"])))
