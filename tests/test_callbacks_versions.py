"""A result that is there is kept when the run is analysed anew: real Tiled, crashes in the middle, two at once."""

import contextlib
import itertools
import threading
import uuid

import h5py
import httpx
import numpy as np
import pytest
import xarray as xr
from tiled.client.array import ArrayClient
from tiled.structures.core import Spec

from callbacks import (
    DeliveryError,
    Field,
    ReadingError,
    ResultSchema,
    SOCPublisher,
    export_tiff,
    follow_soc,
    open_soc,
    open_soc_table,
    soc_versions,
)
from callbacks.publish._kept_results import keep_on_disk
from callbacks.publish._result_writer import ResultWriter
from nimco._commands import export

GRAINS = ResultSchema(
    "Grains",
    "1",
    (
        Field("soc", ("row", "column"), "float32", "", "a map"),
        Field("soc_sigma", ("row", "column"), "float32", "", "its standard deviation", "sigma", "soc"),
        Field("goodness", ("row", "column"), "float32", "", "another map", "quality"),
        Field("extra", ("row",), "float64", "eV", "an array that only some have", "quality", storage="array"),
        Field("grain_size", ("grain",), "int64", "", "of each grain", "quality", path="grains/size"),
        Field("energy_ev", ("energy",), "float64", "eV", "energies", "coordinate", storage="metadata"),
    ),
)


def result(run, analysis, value, *, final=True, extra=False, grains=3, began_s=1.0, n_frames=5):
    values = {
        "soc": np.full((6, 5), value),
        "soc_sigma": np.full((6, 5), value / 10),
        "goodness": np.full((6, 5), value + 100),
        "energy_ev": [8300.0 + value, 8400.0],
    }
    if extra:
        values["extra"] = np.full(6, value)
    if final:
        values["grain_size"] = np.full(grains, int(value))
    about = {
        "raw_uid": run,
        "edge": "Ni_K",
        "technique": "grains",
        "final": final,
        "n_frames": n_frames,
        "method": f"method {value:g}",
        "versions": {"nimco": "1.2.3"},
        "analysis": {"id": analysis, "began_s": began_s, "options": {"method": f"method {value:g}"}},
    }
    return GRAINS.make(values, about)


def write(maps, *results):
    """Write results as an analysis does."""
    writer = ResultWriter(maps, results[0], lambda: None, results[0].attrs["analysis"]["id"])
    for held in results:
        writer.write(held)
    return writer


@pytest.fixture
def run():
    return uuid.uuid4().hex


def test_an_analysis_done_anew_keeps_the_former_one(tiled_server, run, tmp_path, monkeypatch):
    client = tiled_server.client()
    made = [
        result(run, "a", 1.0, extra=True, began_s=11.0),
        result(run, "b", 2.0, grains=2, began_s=12.0),
        result(run, "c", 3.0, grains=0, extra=True, began_s=13.0),
    ]
    for held in made:
        with SOCPublisher(tiled_server.maps) as publisher:
            publisher(held.assign_attrs(final=False))
            publisher(held)
            publisher.wait(240)
            assert publisher.errors == []
        xr.testing.assert_identical(open_soc(client, run), held)
    assert sorted(client["maps"][run]) == ["Ni_K", "Ni_K@1", "Ni_K@2"]
    for number, held in enumerate(made, 1):
        found = open_soc(client, run[:9], "Ni", version=number)
        xr.testing.assert_identical(found, held)
        assert (found.encoding["version"], found.encoding["current"]) == (number, number == 3)
    assert open_soc_table(client, run, "grains", version=2)["size"].tolist() == [2, 2]
    listed = soc_versions(client, run)
    assert [(held.version, held.current, held.analysed_s) for held in listed] == [
        (1, False, 11.0),
        (2, False, 12.0),
        (3, True, 13.0),
    ]
    assert [(held.method, held.software, held.final, held.n_frames) for held in listed[:1]] == [
        ("method 1", "1.2.3", True, 5)
    ]
    assert listed[1].options == {"method": "method 2"}
    nodes = client["maps"][run]
    assert [nodes[key].metadata["current"] for key in ("Ni_K@1", "Ni_K@2", "Ni_K")] == [False, False, True]
    assert list(nodes["Ni_K@1"].specs) == [Spec("Grains", version="1")]
    for wrong in (0, 4, -1):
        with pytest.raises(ReadingError, match=f"no version {wrong}, only 1, 2, 3"):
            open_soc(client, run, version=wrong)
    # Files say which version they are of, and one does not replace the other's.
    names = {
        path.name
        for number in (None, 1)
        for path in export_tiff(open_soc(client, run, version=number), tmp_path)
    }
    assert {f"{run[:8]}_Ni_K_soc.tif", f"{run[:8]}_Ni_K@1_soc.tif"} <= names
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    export(run=run[:8], to=tmp_path, layout="nexus", version=2, tiled=tiled_server.uri)
    with h5py.File(tmp_path / f"{run[:8]}_Ni_K@2.h5") as file:
        assert file["entry/process/result_version"][()] == 2
        assert file["entry/process/date"][()].startswith(b"1970-01-01T00:00:12")


