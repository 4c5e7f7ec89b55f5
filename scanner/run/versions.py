"""Whether a cluster's machines run what this one does: told before the first tile, in one line.

Dask hands functions over by name and arguments by pickle, so a worker with another mining-scan or
another Dask breaks in the middle of a run, or counts otherwise without a word. Workers that are
there are asked before anything is submitted. One that joins later is compared as it starts, and
leaves again where it would break or change rows.
"""

from __future__ import annotations

import logging
import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NamedTuple

from distributed import Client

from scanner.errors import ConfigError, ScannerError, shown
from scanner.version import __version__

logger = logging.getLogger(__name__)

OURS: Final = "mining-scan"

EXACT: Final = 9
"""Parts of a version that are compared: all there are."""

REFUSED: Final[Mapping[str, int]] = {
    OURS: EXACT,
    "python": 2,  # functions without a name travel as bytecode
    "dask": EXACT,
    "distributed": EXACT,
    "numpy": 1,
    "cloudpickle": 1,
    "msgpack": 1,
}
"""Packages that break a run or change its rows where they differ, and how many parts of their
version must be equal."""

WARNED: Final[Mapping[str, int]] = {
    "torch": EXACT,
    "transformers": EXACT,
    "openvino": EXACT,
    "onnxruntime": EXACT,
    "opencv-python-headless": EXACT,
    "scipy": EXACT,
    "rasterio": EXACT,
    "pyproj": EXACT,
    "shapely": EXACT,
    "stackstac": EXACT,
    "odc-stac": EXACT,
    "xarray": EXACT,
    "pyarrow": 1,
    "numpy": EXACT,
}
"""Packages that numbers pass through: where they differ, rows may do so in their last digits."""

PACKAGES: Final = tuple(dict.fromkeys((*REFUSED, *WARNED)))

TOPIC: Final = "mining-scan-dismissed"
"""Under which the scheduler is told of workers that were sent away."""

Versions = Mapping[str, str | None]
"""Versions by package; ``None`` where it is not installed."""


class Difference(NamedTuple):
    """A package whose version is not the one here."""

    package: str
    there: str | None
    here: str | None

    def __str__(self) -> str:
        return f"{self.package} {self.there or 'not installed'}, here {self.here or 'none'}"


def versions_here() -> dict[str, str | None]:
    """Return the versions of ``PACKAGES`` in this process."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found | {"python": platform.python_version(), OURS: found[OURS] or __version__}


def differences(there: Versions, here: Versions, rules: Mapping[str, int]) -> list[Difference]:
    """Return the packages of ``rules`` that differ, in its order; builds of one version do not.

    A package the one side says nothing of (``there`` lacks its name) is no difference.
    """
    return [
        Difference(name, there[name], here.get(name))
        for name, parts in rules.items()
        if name in there and _parts(there[name], parts) != _parts(here.get(name), parts)
    ]


@dataclass(frozen=True)
class Admission:
    """What a worker of a running cluster is compared with as it gets ready, there."""

    here: Versions
    """Versions of the machine that submits."""
    known: frozenset[str]
    """Addresses of the workers that were there, and fit, when the run began."""

    @contextmanager
    def check(self, worker: Any) -> Iterator[None]:
        """Prepare ``worker`` in this block.

        What goes wrong there ends the run where the worker is a known one. One that joined later
        is closed instead, its nanny too, and the client is told: tiles given to it would fail.
        """
        address = str(worker.contact_address or worker.address)
        try:
            if found := differences(versions_here(), self.here, REFUSED):
                raise ConfigError(f"{found[0]}; {_fix(self.here)}")
            yield
        except Exception as error:  # a package that cannot be imported, a model that is another
            told = f"worker {address}: {error}"
            if address in self.known:
                if isinstance(error, ScannerError):
                    raise type(error)(told) from error
                raise
            logger.error("%s", told)
            worker.log_event(TOPIC, {"worker": address, "why": str(error)})
            worker.loop.add_callback(partial(worker.close, reason="unfit for mining-scan"))


def admission(client: Client, address: str) -> Admission:
    """Compare scheduler and workers with this machine; warn of what may differ.

    Args:
        client: connected to the cluster at ``address``.
        address: as the user gave it, for messages.

    Raises ``ConfigError`` naming where, the package, both versions and the fix.
    """
    found: dict[str, Any] = client.get_versions(packages=list(PACKAGES))
    here = versions_here()
    workers = {f"worker {where}": _packages(one) for where, one in found["workers"].items()}
    everyone = {"the scheduler": _packages(found["scheduler"])} | workers
    if line := _told(everyone, here, REFUSED):
        raise ConfigError(f"--scheduler {address}: {line}; {_fix(here)}")
    if line := _told(workers, here, WARNED):
        logger.warning("--scheduler %s: %s; rows may differ in their last digits", address, line)
    client.subscribe_topic(TOPIC, _Dismissals())
    return Admission(here, frozenset(found["workers"]))


class _Dismissals:
    """Tells of workers that were sent away, once a reason: a cluster may start them anew."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, event: tuple[float, Mapping[str, str]]) -> None:
        _, message = event
        if message["why"] not in self._told:
            self._told.add(message["why"])
            logger.warning(
                "worker %s joined late and is not used: %s", message["worker"], message["why"]
            )


def _fix(here: Versions) -> str:
    """Return what to do, for a message."""
    python = ".".join(str(here["python"]).split(".")[:2])
    return (
        f"install {OURS} {here[OURS]} there from the same lock file, on Python {python}, or run "
        "one image on both sides"
    )


def _told(there: Mapping[str, Versions], here: Versions, rules: Mapping[str, int]) -> str | None:
    """Name the first package that differs and where, and count the other packages."""
    groups: dict[Difference, list[str]] = defaultdict(list)
    for where, versions in there.items():
        for one in differences(versions, here, rules):
            groups[one].append(where)
    if not groups:
        return None
    first = min(groups, key=lambda one: (list(rules).index(one.package), -len(groups[one])))
    packages = {one.package for one in groups} - {first.package}
    more = f" ({', '.join(sorted(packages))} differs too)" if packages else ""
    return f"{_few(groups[first])}: {shown(first)}{more}"


def _few(places: Iterable[str], most: int = 3) -> str:
    names = sorted(places, key=lambda name: (not name.startswith("the"), name))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _packages(answer: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the versions of an answer; Dask tells Python's as ``3.11.7.final.0``."""
    found = dict(answer["packages"])
    python = ".".join(str(answer["host"]["python"]).split(".")[:3])
    return found | {"python": python}


def _parts(text: str | None, count: int) -> tuple[str, ...] | None:
    """Return the first ``count`` parts of a version, without its build (``+cpu``, ``+cu130``)."""
    return None if text is None else tuple(text.partition("+")[0].split(".")[:count])
