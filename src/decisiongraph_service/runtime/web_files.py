"""Reads the pages for people once, at the start: our own files, and Swagger UI's build from the package that has it."""

from importlib import metadata
from pathlib import Path
from string import Template
from typing import Final

from decisiongraph_service.rpc.pages import EXPLORER_POLICY, HTML, Pages, WebFile

_OWN: Final = Path(__file__).parents[1] / "web"
_PACKAGE: Final = "drf-spectacular-sidecar"
_SWAGGER_UI: Final = "drf_spectacular_sidecar/static/drf_spectacular_sidecar/swagger-ui-dist"
_CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# Files of one version go together: a browser that keeps those of another for long shows a broken page.
_KEPT_AN_HOUR: Final = "public, max-age=3600"
_KEPT_A_MINUTE: Final = "public, max-age=60"


def load() -> Pages:
    """The pages and all files that they need.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    try:
        swagger_ui = Path(str(metadata.distribution(_PACKAGE).locate_file(_SWAGGER_UI)))
    except metadata.PackageNotFoundError as error:
        raise FileNotFoundError(f"{_PACKAGE} is not installed; reinstall decisiongraph[server]") from error
    own = (_OWN / name for name in ("explorer.js", "icon.svg", "pages.css"))
    foreign = (
        swagger_ui / name for name in ("swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css")
    )
    return Pages(
        landing_page=Template((_OWN / "landing_page.html").read_text(encoding="utf-8")),
        explorer=WebFile(HTML, (_OWN / "explorer.html").read_bytes(), security_policy=EXPLORER_POLICY),
        assets={
            **{path.name: _asset(path, _KEPT_A_MINUTE) for path in own},
            **{path.name: _asset(path, _KEPT_AN_HOUR) for path in foreign},
        },
    )


def _asset(path: Path, cache_control: str) -> WebFile:
    return WebFile(_CONTENT_TYPES[path.suffix], path.read_bytes(), cache_control)
