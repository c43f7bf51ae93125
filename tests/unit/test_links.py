"""Every link of every page leads to a file that is there, and to a heading that is there."""

from __future__ import annotations

from pathlib import Path

from tests.support.pages import ROOT, Page, pages


def test_every_link_leads_somewhere() -> None:
    """Those within the repository; others are not asked."""
    broken = [f"{page.name}: {link}" for page in pages() for link in page.links if not leads(page, link)]
    assert broken == []


def test_no_page_is_lost() -> None:
    """From README.md every page of docs/ and docker/ can be reached by links."""
    by_path = {page.path: page for page in pages()}
    found, waiting = set(), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [target for link in by_path[path].links if (target := file_of(path, link)) in by_path]
    assert {page.name for page in pages()} - {by_path[path].name for path in found} == set()


def test_links_and_anchors_are_found() -> None:
    """As GitHub reads them: none in code, and headings of one name numbered."""
    page = Page(
        ROOT / "docs/page.md",
        "# When `it` (mostly) fails\n\n[a](b.md#c), ![d](e.png) and `[no](f.md)`\n\n    [no](g.md)\n\n"
        "## Further\n\n```\n# no\n[no](h.md)\n```\n\n## Further\n\n* [one\n  more](i.md)\n",
    )
    assert list(page.links) == ["b.md#c", "e.png", "i.md"]
    assert page.anchors == {"when-it-mostly-fails", "further", "further-1"}
    assert not leads(page, "nowhere.md")
    assert not leads(page, "operating.md#nowhere")
    assert leads(page, "operating.md#health")


def leads(page: Page, link: str) -> bool:
    """Whether a link of a page leads somewhere, as far as the repository knows."""
    if link.startswith(("https://", "http://", "mailto:")):
        return True
    path, (_, _, anchor) = file_of(page.path, link), link.partition("#")
    if not anchor:
        return path.exists()
    return path.is_file() and anchor in Page(path, path.read_text("utf-8")).anchors


def file_of(path: Path, link: str) -> Path:
    """The file or folder that a link of the page at ``path`` names."""
    name = link.partition("#")[0]
    return (path.parent / name).resolve() if name else path
