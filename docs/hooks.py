"""What the build of the documentation adds: the pictures that the tests take, the changelog, and a look for foreign files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "tests" / "screenshots"
_FETCHED = re.compile(r"<(?:script|img|iframe)[^>]+src=\"?https?://|<link[^>]+(?:stylesheet|preconnect)[^>]*https?://")


def on_files(files: Files, config: Any) -> Files:
    for picture in sorted(PICTURES.glob("*.png")):
        files.append(File.generated(config, f"pictures/{picture.name}", abs_src_path=str(picture)))
    files.append(File.generated(config, "changelog.md", abs_src_path=str(ROOT / "CHANGELOG.md")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    # The pages show their pictures on GitHub, too, where they lie with the tests.
    return markdown.replace("](../tests/screenshots/", "](pictures/")


def on_post_page(output: str, page: Any, **_: Any) -> str:
    if found := _FETCHED.search(output):
        raise PluginError(f"{page.file.src_uri} would fetch something: {found[0]}")
    return output
