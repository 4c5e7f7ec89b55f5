"""``report.html``: the run on one page that opens without a network and asks for nothing.

The page carries Leaflet, its pictures and its data in itself; a content security policy names the
hashes of its scripts and styles, so that nothing else can run even if something slipped through.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from jinja2 import Template
from markupsafe import Markup

from scanner.detection.detections import STATUSES
from scanner.files import write_text
from scanner.models.card import SEGMENTER_CLASSES
from scanner.results.finished import FinishedRun
from scanner.results.palette import CLASS_COLOURS, STATUS_COLOURS, SUSPICIOUS, as_hex
from scanner.results.report.embed import environment, json_text, source_hash
from scanner.results.report.map_data import BASE_HOST, map_data
from scanner.results.report.words import page_words
from scanner.version import __version__

NAME: Final = "report.html"
SCRIPTS: Final = ("core.js", "map.js", "sites.js")
_COLOURS: Final = {
    "paper": "#f6f5f0",
    "ink": "#1d2422",
    "muted": "#59635f",
    "line": "#dddcd3",
    "deep": "#12332c",
    "accent": "#0b6152",
    "focus": "#0072b2",
}


def write_report(run: FinishedRun, lang: str = "en") -> Path:
    """Write ``report.html`` into a run's folder, in a language of ``scanner.results.texts``.

    Reads the tiles' rasters and the tables, no scene; the same run gives the same bytes. Raises
    ``RunError`` where a raster was changed, ``OutputError`` where the disk refuses.
    """
    path = run.path / NAME
    write_text(path, page(run, lang))
    return path


def page(run: FinishedRun, lang: str) -> str:
    """Return the page as text."""
    styles = [_leaflet("leaflet.css"), _palette() + _asset("style.css")]
    scripts = [_leaflet("leaflet.js"), _own_script()]
    policy = (
        f"default-src 'none'; script-src {' '.join(map(source_hash, scripts))}; "
        f"style-src {' '.join(map(source_hash, styles))}; img-src data: https://{BASE_HOST}; "
        "base-uri 'none'; form-action 'none'"
    )
    content = map_data(run, lang)
    return _template().render(
        **page_words(run, lang, content),
        policy=policy,
        version=__version__,
        base_host=BASE_HOST,
        styles=[Markup(style) for style in styles],  # noqa: S704 - files of this package
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - files of this package
        data=Markup(json_text(content)),  # noqa: S704 - json_text leaves no < > & in it
    )


@cache
def _template() -> Template:
    return environment().from_string(_asset("page.html.j2"))


def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _own_script() -> str:
    """Return the page's scripts as one, whose names are its own."""
    return "(() => {\n" + "\n".join(_asset(name) for name in SCRIPTS) + "\n})();\n"


def _leaflet(name: str) -> str:
    """Return a file of Leaflet under its licence, without references to other files."""
    folder = files(__package__) / "vendor" / "leaflet"
    text = (folder / name).read_text(encoding="utf-8")
    text = re.sub(r"url\([^)]*\)", "none", text) if name.endswith(".css") else text
    text = re.sub(r"//# sourceMappingURL=\S*", "", text)
    licence = (folder / "LICENSE").read_text(encoding="utf-8")
    return f"/* Leaflet 1.9.4\n\n{licence}*/\n{text}"


def _palette() -> str:
    """Return the colours as custom properties, and a rule for each class and status."""
    named = {**_COLOURS, "mining": as_hex(STATUS_COLOURS["mining"])}
    named |= {"unseen": as_hex(STATUS_COLOURS["unseen"]), "suspicious": as_hex(SUSPICIOUS)}
    rules = [":root {" + " ".join(f"--{name}: {value};" for name, value in named.items()) + "}"]
    for prefix, names, colours in (
        ("s", STATUSES, STATUS_COLOURS),
        ("c", SEGMENTER_CLASSES, CLASS_COLOURS),
    ):
        for name in names:
            colour = as_hex(colours[name])
            rules.append(f".{prefix}-{name} {{ --c: {colour}; fill: {colour}; }}")
    rules += [f".b{step} {{ --w: {5 * step}%; }}" for step in range(21)]
    return "\n".join(rules) + "\n"
