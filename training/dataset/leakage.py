"""What would let a model be judged on ground it trained on: same pixels, or neighbours."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.places import EARTH_M

METRES: Final = 1000.0


@dataclass(frozen=True)
class Leak:
    """A chip that trains (its row) and one that judges, which show the same ground."""

    train: int
    val: int
    why: str


def fingerprint(picture: NDArray[np.uint8]) -> str:
    """Return a digest of the pixels (y, x, 3), the same for all eight symmetries of a square."""
    views = (np.rot90(side, turns) for side in (picture, np.flip(picture, 1)) for turns in range(4))
    # the shape tells apart what happens to have the same bytes
    first = min((view.shape, view.tobytes()) for view in views)
    return hashlib.blake2b(first[1], digest_size=16, person=_person(first[0])).hexdigest()


def find_leaks(table: pd.DataFrame, val: NDArray[np.bool_], metres: float = METRES) -> list[Leak]:
    """Find each training chip with the pixels of a judging one, or near one: one pair a chip.

    Two chips are near within ``metres`` between their middles, or where their squares can overlap
    (``size_m``). ``table`` has pixels (digests), lon, lat and size_m, both NaN where unknown.
    """
    same = _same_pixels(table["pixels"].to_numpy(object), val)
    near = _near(table, val, metres)
    return [(same.get(row) or near[row]) for row in sorted(same.keys() | near.keys())]


def _same_pixels(digests: NDArray[np.object_], val: NDArray[np.bool_]) -> dict[int, Leak]:
    judges = {digests[row]: int(row) for row in np.flatnonzero(val)[::-1]}
    return {
        int(row): Leak(int(row), judges[digests[row]], "same pixels")
        for row in np.flatnonzero(~val)
        if digests[row] in judges
    }


def _near(table: pd.DataFrame, val: NDArray[np.bool_], metres: float) -> dict[int, Leak]:
    """Ask for the nearest judging chip of each training chip on the sphere."""
    from sklearn.neighbors import BallTree  # type: ignore[import-untyped]

    places = np.radians(table[["lat", "lon"]].to_numpy(np.float64))
    sizes = table["size_m"].fillna(0).to_numpy(np.float64)
    known = np.isfinite(places).all(1)
    judges, trains = np.flatnonzero(known & val), np.flatnonzero(known & ~val)
    if not len(judges) or not len(trains):
        return {}
    tree = BallTree(places[judges], metric="haversine")
    angle, found = tree.query(places[trains], k=1)
    distance = angle[:, 0] * EARTH_M
    # squares of sides a and b cannot overlap when their middles are (a + b) / sqrt(2) apart
    limit = np.maximum(metres, (sizes[trains] + sizes[judges].max()) / np.sqrt(2))
    return {
        int(trains[i]): Leak(
            int(trains[i]), int(judges[found[i, 0]]), f"{distance[i] / 1000:.2f} km apart"
        )
        for i in np.flatnonzero(distance < limit)
    }


def _person(shape: tuple[int, ...]) -> bytes:
    return "x".join(map(str, shape)).encode()[:16]
