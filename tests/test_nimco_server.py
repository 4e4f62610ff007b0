import fcntl
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from tiled.client import from_uri

from nimco._server import DataDirectoryError, TiledServer
from nimco.errors import PortInUseError, ServerError
from nimco.testing import wait_until


def test_it_listens_on_loopback_only_and_knows_its_key(tiled_server):
    assert tiled_server.uri.startswith("http://127.0.0.1:")
    client = tiled_server.client()
    assert set(client) >= {"raw", "maps"}  # a library of references where tests have made one
    assert {spec.name for spec in client["raw"].specs} == {"CatalogOfBlueskyRuns"}
    mode = stat.S_IMODE(tiled_server.key_path.stat().st_mode)
    assert mode == 0o600


@pytest.mark.parametrize("key", [None, "wrong", "0" * 64])
def test_without_the_key_there_is_nothing(tiled_server, key):
    headers = {} if key is None else {"Authorization": f"Apikey {key}"}
    for path in ("/api/v1/metadata/", "/api/v1/search/", "/api/v1/metadata/raw", "/api/v1/array/full/maps"):
        answer = httpx.get(tiled_server.uri + path, headers=headers)
        assert answer.status_code in (401, 403), path
    posted = httpx.post(
        f"{tiled_server.uri}/api/v1/metadata/maps",
        headers=headers,
        json={"structure_family": "container", "metadata": {}, "data_sources": []},
    )
    assert posted.status_code in (401, 403)


def test_the_key_is_in_no_log_and_no_list_of_processes(tiled_server):
    tiled_server.client()["raw"]
    httpx.get(f"{tiled_server.uri}/api/v1/?api_key={tiled_server.api_key}")
    for path in tiled_server.data_dir.glob("*.log"):
        assert tiled_server.api_key not in path.read_text()
    for place in ("cmdline", "environ"):
        shown = Path(f"/proc/{tiled_server.pid}/{place}").read_bytes()
        assert tiled_server.api_key.encode() not in shown


def test_a_port_in_use(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"cannot listen on 127.0.0.1:{port} .*choose another"):
            TiledServer(tmp_path, port).start()


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirectoryError, match=r"cannot write to the data directory .*choose another"):
        TiledServer(tmp_path / "file" / "data").start()


def test_a_directory_another_server_uses(tiled_server):
    with pytest.raises(DataDirectoryError, match=f"another Tiled server is using .* at {tiled_server.uri};"):
        TiledServer(tiled_server.data_dir).start()
    assert tiled_server.uri in (tiled_server.data_dir / "server.lock").read_text()  # the second left it alone


def test_only_the_owner_reads_what_it_keeps(tmp_path, tiled_server):
    for path in (tiled_server.data_dir, *tiled_server.data_dir.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    # One that was made with other permissions is closed; one that holds other things is left as it is.
    for name, mode in (("api_key", 0o700), ("notes.txt", 0o755)):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir(mode=0o755)
        (folder / name).write_text("")
        with (folder / "server.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(DataDirectoryError):
                TiledServer(folder).start()
        assert stat.S_IMODE(folder.stat().st_mode) == mode


@pytest.mark.parametrize(
    ("content", "problem"),
    [("", "is empty"), (" \n", "is empty"), ("two words", "letters and digits"), ("\xff", "cannot be read")],
)
def test_a_key_file_that_holds_no_key_is_named(tmp_path, content, problem):
    (tmp_path / "api_key").write_bytes(content.encode("latin1"))
    with pytest.raises(
        DataDirectoryError, match=f"key file {tmp_path / 'api_key'} .*{problem}.*delete the file"
    ):
        TiledServer(tmp_path).start()


def test_the_link_for_the_browser_opens_the_page_and_its_data(tiled_server):
    with httpx.Client() as browser:
        assert "Key needed" in browser.get(f"{tiled_server.uri}/ui/").text
        page = browser.get(tiled_server.browser_url)
        assert page.status_code == 200
        assert "Key needed" not in page.text
        assert browser.get(f"{tiled_server.uri}/api/v1/metadata/raw").status_code == 200  # by its cookie


@pytest.mark.slow
def test_a_server_that_dies_again_and_again_is_told_and_started_until_it_stays(tmp_path, caplog):
    """A catalogue that is no database: every start fails."""
    catalog, kept = tmp_path / "catalog.db", tmp_path / "kept.db"
    with TiledServer(tmp_path) as server:
        server.maps.write_array(np.arange(3.0), key="kept")
        os.kill(server.pid, signal.SIGSTOP)  # nothing is written while the file is exchanged
        catalog.rename(kept)
        for extra in tmp_path.glob("catalog.db-*"):
            extra.rename(extra.with_name(extra.name.replace("catalog", "kept")))
        catalog.write_bytes(b"no database" * 100)
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: "3 times in a row" in caplog.text, 600)
        told = [record.getMessage() for record in caplog.records if "in a row" in record.getMessage()]
        assert "file is not a database" in told[-1]
        pauses = [float(text.rsplit(" in ", 1)[1].removesuffix(" s")) for text in told]
        assert pauses == sorted(pauses)
        assert pauses[0] < pauses[-1]
        for path in tmp_path.glob("kept.db*"):
            path.replace(path.with_name(path.name.replace("kept", "catalog")))
        wait_until(
            lambda: (
                server.pid is not None and httpx.get(f"{server.uri}/healthz", timeout=60).status_code == 200
            ),
            600,
        )
        assert server.client()["maps/kept"].read().sum() == 3
    catalog.write_bytes(b"no database" * 100)
    with pytest.raises(ServerError, match=r"ended while starting .*file is not a database.*server\.log"):
        TiledServer(tmp_path).start()


@pytest.mark.slow
def test_what_was_written_is_there_after_a_restart_and_after_a_kill(tmp_path):
    with TiledServer(tmp_path) as server:
        key = server.api_key
        assert server.key_is_new
        server.maps.write_array(np.arange(6.0).reshape(2, 3), key="kept")
    with TiledServer(tmp_path) as server:
        assert server.api_key == key
        assert not server.key_is_new
        assert server.client()["maps/kept"].read().sum() == 15
        before = server.pid
        os.kill(before, signal.SIGKILL)
        # The socket stays open: the request waits for the server that is started again.
        assert server.client()["maps/kept"].read().sum() == 15
        assert server.pid != before


@pytest.mark.slow
def test_nimco_serve_shows_the_key_once_and_ends_when_told(tmp_path):
    code = "import sys; from nimco._commands import serve; import typer; typer.run(serve)"
    command = [sys.executable, "-c", code, "--data-dir", str(tmp_path), "--port", "0"]
    for start in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("serving"):
                break
        text = "".join(said)
        uri = re.search(r"http://127\.0\.0\.1:\d+", text)[0]
        key = (tmp_path / "api_key").read_text()
        assert (key in text) == (start == 0)
        assert set(from_uri(uri, api_key=key)) == {"raw", "maps"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 0
