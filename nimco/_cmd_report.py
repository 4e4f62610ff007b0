"""`nimco report`: the results of a measurement as one HTML file."""

from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from nimco._measurement_report import results_of_measurement, write_report
from nimco._stopping import ended_by_signal
from nimco._stored_data import stored_data


def report(
    *, measurement: str, to: Path | None, tiled: str | None, api_key_file: Path | None, data_dir: Path
) -> None:
    """Write the report of a measurement."""
    written: list[Path] = []
    with (
        ended_by_signal(lambda: "the report is written" if written else "no report is written"),
        ExitStack() as closing,
    ):
        client = stored_data(closing, tiled, api_key_file, data_dir)
        group, results = results_of_measurement(client, measurement)
        written.append(write_report(group, results, to or Path(f"report-{group[:8]}.html")))
        console = Console()
        console.print(str(written[0]), highlight=False, soft_wrap=True)
