"""Write every page that is made from code: `make docs`. Tests hold the pages against the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from docs import make_check_pages, make_cli_page, make_configuration_page, make_variables_page

DOCS = Path(__file__).parent

PAGES: Mapping[Path, Callable[[], str]] = {
    DOCS / "reference" / "cli.md": make_cli_page.page,
    DOCS / "reference" / "variables.md": make_variables_page.page,
    DOCS / "reference" / "test-configuration.md": make_configuration_page.page,
}


def write() -> None:
    make_check_pages.write(make_check_pages.FOLDER)
    for path, page in PAGES.items():
        path.write_text(page(), encoding="utf-8")
