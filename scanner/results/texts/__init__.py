"""The words of the pages people read, in each language: one TOML file a page and language.

``report.pt.toml`` holds the texts of ``report.html`` in Portuguese; a key of it, such as ``title``
in its table ``[map]``, is called ``report.map.title``. Places to fill are written ``{name}``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from scanner.errors import ConfigError

LANGUAGES: Final = ("en", "pt", "es")
"""English, Brazilian Portuguese, Latin-American Spanish."""


@cache
def texts(lang: str) -> Mapping[str, str]:
    """Return every text of a language by its key; ``ConfigError`` for one there is none of."""
    if lang not in LANGUAGES:
        raise ConfigError(f"language {lang!r}: there is {', '.join(LANGUAGES)}; take one of these")
    found: dict[str, str] = {}
    for file in sorted(files(__name__).iterdir(), key=lambda file: file.name):
        page, _, rest = file.name.partition(".")
        if rest == f"{lang}.toml":
            raw = tomllib.loads(file.read_text(encoding="utf-8"))
            body = raw.pop(page, {})  # tables may be headed [page] or not
            found.update(_flat({**raw, **body}, page))
    return MappingProxyType(found)


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        name = f"{prefix}.{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, str(value).strip()
