"""Stored runs analysed anew: real runs in a real Tiled server, a real scheduler with worker processes."""

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from callbacks import LiveSOC, RawRunWriter, SOCPublisher, open_soc, soc_versions
from edge_fitting import EdgeFittingError
from nimco._commands import reanalyse
from nimco._reanalysis import Reanalysis, tile_task
from nimco._reanalysis_store import ReanalysisStore
from nimco._stopping import StoppedError
from nimco._task_runners import _Cluster
from nimco.errors import NimcoError
from nimco.testing import wait_until
from scan_contract import MissingPackageError

MAPS = ("soc", "soc_sigma", "edge_energy_ev", "edge_energy_sigma_ev", "edge_jump", "goodness", "status")
ROWS_OF_TILE = 7


@pytest.fixture(scope="module")
def stored(tiled_server, scan_documents):
    """Uids of two runs that were measured, analysed live and stored."""
    scans = [scan_documents((64, 70), noise=True, counts=2e4, seed=seed) for seed in (3, 4)]
    steps = scans[1].steps()
    # A frame that does not belong: the live analysis leaves it out by comparing it with the others.
    steps[37] = ("primary", 17, (0.8 * steps[37][2].astype(float)).astype("uint16"))
    runs = [scans[0].run(), scans[1].run(steps)]
    with (
        RawRunWriter(tiled_server.raw) as writer,
        SOCPublisher(tiled_server.maps, raw_container=tiled_server.raw) as publisher,
        LiveSOC(subscribers=[publisher]) as live,
    ):
        for documents in runs:
            for document in documents:
                writer(*document)
                live(*document)
        for worker in (writer, live, publisher):
            worker.wait(240)
    return [documents[0][1]["uid"] for documents in runs]


@pytest.fixture
def command(tiled_server, tmp_path, monkeypatch):
    """Run the command, by default with tiles of a few rows, and a data directory of the test's own."""
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    monkeypatch.setattr("nimco._reanalysis._TILE_BYTES", 4 * 70 * 36 * ROWS_OF_TILE)
    given = {"tiled": tiled_server.uri, "data_dir": tmp_path / "data"}
    return lambda *uids, **options: reanalyse(list(uids), **{**given, **options})


def is_clean(data_dir: Path) -> bool:
    """Whether nothing is kept but the store's own token."""
    return [path.name for path in (data_dir / "reanalysis").iterdir()] == [".token"]


def assert_same_maps(one, other):
    for name in MAPS:
        np.testing.assert_allclose(one[name].values, other[name].values, rtol=2e-5, atol=2e-6, equal_nan=True)
    # By how much a frame does not belong is said as it was found, in the live analysis with fewer frames.
    said, other_said = (
        [re.sub(r" \(.*", "", text) for text in maps.attrs["warnings"]] for maps in (one, other)
    )
    assert said == other_said
    for name in ("n_frames", "axis_offset_ev", "definition", "reference_sources", "raw_uids"):
        assert one.attrs[name] == other.attrs[name]


def test_by_tiles_a_stored_run_gives_the_live_map_as_a_new_version(
    stored, command, tiled_server, tmp_path, capsys
):
    client = tiled_server.client()
    live = open_soc(client, stored[0])
    picture = tmp_path / "map.png"
    command(stored[0][:10], plot=picture)
    anew = open_soc(client, stored[0])
    assert_same_maps(anew, live)
    former, current = soc_versions(client, stored[0])
    assert (former.version, former.current, current.version, current.current) == (1, False, 2, True)
    assert_same_maps(open_soc(client, stored[0], version=1), live)
    assert anew.attrs["analysis"]["id"] != live.attrs["analysis"]["id"]
    assert {"nimco", "numpy"} <= set(anew.attrs["versions"])
    said = capsys.readouterr().out
    assert f"of run {stored[0][:8]} at Ni_K are version 2 now; the former map is kept as version 1" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert is_clean(tmp_path / "data")


def test_several_sets_of_parameters_are_read_once_and_compared(
    stored, command, tiled_server, scan_documents, tmp_path, capsys, monkeypatch
):
    documents = scan_documents()
    names = []
    for soc in (0, 0.5, 1):
        names.append(str(tmp_path / f"r{soc:g}.txt"))
        energies = documents.references.energy_ev
        np.savetxt(names[-1], np.column_stack([energies, documents.spectrum(energies, soc)]))
    read = []
    monkeypatch.setattr(
        "nimco._reanalysis_store.read_job",
        lambda job, *args, _before=sys.modules["nimco._stored_runs"].read_job, **kw: (
            read.append(job.uid),
            _before(job, *args, **kw),
        )[1],
    )
    picture = tmp_path / "compared.png"
    command(
        stored[1],
        references=[f"{names[0]}=0,{names[1]}=0.5,{names[2]}=1", f"{names[0]}=0,{names[2]}=1"],
        axis_offset=["0.5"],
        register="off",
        plot=picture,
        soc_range="0,1",
    )
    assert read == stored[1:]
    said = " ".join(capsys.readouterr().out.split())
    assert "Analyses compared" in said
    assert "r0.txt=0, r1.txt=1" in said
    assert picture.stat().st_size > 20_000
    live, *held = soc_versions(tiled_server.client(), stored[1])
    assert [one.options["axis_offset"] for one in held] == [0.5, 0.5]
    assert [len(one.reference_sources) for one in held] == [3, 2]
    before, after = (
        open_soc(tiled_server.client(), stored[1], version=one.version)["soc"].values
        for one in (live, held[0])
    )
    # Half an electronvolt of the two that the series spans.
    assert float(np.nanmedian(after - before)) == pytest.approx(-0.25, abs=0.03)