def test_updates_of_one_analysis_overwrite_only_their_own(tiled_server, run):
    client = tiled_server.client()
    growing = [result(run, "a", value, final=value == 3.0) for value in (1.0, 2.0, 3.0)]
    # A publisher that goes on with what another one left, and one that delivers the same once more.
    for part in (growing[:2], growing[2:], growing[2:]):
        with SOCPublisher(tiled_server.maps) as publisher:
            for held in part:
                publisher(held)
                publisher.wait(240)
    assert list(client["maps"][run]) == ["Ni_K"]
    xr.testing.assert_identical(open_soc(client, run), growing[2])


def test_results_that_do_not_say_their_analysis_are_kept_too(tiled_server, run):
    anonymous = [result(run, "", value) for value in (1.0, 2.0)]
    with SOCPublisher(tiled_server.maps) as publisher:
        for held in anonymous:
            publisher(held.assign_attrs(final=False))
            publisher.wait(240)
            publisher(held)
            publisher.wait(240)
    for number, held in enumerate(anonymous, 1):
        xr.testing.assert_identical(open_soc(tiled_server.client(), run, version=number), held)


def test_two_analyses_that_take_turns_each_write_their_own(tiled_server, run):
    client = tiled_server.client()
    first, second = tiled_server.maps, tiled_server.maps
    live = write(first, result(run, "live", 1.0, final=False))
    seen = []
    following = threading.Event()

    def follow():
        for followed in follow_soc(client, run, array="soc"):
            seen.append(followed.values[0, 0])
            following.set()

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    assert following.wait(240)
    anew = write(second, result(run, "anew", 10.0, final=False))
    live.write(result(run, "live", 2.0, final=False))
    assert open_soc(client, run).attrs["method"] == "method 10"
    anew.write(result(run, "anew", 20.0, final=False))
    live.write(result(run, "live", 3.0))
    anew.write(result(run, "anew", 30.0))
    xr.testing.assert_identical(open_soc(client, run), result(run, "anew", 30.0))
    xr.testing.assert_identical(open_soc(client, run, version=1), result(run, "live", 3.0))
    assert sorted(client["maps"][run]) == ["Ni_K", "Ni_K@1"]
    follower.join(240)
    assert not follower.is_alive()
    assert seen[-1] == 30.0


class Crash(BaseException):
    """The process ends here."""


def crashing_after(client, n_requests):
    """Let a client do so many changes and then no more; return how many it was asked for."""
    asked = itertools.count(1)
    said = []

    def stop(request):
        if request.method != "GET":
            said.append(next(asked))
            if said[-1] > n_requests:
                raise Crash

    http = client.context.http_client
    http.event_hooks = {**http.event_hooks, "request": [*http.event_hooks["request"], stop]}
    return said


def test_a_crash_at_any_request_loses_neither_the_former_nor_the_next(tiled_server):
    client = tiled_server.client()
    for n_requests in itertools.count(0, 7):
        run = uuid.uuid4().hex
        former, broken, after = (
            result(run, name, value) for name, value in (("a", 1.0), ("b", 2.0), ("c", 3.0))
        )
        write(tiled_server.maps, former)
        doomed = tiled_server.client()
        said = crashing_after(doomed, n_requests)
        with contextlib.suppress(Crash):
            write(doomed["maps"], broken.assign_attrs(final=False), broken)
        held = {version.version: version for version in soc_versions(client, run)}
        found = open_soc(client, run)
        if 2 in held and n_requests >= len(said):
            xr.testing.assert_identical(found, broken)
        elif 2 in held:
            # Only its own arrays are in it, or none yet, and it does not pass for final without them.
            assert all((found[name] == broken[name]).all() for name in found.data_vars)
            assert not found.attrs["final"] or set(found.variables) == set(broken.variables)
        xr.testing.assert_identical(open_soc(client, run, version=1), former)
        write(tiled_server.maps, after)
        xr.testing.assert_identical(open_soc(client, run), after)
        xr.testing.assert_identical(open_soc(client, run, version=1), former)
        if n_requests >= len(said):
            break
    assert n_requests > 12
    xr.testing.assert_identical(open_soc(client, run, version=2), broken)


