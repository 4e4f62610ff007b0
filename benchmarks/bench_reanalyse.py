"""Stored runs analysed anew: against the time of reading their frames, and by several processes against one.

    python benchmarks/bench_reanalyse.py [large] [batch] [--size 2048] [--frames 62] [--runs 50] [--workers 2]

Everything is measured in one run on this machine, against a real Tiled server (a process of its own, on loopback).
"large" is one run, fitted tile by tile; "batch" are many runs of 128 x 128 pixels. Publication is not in the times.
Processes of their own are started once before, so that imports are not in the times either.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from callbacks import RawRunWriter, documents_of
from callbacks.techniques import EstimatorOptions
from nimco import TiledServer
from nimco._compiling import compile_kernels
from nimco._reanalysis import Choice, Reanalysis
from nimco._reanalysis_store import ReanalysisStore
from nimco._stored_runs import Secret, StoredScanJob
from nimco._task_runners import Runner, task_runner
from nimco.testing import ScanDocuments


def store(server: TiledServer, scan: ScanDocuments) -> str:
    """Store a run."""

    def steps() -> Iterator[tuple[Any, ...]]:
        for repeat in range(2):
            yield "dark", -1, scan.dark.astype("uint16"), {"xanes_repeat": repeat}
        for index in range(scan.energies_ev.size):
            yield "flat", index, scan.flat()
            yield "primary", index, scan.frame(index)

    documents = scan.run(steps())
    with RawRunWriter(server.raw) as writer:
        for name, doc in documents:
            writer(name, doc)
        writer.wait()
    return str(documents[0][1]["uid"])


def read_all(server: TiledServer, uids: list[str]) -> float:
    """Return how long it takes to read the frames of runs, and nothing else."""
    began = time.perf_counter()
    client = server.client()
    for uid in uids:
        for _ in documents_of(client["raw"][uid]):
            pass
    return time.perf_counter() - began


def analyse_all(server: TiledServer, uids: list[str], runner: Runner, folder: Path) -> float:
    """Return how long it takes to analyse runs."""
    results: list[Any] = []
    work = Reanalysis(
        ReanalysisStore(folder),
        runner,
        on_result=lambda *about: results.append(about),
        on_progress=lambda *_: None,
    )
    options = EstimatorOptions()
    for uid in uids:
        job = StoredScanJob(server.uri, Secret(server.api_key), uid, options)
        work.add(job, uid, 1.0, [Choice("", options)])
    began = time.perf_counter()
    work.work()
    assert len(results) == len(uids), work.failures
    return time.perf_counter() - began


def compare(what: str, server: TiledServer, uids: list[str], n_workers: int, folder: Path) -> None:
    """Print the times for some runs."""
    read_s = read_all(server, uids)
    print(f"{what}: frames read only                {read_s:8.2f} s")
    with task_runner(None, None) as here:
        one_s = analyse_all(server, uids, here, folder / f"{what}-one")
    print(f"{what}: analysed in this process        {one_s:8.2f} s   {one_s / read_s:.2f} x reading")
    with task_runner(n_workers, None) as pool:
        for started in [pool.submit(compile_kernels) for _ in range(n_workers)]:
            started.result()
        many_s = analyse_all(server, uids, pool, folder / f"{what}-many")
    print(
        f"{what}: analysed in {n_workers} processes         {many_s:8.2f} s   {many_s / read_s:.2f} x reading, "
        f"{one_s / many_s:.2f} times as fast as in one"
    )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["large", "batch"])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--frames", type=int, default=62)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    compile_kernels()
    with tempfile.TemporaryDirectory() as temporary, TiledServer(Path(temporary) / "data") as server:
        folder = Path(temporary)
        if "large" in chosen.what:
            scan = ScanDocuments((chosen.size, chosen.size), n_energies=chosen.frames, counts=2e4, noise=True)
            compare("large", server, [store(server, scan)], chosen.workers, folder)
        if "batch" in chosen.what:
            uids = [
                store(server, ScanDocuments((128, 128), counts=2e4, noise=True, seed=seed))
                for seed in range(chosen.runs)
            ]
            compare("batch", server, uids, chosen.workers, folder)


if __name__ == "__main__":
    main()
