"""The report of a measurement: one HTML file, from a real Tiled server."""

import re
from html.parser import HTMLParser

import pytest

from callbacks import LiveSOC, RawRunWriter, SOCPublisher
from nimco._commands import report
from nimco.errors import NimcoError


class _Read(HTMLParser):
    """Text of a page, what it points to, and which elements are left open."""

    VOID = ("meta", "img", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_report_holds_all_of_a_measurement_and_points_nowhere(
    tiled_server, scan_documents, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    sample = {"name": "NMC622 <b>&</b> carbon", "composition": "NMC622"}
    sources = [{"source": f"r{k}.txt", "soc": k / 4} for k in range(5)]
    documents = []
    for left_out in ([], [7]):
        scan = scan_documents((24, 20), noise=True, reference_sources=sources)
        steps = [step for step in scan.steps() if step[0] != "primary" or step[1] not in left_out]
        documents += scan.run(steps, scan_group="report-of-two", sample=sample)
    with (
        RawRunWriter(tiled_server.raw) as writer,
        SOCPublisher(tiled_server.maps, raw_container=tiled_server.raw) as publisher,
        LiveSOC(subscribers=[publisher]) as live,
    ):
        for document in documents:
            writer(*document)
        writer.wait(240)
        given = {"tiled": tiled_server.uri, "to": tmp_path / "made" / "report.html"}
        with pytest.raises(NimcoError, match=r"has 2 run\(s\) and no maps yet; .* nimco reanalyse"):
            report("report-of-two", **given)
        for unknown in ("zz", "../x", "zzzzzz"):
            with pytest.raises(NimcoError, match="There is no measurement"):
                report(unknown, **given)
        for document in documents:
            live(*document)
        live.wait(240)
        publisher.wait(240)
    uids = [doc["uid"] for name, doc in documents if name == "start"]
    report("report-of-two", **given)
    page = given["to"].read_text(encoding="utf-8")
    read = _Read(page)
    assert read.open == []
    assert all(address.startswith("data:image/png;base64,") for address in read.addresses)
    assert len(read.addresses) == 2
    assert "shift from the first maps: rows, columns (px)" in read.text
    assert "script" not in read.tags
    assert not re.search(r"url\(|@import", page)
    text = " ".join(read.text)
    for said in (
        "NMC622 <b>&</b> carbon", "measurement report-of-two", *uids, "36 of 36", "35 of 36", "complete", "partial",
        "1 of 36 frames are missing", "SOC, median", "Particles (", "definition of the edge energy", "series:",
        "36, 8250.0–8500.0 eV", "r4.txt", "5 spectra", "numpy", "analysed",
    ):  # fmt: skip
        assert said in text, said
    capsys.readouterr()
    report(uids[1][:13], tiled=tiled_server.uri, to=tmp_path / "by run.html")
    assert "by run.html" in capsys.readouterr().out
    assert (tmp_path / "by run.html").stat().st_size > 0.9 * given["to"].stat().st_size
    for name, options, said in (
        ("nothing-of-that", {}, "no measurement .scan_group. nothing-of-that in Tiled"),
        (uids[1][:4], {}, "first 5 characters"),
        ("report-of-two", {"to": tmp_path / "made" / "report.html" / "x"}, "cannot be written .* with --to"),
        ("report-of-two", {"tiled": "http://127.0.0.1:9"}, "does not answer"),
    ):
        with pytest.raises(NimcoError, match=said):
            report(name, **{**given, **options})
