"""How far raw documents are on their way to Tiled."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DeliveryState:
    """How far raw documents are on their way to Tiled.

    Attributes
    ----------
    runs_waiting, documents_waiting : int
        What is not in Tiled yet.
    documents_in_memory : int
        Those of them that could not be written to the spool and are lost if the process is killed.
    runs_refused : int
        Runs that Tiled does not take; their documents are in the spool.
    documents_per_s : float
        How many went to Tiled in the last ten seconds.
    answers : bool
        Whether Tiled answers.
    spool_dir : Path
        Where documents wait.
    """

    runs_waiting: int
    documents_waiting: int
    documents_in_memory: int
    runs_refused: int
    documents_per_s: float
    answers: bool
    spool_dir: Path

    def __str__(self) -> str:
        if not self.documents_waiting:
            text = "all raw documents are in Tiled"
        else:
            text = f"{self.documents_waiting} raw documents of {self.runs_waiting} run(s) wait in {self.spool_dir}"
            if self.documents_per_s:
                text += f", {self.documents_per_s:.0f} go to Tiled every second"
        if not self.answers:
            text += "; Tiled does not answer"
        if self.documents_in_memory:
            text += f"; {self.documents_in_memory} documents are in memory only"
        if self.runs_refused:
            text += f"; Tiled refuses {self.runs_refused} run(s), kept in {self.spool_dir}"
        return text
