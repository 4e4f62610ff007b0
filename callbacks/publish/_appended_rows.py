"""Rows appended to tables in Tiled once each, though the server fails now and then."""

import time
from collections import Counter
from typing import Any

import httpx

from callbacks.documents import is_outage

from ._uploads import PAUSES_S


class AppendedRows:
    """Appends rows to tables in Tiled and knows how many each of them has.

    Appending is the one request that cannot simply be repeated when the server answers with an error: the rows may be
    there all the same. They are counted first. Appended twice, they would have the whole run written anew from its
    first document, each time, and a server that fails at one request in fifteen would never take a long one.
    """

    def __init__(self) -> None:
        self._n_rows: Counter[str] = Counter()

    def append(self, client: Any, table: Any) -> None:
        """Append the rows of a table (pyarrow) to one in Tiled, given by its client.

        Raises
        ------
        httpx.HTTPStatusError
            The server refuses them, or fails again and again.
        """
        n_before = self._n_rows[client.uri]
        n_after = n_before + table.num_rows
        for pause_s in (*PAUSES_S, None):
            try:
                client.append_partition(0, table)
                break
            except httpx.HTTPStatusError as error:
                if pause_s is None or not is_outage(error):
                    raise
                time.sleep(pause_s)
                n_found = len(client.read([table.column_names[0]]))
                if n_found == n_after:
                    break
                if n_found != n_before:
                    raise
        self._n_rows[client.uri] = n_after
