"""A progress bar with time left, fed by the documents of a scan."""

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from scan_contract import ContractError, read_contract


class ScanProgress:
    """Subscribe to a RunEngine: one bar a run, counting every event: dark, flat and sample frame, or reading.

    Runs that keep no contract of an energy scan are passed over.

    Parameters
    ----------
    console : rich.console.Console
        Where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("frames, left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._run_of_descriptor: dict[str, str] = {}

    def __enter__(self) -> "ScanProgress":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bars as they are and give the console back."""
        self._progress.stop()

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take one document."""
        if name == "start":
            try:
                contract = read_contract(doc)
            except ContractError:
                return
            standard = doc["standard"].get("name") if contract.is_standard else None
            label = f"{contract.scan.edge.replace('_', ' ')} {standard or 'scan'}"
            total = contract.scan.events_expected
            self._tasks[doc["uid"]] = self._progress.add_task(label, total=total)
        elif name == "descriptor" and doc["run_start"] in self._tasks:
            self._run_of_descriptor[doc["uid"]] = doc["run_start"]
        elif name == "event" and doc["descriptor"] in self._run_of_descriptor:
            self._progress.advance(self._tasks[self._run_of_descriptor[doc["descriptor"]]])
        elif name == "stop" and doc["run_start"] in self._tasks:
            self._progress.stop_task(self._tasks[doc["run_start"]])
