"""Scenes of a finished run, read again: checked, signed anew, tried again, told where they fail.

What is read, and what is made of it, is the caller's: see ``audit.pixels``, ``evidence.reader``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar

from rasterio.errors import RasterioError

from scanner.config import SearchConfig
from scanner.errors import CatalogError, ReadError
from scanner.imagery.access import (
    Allowed,
    allowed_for,
    check_href,
    failure_text,
    gdal_env,
    guard_logs,
    signed,
    signer_for,
)
from scanner.imagery.hrefs import is_remote
from scanner.imagery.item import Item

AT_ONCE: Final = 8
"""Reads at once: most of the time goes in waiting for a host."""

Env = Mapping[str, str]
"""GDAL's options for a read."""
Result = TypeVar("Result")

_UNREAD: Final = (ReadError, RasterioError, OSError, RuntimeError)


class UselessError(Exception):
    """What was read cannot be used; another try would change nothing."""


class Rereader:
    """Reads scenes of one run; many threads may share it.

    Args:
        search: where the run found its scenes: tells whose hosts are asked, and who signs.
        items: its scenes; of this machine's files none may be read but theirs.
        tries: times a read is tried.
    """

    def __init__(self, search: SearchConfig, items: Iterable[Item], tries: int) -> None:
        guard_logs()
        self.root = local_root(items)
        """The folder of the scenes' files, ``None`` where none is one."""
        # files were held against the folder of their catalog when they were found
        self._allowed = Allowed(allowed_for(search).hosts, self.root)
        self._search, self._tries = search, tries
        self._signer, self._signing = signer_for(search), Lock()

    def check(self, item: Item, bands: Iterable[str]) -> None:
        """Raise ``CatalogError`` where a scene's bands, or its SCL, may not be read."""
        for band in (*bands, "SCL"):
            if (href := item.href(band)) is not None:
                check_href(item.id, href, self._allowed)

    def tried(
        self, items: Sequence[Item], read: Callable[[list[Item], Env], Result]
    ) -> Result | str:
        """Return what ``read`` makes of the scenes, signed, or why it makes nothing of them."""
        why = ""
        for attempt in range(self._tries):
            try:
                with self._signing:
                    ready = signed(items, self._signer)
                return read(ready, gdal_env(self._search, retry=attempt > 0))
            except (UselessError, CatalogError) as error:  # CatalogError: no token to be had
                return str(error)
            except _UNREAD as error:
                why = failure_text(error)
                with self._signing:  # a signature that ends mid-read looks like a broken block
                    self._signer.forget()
        return why


def local_root(items: Iterable[Item]) -> Path | None:
    """Return the deepest folder that holds all files of some items; ``None`` where none is one."""
    paths = [
        str(asset["href"])
        for item in items
        for asset in item.assets.values()
        if not is_remote(str(asset.get("href", "://")))
    ]
    return Path(os.path.commonpath([Path(path).parent for path in paths])) if paths else None
