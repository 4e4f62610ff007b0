"""The process behind `TiledServer`: a catalog in one directory, served on a socket that the parent has bound.

Run as ``python _server_process.py DIRECTORY FD [READABLE_FOLDER ...]``. The API key comes in as the first
line of standard input, so that it shows neither in the list of processes nor in the environment; the end of
standard input ends the server.
"""

import asyncio
import logging
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import uvicorn
from cachetools import TTLCache
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import Pool
from tiled.alembic_utils import stamp_head
from tiled.catalog import from_uri as catalog_from_uri
from tiled.catalog.alembic_constants import ALEMBIC_DIR, ALEMBIC_INI_TEMPLATE_PATH
from tiled.catalog.core import initialize_database
from tiled.config import Authentication
from tiled.media_type_registration import default_serialization_registry
from tiled.server.app import build_app
from tiled.server.settings import get_settings
from tiled.server.streaming import TTLCacheDatastore, register_datastore
from tiled.utils import ensure_specified_sql_driver

from nimco._direct_lookup import find_nodes_directly
from nimco._key_guard import KeyGuard

CATALOG_FILE = "catalog.db"
TABLES_FILE = "tables.db"
ARRAYS_FOLDER = "arrays"
LOG_FILE = "server.log"

_STREAM_CACHE_BYTES = 256 * 2**20
_STREAM_CACHE_NODES = 4096
_STREAM_TTL_S = 3600
_DATASTORE = "nimco-memory"
_BUSY_TIMEOUT_MS = 30_000


class BoundedDatastore(TTLCacheDatastore):
    """Tiled's in-memory stream cache, bounded in bytes rather than in messages.

    A message is a small table row or a 16 MB map: a bound on their number either loses rows or fills the
    memory. Sequence counters are kept for many nodes, because a counter that is forgotten starts again at
    one and its subscribers then ignore everything.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__({"maxsize": _STREAM_CACHE_NODES, "seq_ttl": 24 * _STREAM_TTL_S, **settings})
        self._data_cache: TTLCache[str, Any] = TTLCache(
            maxsize=_STREAM_CACHE_BYTES,
            ttl=_STREAM_TTL_S,
            getsizeof=lambda message: len(message.get("payload", b"")) + 1024,
        )


async def export_documents(
    mimetype: str, adapter: Any, metadata: dict[str, Any], filter_for_access: Any
) -> AsyncIterator[str]:
    """Export a run as its documents; the exporter is imported when first wanted, as that takes seconds."""
    from bluesky_tiled_plugins.exporters import json_seq_exporter

    async for line in json_seq_exporter(mimetype, adapter, metadata, filter_for_access):
        yield line


def initialise_catalog(database: str) -> None:
    """Create the tables of a new catalog (what ``tiled catalog init`` does, without a process of its own)."""

    async def create() -> None:
        engine = create_async_engine(database)
        try:
            await initialize_database(engine)
        finally:
            await engine.dispose()

    asyncio.run(create())
    stamp_head(ALEMBIC_INI_TEMPLATE_PATH, ALEMBIC_DIR, database)


def wait_for_locks(tables: Path) -> None:
    """Make writers of the databases wait for one another: otherwise all but one are told that it is locked.

    The driver of the tables does not wait at all of its own accord, and that of the catalogue five seconds.
    """
    with closing(sqlite3.connect(tables)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # kept in the file; readers hold no writer up

    def set_busy_timeout(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        cursor.fetchall()
        cursor.close()
        connection.rollback()  # drivers that begin a transaction with whatever comes first

    event.listen(Pool, "connect", set_busy_timeout)


class AppliedOverrides(dict[Any, Any]):
    """Overrides of dependencies that are in force already, which FastAPI need not look up.

    For every request FastAPI analyses the signatures of all dependencies anew, a fifth to a third of what it costs,
    as long as there is an override (it asks for the truth of the mapping).
    """

    def __bool__(self) -> bool:
        return False


def apply_settings(app: Any) -> None:
    """Set the settings of an application once, where Tiled overrides them at each request with the same."""
    override = app.dependency_overrides.get(get_settings)
    if len(app.dependency_overrides) == 1 and override is not None and override() is get_settings():
        app.dependency_overrides = AppliedOverrides(app.dependency_overrides)


def build_server(directory: Path, api_key: str, readable: list[str]) -> uvicorn.Server:
    """Assemble the application over the catalog in ``directory``."""
    catalog_path = directory / CATALOG_FILE
    if not catalog_path.exists():
        # Created under another name first: a catalog that exists is a catalog that is complete.
        unfinished = directory / f"{CATALOG_FILE}.new"
        unfinished.unlink(missing_ok=True)
        initialise_catalog(ensure_specified_sql_driver(str(unfinished)))
        unfinished.rename(catalog_path)
    (directory / ARRAYS_FOLDER).mkdir(exist_ok=True)
    wait_for_locks(directory / TABLES_FILE)
    catalog = catalog_from_uri(
        ensure_specified_sql_driver(str(catalog_path)),
        writable_storage=[str(directory / ARRAYS_FOLDER), f"sqlite:///{directory / TABLES_FILE}"],
        readable_storage=readable,
        cache_config={"datastore": _DATASTORE},
    )
    register_datastore(_DATASTORE)(BoundedDatastore)
    registry = default_serialization_registry
    registry.register("BlueskyRun", "application/json-seq", export_documents)
    app = build_app(
        catalog,
        authentication=Authentication(single_user_api_key=api_key),
        serialization_registry=registry,
    )
    apply_settings(app)
    find_nodes_directly()
    config = uvicorn.Config(
        KeyGuard(app, api_key),
        loop="asyncio",
        log_config=None,
        access_log=False,  # request lines may carry a key
        ws_per_message_deflate=False,  # compressing a map costs five times its transfer
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


def main() -> None:
    """Serve until standard input ends."""
    directory, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    readable = sys.argv[3:]
    # Ctrl-C in the terminal is for the scan; the server ends when the session that started it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    api_key = sys.stdin.readline().strip()
    if not api_key:
        return  # the session has ended already
    logging.basicConfig(
        filename=directory / LOG_FILE,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    server = build_server(directory, api_key, readable)
    listening = socket.socket(fileno=descriptor)

    def stop_with_the_parent() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=stop_with_the_parent, daemon=True).start()
    asyncio.run(server.serve(sockets=[listening]))


if __name__ == "__main__":
    main()
