"""The configuration of the documentation page, with a real PostgreSQL and a real Redis."""

import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest

from callbacks import LiveSOC, RawRunWriter, SOCPublisher, follow_soc, open_soc
from nimco import RemoteTiled
from nimco.errors import NimcoError
from nimco.testing import free_port, wait_until

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "run-a-facility-server.md"

pytestmark = pytest.mark.slow


def program(name):
    places = [*Path("/usr/lib/postgresql").glob("*/bin")] if Path("/usr/lib/postgresql").is_dir() else []
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, places)]))
    if found is None:
        pytest.skip(f"{name} is not installed (packages postgresql and redis-server)")
    return found


def wait_for_port(port, process):
    def answers():
        assert process.poll() is None, f"ended with {process.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True

    wait_until(answers, what=f"listening on port {port}")


@contextlib.contextmanager
def running(command, port, **options):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
    try:
        wait_for_port(port, process)
        yield process
    finally:
        process.terminate()
        process.wait(240)


@pytest.fixture(scope="module")
def postgresql():
    """A new PostgreSQL on loopback with three databases; the uri of each."""
    initdb, postgres = program("initdb"), program("postgres")
    folder = Path(tempfile.mkdtemp(prefix="nimco-postgresql-"))
    # PostgreSQL does not run as root, which a container often is.
    as_user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    if as_user:
        shutil.chown(folder, **as_user)
    password_file = folder / "password"
    password = secrets.token_hex(8)
    password_file.write_text(password)
    data = folder / "data"
    if as_user:
        shutil.chown(password_file, **as_user)
    subprocess.run(
        [initdb, "-D", str(data), "-U", "tiled", "-A", "scram-sha-256", f"--pwfile={password_file}"],
        check=True,
        capture_output=True,
        cwd=folder,
        **as_user,
    )
    port = free_port()
    command = [
        postgres,
        "-D",
        str(data),
        "-p",
        str(port),
        "-h",
        "127.0.0.1",
        "-k",
        str(folder),
        "-c",
        "fsync=off",
    ]
    with running(command, port, stderr=subprocess.DEVNULL, cwd=folder, **as_user):
        names = ("tiled", "tiled_tables", "tiled_users")
        for name in names:
            subprocess.run(
                [program("createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "tiled", name],
                check=True,
                env={**os.environ, "PGPASSWORD": password},
                cwd=folder,
                capture_output=True,
            )
        yield {name: f"postgresql://tiled:{password}@127.0.0.1:{port}/{name}" for name in names}
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """A new Redis on loopback; its uri."""
    server, port = program("redis-server"), free_port()
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with running(command, port, cwd=tmp_path_factory.mktemp("redis")):
        yield f"redis://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def facility(postgresql, redis, tmp_path_factory):
    """The server of the page: its address and the password of its user."""
    folder = tmp_path_factory.mktemp("facility")
    (configuration,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    port, password = free_port(), secrets.token_hex(8)
    (folder / "config.yml").write_text(configuration.replace("port: 8710", f"port: {port}"))
    (folder / "storage").mkdir()
    environment = {
        **os.environ,
        "NIMCO_CATALOG": postgresql["tiled"],
        "NIMCO_TABLES": postgresql["tiled_tables"],
        "NIMCO_USERS": postgresql["tiled_users"],
        "NIMCO_STORAGE": str(folder / "storage"),
        "NIMCO_REDIS": redis,
        "NIMCO_SECRET": secrets.token_hex(32),
        "NIMCO_PASSWORD": password,
    }
    for arguments in (
        ["catalog", "init", postgresql["tiled"]],
        ["admin", "initialize-database", postgresql["tiled_users"]],
    ):
        subprocess.run([sys.executable, "-m", "tiled", *arguments], check=True, capture_output=True)
    command = [sys.executable, "-m", "tiled", "serve", "config", "config.yml"]
    with (folder / "log").open("w") as log:
        try:
            with running(command, port, cwd=folder, env=environment, stderr=log):
                yield f"http://127.0.0.1:{port}", password
        finally:
            log.flush()
            sys.stderr.write((folder / "log").read_text()[-4000:])


@pytest.fixture(scope="module")
def api_key(facility):
    """A key made after logging in with the password."""
    uri, password = facility
    with httpx.Client(base_url=f"{uri}/api/v1", timeout=60) as http:
        refused = http.post(
            "/auth/provider/facility/token", data={"username": "beamline", "password": "guess"}
        )
        assert refused.status_code == 401
        tokens = http.post(
            "/auth/provider/facility/token", data={"username": "beamline", "password": password}
        )
        tokens.raise_for_status()
        made = http.post(
            "/auth/apikey",
            headers={"Authorization": f"Bearer {tokens.json()['access_token']}"},
            json={"expires_in": 3600, "scopes": ["inherit"], "note": "beamline"},
        )
        made.raise_for_status()
        return made.json()["secret"]


def test_a_scan_is_stored_pushed_and_read_back(facility, api_key, scan_documents, tmp_path):
    uri, _ = facility
    server = RemoteTiled(uri, api_key, data_dir=tmp_path)
    documents = scan_documents().run()
    uid = documents[0][1]["uid"]
    seen = []

    def follow():
        seen.extend(follow_soc(server.client(), uid, timeout_s=240))

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    with (
        RawRunWriter(server.raw, spool_dir=tmp_path / "spool") as writer,
        SOCPublisher(server.maps, raw_container=server.raw, spool_dir=tmp_path / "spool") as publisher,
        LiveSOC(subscribers=[publisher], update_period_s=0.0) as live,
    ):
        for number, (name, doc) in enumerate(documents):
            writer(name, doc)
            live(name, doc)
            if number > 60:
                live.wait(240)
                publisher.wait(240) if number < len(documents) - 1 else None
        live.wait(240)
        writer.wait(240)
        publisher.wait(240)
        follower.join(240)
        assert writer.errors == publisher.errors == live.errors == []
        final = live.latest(uid)["soc"].values
    client = server.client()
    assert np.array_equal(open_soc(client, uid).soc.values, final, equal_nan=True)
    assert np.array_equal(seen[-1].values, final, equal_nan=True)
    assert any(followed.sequence for followed in seen), "nothing was pushed"
    run = client["raw"][uid[:8]]
    sent = [doc["data"]["camera_image"] for name, doc in documents if name == "event"]
    assert np.array_equal(run["primary"]["camera_image"].read(), np.array(sent[3::2]))
    assert [name for name, _ in run.documents()].count("event") == len(sent)
    assert run.metadata["nimco"]["maps"] == f"maps/{uid}/Ni_K"


def test_nothing_measured_is_told_without_the_key(facility, api_key, scan_documents, tmp_path):
    uri, _ = facility
    server = RemoteTiled(uri, api_key, data_dir=tmp_path)
    documents = scan_documents((6, 8)).run(sample={"name": "SECRET-CELL-9"})
    uid = documents[0][1]["uid"]
    with RawRunWriter(server.raw, spool_dir=tmp_path / "spool") as writer:
        for name, doc in documents:
            writer(name, doc)
        writer.wait(240)
    node = f"raw/{uid}"
    paths = [
        re.sub(r"\{[^}]*\}", "0", re.sub(r"\{path[^}]*\}", held, pattern))
        for pattern in httpx.get(f"{uri}/openapi.json").json()["paths"]
        for held in (node, f"{node}/primary/camera_image", "raw", "")
    ]
    paths += ["/zarr/v2/", "/zarr/v3/", "//zarr/v3/raw", f"/zarr/v2/{node}/.zattrs"]
    seen_with_the_key = set()
    with httpx.Client(base_url=uri, timeout=60, trust_env=False) as http:
        for path in sorted(set(paths)):
            allowed = http.get(path, headers={"Authorization": f"Apikey {api_key}"})
            if allowed.is_success and "SECRET-CELL-9" in allowed.text:
                seen_with_the_key.add(path.split("/")[1])
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                for headers in ({}, {"Authorization": f"Apikey {'0' * len(api_key)}"}):
                    try:
                        answer = http.request(method, path, headers=headers)
                    except httpx.TransportError:
                        continue  # Tiled drops the connection where a session or a key is none
                    assert "SECRET-CELL-9" not in answer.text, (method, path)
                    if "zarr" in path or (node in path and not path.startswith("/ui")):
                        assert answer.status_code >= 400, (method, path)
        query = {"query": "{ entities(limit: 10) { id name } }"}
        assert not (http.post("/api/graphql", json=query).json().get("data") or {}).get("entities")
    assert {"api", "zarr"} <= seen_with_the_key


def test_without_the_key_there_is_nothing(facility, api_key, tmp_path):
    uri, _ = facility
    assert httpx.get(f"{uri}/api/v1/metadata/").status_code == 401
    wrong = "0" * len(api_key)
    assert (
        httpx.get(f"{uri}/api/v1/metadata/raw", headers={"Authorization": f"Apikey {wrong}"}).status_code
        == 401
    )
    with pytest.raises(NimcoError, match=r"refuses this key \(401\)"):
        RemoteTiled(uri, wrong, data_dir=tmp_path)


def test_an_address_where_nobody_answers(tmp_path, monkeypatch):
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)
    with pytest.raises(NimcoError, match="no Tiled server answers"):
        RemoteTiled(f"http://127.0.0.1:{free_port()}", "key", data_dir=tmp_path)
