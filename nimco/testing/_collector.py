"""Keeping the documents of a RunEngine, and waiting for one without sleeping."""

import threading
from collections.abc import Callable
from typing import Any

from ._documents import Document


class DocumentCollector:
    """A subscriber that keeps every document it gets.

    Parameters
    ----------
    run_engine : RunEngine, optional
        Subscribed to at once; calling the collector with a plan runs it there.

    Attributes
    ----------
    documents : list of (str, dict)
        All documents so far, in order.

    Examples
    --------
    >>> collector = DocumentCollector()
    >>> collector("start", {"uid": "1"})
    >>> collector.of("start")
    [{'uid': '1'}]
    """

    def __init__(self, run_engine: Any = None) -> None:
        self.documents: list[Document] = []
        self.run_engine = run_engine
        self._came = threading.Condition()
        if run_engine is not None:
            run_engine.subscribe(self)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Keep a document."""
        with self._came:
            self.documents.append((name, doc))
            self._came.notify_all()

    def run(self, plan: Any) -> Any:
        """Run a plan on the RunEngine of this collector and return what the RunEngine returns."""
        if self.run_engine is None:
            raise ValueError("this collector has no RunEngine: make it with DocumentCollector(run_engine)")
        return self.run_engine(plan)

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the documents of a name, such as ``"event"``, in order."""
        return [doc for kind, doc in self.documents if kind == name]

    def events(self, stream: str = "primary", run: str | None = None) -> list[dict[str, Any]]:
        """Return the event documents of a stream, of all runs or of the one with this uid."""
        wanted = {
            doc["uid"]
            for doc in self.of("descriptor")
            if doc["name"] == stream and run in (None, doc["run_start"])
        }
        return [doc for doc in self.of("event") if doc["descriptor"] in wanted]

    def data(self, stream: str = "primary", run: str | None = None) -> list[dict[str, Any]]:
        """Return the data of the events of a stream: readings by key."""
        return [doc["data"] for doc in self.events(stream, run)]

    def runs(self) -> list[list[Document]]:
        """Return the documents of each run, for runs that came one after the other."""
        found: list[list[Document]] = []
        for name, doc in self.documents:
            if name == "start":
                found.append([])
            if found:
                found[-1].append((name, doc))
        return found

    def wait_for(
        self,
        name: str,
        n: int = 1,
        *,
        timeout_s: float = 60.0,
        fits: Callable[[Any], bool] = lambda doc: True,
    ) -> list[dict[str, Any]]:
        """Wait until so many documents of a name are here, on any thread, and return them.

        Parameters
        ----------
        name : str
            Such as ``"stop"``.
        n : int
            How many.
        timeout_s : float
            How long at the most, in seconds.
        fits : callable, optional
            Which of them count.

        Raises
        ------
        TimeoutError
            They did not come in time.
        """

        def found() -> list[dict[str, Any]]:
            return [doc for doc in self.of(name) if fits(doc)]

        with self._came:
            if not self._came.wait_for(lambda: len(found()) >= n, timeout_s):
                raise TimeoutError(f"{len(found())} of {n} {name} documents came within {timeout_s:g} s")
            return found()