def test_what_was_stopped_goes_on_with_the_tiles_that_are_done(stored, command, tmp_path, monkeypatch):
    fitted = []

    def told(*arguments):
        fitted.append(arguments[4])
        if len(fitted) == 4 and stopping:
            os.kill(os.getpid(), signal.SIGINT)
        return tile_task(*arguments)

    keep, n_kept = ReanalysisStore.keep, []

    def full(self, name, part, value):
        if "rows" in part and stopping:
            n_kept.append(part)
            if len(n_kept) == 2:
                raise NimcoError("the disk is full")
        keep(self, name, part, value)

    stopping = True
    monkeypatch.setattr("nimco._reanalysis.tile_task", told)
    with monkeypatch.context() as disk:
        disk.setattr(ReanalysisStore, "keep", full)
        with pytest.raises(
            NimcoError, match=r"the disk is full. 0 of the results are in Tiled, and what was"
        ):
            command(stored[0])
    monkeypatch.setattr("nimco._reanalysis_store.read_job", lambda *_, **__: pytest.fail("it is read again"))
    with pytest.raises(
        StoppedError, match=r"Stopped by Ctrl-C: 0 of the results are in Tiled, and .* kept in"
    ):
        command(stored[0])
    damaged, *whole = sorted((tmp_path / "data" / "reanalysis").glob("*/fit-*-rows-*"))
    assert len(whole) == 1  # one of the first start, and one of the second
    damaged.write_bytes(damaged.read_bytes()[:1000])
    fitted.clear()
    stopping = False
    command(stored[0])
    assert len(fitted) == len(set(fitted)) == -(-64 // ROWS_OF_TILE) - 1
    assert is_clean(tmp_path / "data")


@pytest.mark.slow
def test_other_processes_read_for_themselves_and_give_the_same_map(stored, command, tiled_server, capsys):
    command(*stored, workers=2)
    client = tiled_server.client()
    for uid in stored:
        assert_same_maps(open_soc(client, uid), open_soc(client, uid, version=1))


@pytest.mark.slow
def test_on_a_cluster_and_when_its_scheduler_goes_away(stored, command, tiled_server, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    about = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    dask = [sys.executable, "-m", "dask"]
    here = ["--host", "127.0.0.1", "--no-dashboard"]
    scheduler = subprocess.Popen(
        [*dask, "scheduler", *here, "--port", "0", "--scheduler-file", str(about)], env=environment, **quiet
    )
    workers = []
    alone = ["--no-nanny", "--nthreads", "1", *here]
    try:
        wait_until(about.exists, 60)
        wait_until(lambda: about.read_text().endswith("}"), 60)
        address = json.loads(about.read_text())["address"]
        monkeypatch.setattr("nimco._task_runners._CONNECT_S", 1.0)
        with pytest.raises(NimcoError, match=r"has no workers; start some with: dask worker tcp://127.0.0.1"):
            command(stored[0], scheduler=address)
        monkeypatch.setattr("nimco._task_runners._CONNECT_S", 60.0)
        workers += [
            subprocess.Popen(
                [*dask, "worker", address, *alone, "--local-directory", str(tmp_path / name)],
                env=environment,
                **quiet,
            )
            for name in ("one", "two")
        ]
        # Workers that do not see the folder read each for itself.
        client = tiled_server.client()
        before = ReanalysisStore.address.fget
        unseen = property(lambda store: replace(before(store), folder=Path("/nowhere/to/be/seen")))
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(ReanalysisStore, "address", unseen)
            command(stored[1], scheduler=address)
        assert list(tmp_path.rglob("nimco-*/*/frames.f32"))
        assert_same_maps(open_soc(client, stored[1]), open_soc(client, stored[1], version=1))

        keep = ReanalysisStore.keep

        def then_it_dies(self, name, part, value):
            keep(self, name, part, value)
            if "rows" in part:
                scheduler.kill()
                scheduler.wait()

        monkeypatch.setattr(ReanalysisStore, "keep", then_it_dies)
        with pytest.raises(
            NimcoError, match=r"has gone away. 0 of the results are in Tiled, and what was read"
        ):
            command(stored[0], scheduler=address, axis_offset=["0.25"])
        monkeypatch.setattr(ReanalysisStore, "keep", keep)
        command(stored[0], axis_offset=["0.25"])
        assert open_soc(client, stored[0]).attrs["axis_offset_ev"] == 0.25
        assert is_clean(tmp_path / "data")
    finally:
        for process in (scheduler, *workers):
            process.kill()
            process.wait()


def test_work_cancelled_before_the_client_knows_why_is_the_scheduler_gone():
    cluster, work, cancelled = _Cluster.__new__(_Cluster), Reanalysis.__new__(Reanalysis), Future()
    cluster._client, cluster._address = SimpleNamespace(status="running"), "tcp://127.0.0.1:9"
    work._runner = cluster
    cancelled.cancel()
    with pytest.raises(NimcoError, match=r"scheduler at tcp://127.0.0.1:9 has gone away"):
        work._take(SimpleNamespace(run=None), cancelled)


def test_what_cannot_be_analysed_is_one_sentence(
    stored, command, tiled_server, scan_documents, tmp_path, monkeypatch
):
    empty = scan_documents(shape=(6, 8)).run([])
    with RawRunWriter(tiled_server.raw) as writer:
        for document in empty:
            writer(*document)
        writer.wait(240)
    energies = np.arange(8330.0, 8400.0, 0.5)
    names = []
    for soc in (0, 1):
        names.append(f"{tmp_path / f'short{soc}.txt'}={soc}")
        np.savetxt(
            tmp_path / f"short{soc}.txt", np.column_stack([energies, scan_documents.spectrum(energies, soc)])
        )
    key = tmp_path / "key"
    key.write_text("wrong")
    uid = stored[0]
    for options, said in (
        ({"tiled": None}, "There are no data in"),
        ({"tiled": "http://127.0.0.1:9"}, "does not answer at http://127.0.0.1:9"),
        ({"api_key_file": key}, "refuses the key"),
        (
            {"references": [",".join(names)]},
            r"energies of run \w+ from .* cannot be fitted .* with --leave-out",
        ),
        ({"references": [names[0]]}, "a series needs two or more"),
        ({"axis_offset": ["far"]}, "--axis-offset 'far'"),
        ({"method": "guess"}, "guess"),
        ({"leave_out": ["7000"]}, "no such energy"),
        ({"flat_run": uid}, "go with --layout"),
        ({"soc_range": "0,1"}, "name the picture with --plot"),
        ({"workers": 2, "scheduler": "tcp://127.0.0.1:9"}, "say twice who works"),
    ):
        with pytest.raises(Exception, match=said) as caught:
            command(uid, **options)
        assert isinstance(caught.value, NimcoError | EdgeFittingError)
        assert str(caught.value).count("\n") == 0
    for unknown in ("00000000", "00", "../x"):
        with pytest.raises(NimcoError, match=f"no run {unknown} in Tiled"):
            command(uid, unknown)
    with pytest.raises(NimcoError, match="first 5 characters"):
        command(uid[:4])
    # The other runs are gone on with.
    with pytest.raises(NimcoError, match=rf"Run {empty[0][1]['uid']} gives no map: .*holds no frame"):
        command(empty[0][1]["uid"], uid)
    assert soc_versions(tiled_server.client(), uid)[-1].analysed_s is not None
    with monkeypatch.context() as gone:
        gone.setattr(
            "nimco._stored_runs.documents_of", lambda run: (_ for _ in ()).throw(httpx.ConnectError("no"))
        )
        with pytest.raises(NimcoError, match=rf"Run {uid} gives no map: Tiled at .* has stopped answering"):
            command(uid)
    held = ReanalysisStore(tmp_path / "data" / "reanalysis")
    monkeypatch.setattr("nimco._cmd_reanalyse._name", lambda *_, **__: "a-name")
    with held.held("a-name"), pytest.raises(NimcoError, match="Another nimco reanalyse works on this run"):
        command(uid)
    monkeypatch.setattr("nimco._task_runners._CONNECT_S", 0.5)
    with pytest.raises(NimcoError, match=r"No scheduler of dask.distributed answers at tcp://127.0.0.1:9"):
        command(uid, scheduler="tcp://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'nimco\[cluster\]'"):
        command(uid, scheduler="tcp://127.0.0.1:9")


@pytest.mark.parametrize("status", [413, 503])
def test_a_map_that_tiled_does_not_take_is_no_success(status, tiled_server, stored, command, monkeypatch):
    request = httpx.Request("PUT", tiled_server.uri)

    def refuse(*_):
        raise httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, request=request))

    monkeypatch.setattr("callbacks.publish._result_writer.ResultWriter.write", refuse)
    monkeypatch.setattr("nimco._cmd_reanalyse._DELIVERY_TIMEOUT_S", 0.2)
    reason = "did not get into Tiled: " + ("it took nothing for 0.2 s" if status == 503 else "no")
    with pytest.raises(NimcoError, match=reason):
        command(stored[0])
