"""What the build of the documentation adds: the pictures that the tests take, the changelog, and a look for foreign files."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "tests" / "screenshots"
_TABLE = re.compile(r'^See the table "(.+)" of the \[README\]\(\.\./README\.md\)\.$', re.MULTILINE)
_FETCHED = re.compile(
    r"<(?:script|img|iframe)[^>]+src=\"?https?://|<link[^>]+(?:stylesheet|preconnect)[^>]*https?://"
)


def on_files(files: Files, config: Any) -> Files:
    for picture in sorted(PICTURES.glob("*.png")):
        files.append(File.generated(config, f"pictures/{picture.name}", abs_src_path=str(picture)))
    files.append(File.generated(config, "changelog.md", abs_src_path=str(ROOT / "CHANGELOG.md")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    # On GitHub the pages show pictures and tables, too, from where each stands once.
    return _TABLE.sub(_table, markdown).replace("](../tests/screenshots/", "](pictures/")


def _table(named: re.Match[str]) -> str:
    lines = iter((ROOT / "README.md").read_text(encoding="utf-8").splitlines())
    head = next((line for line in lines if line.startswith(f"| {named[1]} |")), None)
    if head is None:
        raise PluginError(f"README.md has no table {named[1]}")
    return "\n".join([head, *itertools.takewhile(lambda line: line.startswith("|"), lines)])


def on_post_page(output: str, page: Any, **_: Any) -> str:
    if found := _FETCHED.search(output):
        raise PluginError(f"{page.file.src_uri} would fetch something: {found[0]}")
    return output
