"""A progress bar with time left, fed by the documents of a scan."""

from types import TracebackType

from event_model import DocumentRouter, Event, EventDescriptor, RunStart, RunStop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from scan_contract import ContractError, FullFieldContract, read_contract


class ScanProgress(DocumentRouter):
    """Subscribe to a RunEngine: one bar a run, counting every event: dark, flat and sample frame, or reading.

    Runs that keep no contract of an energy scan are passed over.

    Parameters
    ----------
    console : rich.console.Console
        Where to draw.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[counted]}, left"),
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
        self.close()

    def close(self) -> None:
        """Leave the bars as they are and give the console back."""
        self._progress.stop()

    def start(self, doc: RunStart) -> None:
        """Open a bar where the run is an energy scan."""
        try:
            contract = read_contract(doc)
        except ContractError:
            return
        standard = contract.start["standard"].get("name") if contract.is_standard else None
        label = f"{contract.scan.edge.replace('_', ' ')} {standard or 'scan'}"
        counted = "frames" if isinstance(contract.scan, FullFieldContract) else "readings"
        self._tasks[doc["uid"]] = self._progress.add_task(
            label, total=contract.scan.events_expected, counted=counted
        )

    def descriptor(self, doc: EventDescriptor) -> None:
        """Remember which run it is of."""
        if doc["run_start"] in self._tasks:
            self._run_of_descriptor[doc["uid"]] = doc["run_start"]

    def event(self, doc: Event) -> Event:
        """Count it; pages of events come here one by one."""
        if doc["descriptor"] in self._run_of_descriptor:
            self._progress.advance(self._tasks[self._run_of_descriptor[doc["descriptor"]]])
        return doc

    def stop(self, doc: RunStop) -> None:
        """Stop the clock of its bar."""
        if doc["run_start"] in self._tasks:
            self._progress.stop_task(self._tasks[doc["run_start"]])
