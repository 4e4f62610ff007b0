"""Every page can be reached from the index, and no link leads nowhere."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")} - {"README.md"}
    assert pages == set(LINK.findall(index))


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_the_tests_that_show_what_is_promised_exist() -> None:
    page = (ROOT / "docs" / "explanation" / "reliability.md").read_text(encoding="utf-8")
    rows = [line for line in page.split("## Faults injected")[1].splitlines() if line.startswith("| ")]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    for row in rows:
        named = re.findall(r"`(test_\w+)(\.py)?`", row.split("|")[-2])
        assert named or row.startswith("| fault injected"), row
        for name, is_file in named:
            if is_file:
                assert (ROOT / "tests" / f"{name}.py").is_file(), name
            else:
                assert f"def {name}(" in sources, name
