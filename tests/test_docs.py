"""The site that `make docs` builds."""

import html
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests._documents import ROOT

pytestmark = pytest.mark.slow

PACKAGES = ("modules", "models", "checkpoints", "data", "training", "explain", "export", "kernels", "recipes")


def build(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`mkdocs build --strict`, which ends with an error after any warning; nothing can be fetched."""
    for module in ("mkdocs", "material", "mkdocstrings", "griffe"):
        pytest.importorskip(module, reason="the extra docs is not installed")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:1")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder), *arguments]
    environment = os.environ | nowhere | {"NO_MKDOCS_2_WARNING": "1", "no_proxy": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every page's HTML by its path; the site builds without a warning."""
    folder = tmp_path_factory.mktemp("site")
    built = build(folder)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.html")}


def test_every_document_is_a_page(site: dict[str, str]) -> None:
    documents = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    assert set(site) == {"404.html", *(path.as_posix() for path in documents)}


def test_no_page_fetches_anything_from_elsewhere(site: dict[str, str]) -> None:
    fetched = re.compile(r'<(?:script|img|link|iframe)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"|@import|url\(http')
    for name, page in site.items():
        assert not fetched.search(page), name
    assert fetched.search('<link rel="stylesheet" href="https://fonts.googleapis.com/css">')


def test_every_marker_is_filled(site: dict[str, str]) -> None:
    for name, page in site.items():
        assert "{{" not in page, name


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_reference(site: dict[str, str], package: str) -> None:
    page = site[f"reference/{package}.html"]
    for name in import_module(f"abn_fast.{package}").__all__:
        assert re.search(rf'id="abn_fast\.{package}\.(?:\w+\.)*{name}"', page), name


def test_what_the_readme_says_is_included_and_not_repeated(site: dict[str, str]) -> None:
    told = "Images of any size that the backbone takes, any batch size"
    assert [name for name, page in site.items() if told in html.unescape(page)] == ["models.html"]
    assert "{{ section(" in (ROOT / "docs" / "models.md").read_text()


def test_a_broken_link_stops_the_build(tmp_path: Path) -> None:
    pages = tmp_path / "docs"
    pages.mkdir()
    (pages / "index.md").write_text("[nothing](nothing.md)\n")
    configuration = tmp_path / "mkdocs.yml"
    text = (ROOT / "mkdocs.yml").read_text()
    text = re.sub(r"^nav:\n(?:  .*\n)*", "", text, flags=re.MULTILINE)
    text = text.replace("docs_dir: docs", f"docs_dir: {pages}").replace("docs/hooks.py", f"{ROOT}/docs/hooks.py")
    configuration.write_text(text)
    built = build(tmp_path / "site", "--config-file", str(configuration))
    assert built.returncode == 1
    assert "nothing.md" in built.stderr