@pytest.mark.parametrize("final_first", [True, False])
def test_writers_at_the_same_time_lose_no_result(tiled_server, run, final_first):
    former = result(run, "former", 1.0, final=final_first)
    write(tiled_server.maps, former)
    names = ("b", "c", "d")
    ready = threading.Barrier(len(names))
    failed = []

    def analyse(name, value):
        try:
            with SOCPublisher(tiled_server.maps) as publisher:
                ready.wait(240)
                for step in (0.25, 0.5, 0.75):
                    publisher(result(run, name, value + step, final=False))
                publisher(result(run, name, value))
                publisher.wait(240)
                # A request that the loaded server refused is made again: that is no loss.
                failed.extend(one for one in publisher.errors if not isinstance(one, DeliveryError))
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=analyse, args=(name, 10.0 * number)) for number, name in enumerate(names, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert failed == []
    client = tiled_server.client()
    versions = soc_versions(client, run)
    assert [held.current for held in versions].count(True) == 1
    found = {
        held.attrs["analysis"]["id"]: held
        for held in (open_soc(client, run, version=version.version) for version in versions)
    }
    assert len(versions) == len(found) == 4
    xr.testing.assert_identical(found["former"], former)
    for number, name in enumerate(names, 1):
        xr.testing.assert_identical(found[name], result(run, name, 10.0 * number))


def test_containers_from_before_there_were_versions_are_kept(tiled_server, run):
    client = tiled_server.client()
    former = result(run, "a", 1.0)
    write(tiled_server.maps, former)
    node = client["maps"][run]["Ni_K"]
    node.replace_metadata(
        {
            key: value
            for key, value in node.metadata.items()
            if key not in ("version", "current", "written_by")
        }
    )
    assert [(held.version, held.current) for held in soc_versions(client, run)] == [(1, True)]
    xr.testing.assert_identical(open_soc(client, run, version=1), former)
    write(tiled_server.maps, result(run, "b", 2.0))
    xr.testing.assert_identical(open_soc(client, run, version=1), former)
    assert client["maps"][run]["Ni_K@1"].metadata["current"] is False


def test_results_of_two_analyses_that_wait_are_both_delivered(tiled_server, run, tmp_path):
    # As they were left by a session that Tiled did not answer; the names say nothing of the order.
    early, late = result(run, "z", 1.0, began_s=100.0), result(run, "a", 2.0, began_s=200.0)
    with SOCPublisher(tiled_server.maps, spool_dir=tmp_path) as publisher:
        for held in (late, early):
            publisher._keep(held)
        assert len(list(tmp_path.glob("*.map"))) == 2
    keep_on_disk(result(run, "m", 3.0, began_s=150.0), tmp_path / "another.map")
    with SOCPublisher(tiled_server.maps, spool_dir=tmp_path) as publisher:
        publisher.wait(240)
        assert publisher.errors == []
    client = tiled_server.client()
    assert [held.method for held in soc_versions(client, run)] == ["method 1", "method 3", "method 2"]
    xr.testing.assert_identical(open_soc(client, run), late)
    assert not list(tmp_path.iterdir())


def test_an_array_made_anew_while_it_is_copied_is_copied_again(tiled_server, run, monkeypatch):
    former = result(run, "a", 1.0)
    write(tiled_server.maps, former)
    read, refused = ArrayClient.read, []

    def read_once_refused(client, *arguments, **options):
        if not refused:
            refused.append(client.uri)
            answer = httpx.Response(400, request=httpx.Request("GET", client.uri))
            raise httpx.HTTPStatusError("Block index out of range", request=answer.request, response=answer)
        return read(client, *arguments, **options)

    monkeypatch.setattr(ArrayClient, "read", read_once_refused)
    write(tiled_server.maps, result(run, "b", 2.0))
    assert refused
    client = tiled_server.client()
    xr.testing.assert_identical(open_soc(client, run, version=1), former)
    xr.testing.assert_identical(open_soc(client, run), result(run, "b", 2.0))
