"""The demo's scene set on disk: COGs, an ItemCollection, the truth and the area of interest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from scanner.errors import OutputError
from scanner.files import SCRATCH
from scanner.imagery.bands import NODATA
from scanner.imagery.demo import frame, stac
from scanner.imagery.demo.landscape import Ground, Landscape, paint
from scanner.imagery.demo.scars import Scar, demo_scars, planted
from scanner.imagery.demo.sky import DAYS, Day, Sky, picture, scene_classes, sky
from scanner.imagery.demo.texture import BANDS

VERSION: Final = 1
"""Raised whenever the pixels or items made here change; folders of another version are remade."""

STAMP: Final = "demo.json"
"""File that tells a complete scene set; holds the key of what was asked for."""


def make_scenes(
    folder: Path,
    scars: Sequence[Scar] | None = None,
    *,
    ground: Ground = "full",
    clouds: bool = True,
    scl_errors: bool = True,
) -> Path:
    """Make the synthetic scene set in ``folder`` and return the path of its ``items.json``.

    Two granules that overlap across the seam of zones 21S and 22S, three dates, one of the six
    scenes listed twice under two baselines; bands B02 B03 B04 B08 and the SCL. Beside items.json:
    ``planted.geojson`` (the truth) and ``aoi.geojson``. Same arguments, same pixels.

    ``scars`` replaces the demo's own; ``ground="forest"`` leaves out river, roads and clearings;
    ``clouds=False`` and ``scl_errors=False`` give clear skies and a plain SCL. A folder that holds
    the complete set already is used as it is; one of another version or other arguments is
    replaced. Nothing is ever half written: the set is made aside and renamed.

    Raises OutputError where ``folder`` holds something else.
    """
    chosen = demo_scars() if scars is None else tuple(scars)
    key = _key(chosen, ground, clouds, scl_errors)
    folder = Path(folder)
    if _stamp(folder) == key:
        return folder / "items.json"
    if folder.exists() and _stamp(folder) is None and any(folder.iterdir()):
        raise OutputError(
            f"{folder}: holds files that are not a demo scene set; name an empty or a new folder"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=SCRATCH, suffix=f".{folder.name}", dir=folder.parent))
    try:
        _write_set(made, chosen, ground, clouds, scl_errors)
        (made / STAMP).write_text(json.dumps({"synthetic": True, "key": key}), encoding="utf-8")
        made.chmod(0o755)
        _put(made, folder, key)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder / "items.json"


def _key(scars: tuple[Scar, ...], ground: str, clouds: bool, scl_errors: bool) -> str:
    asked = [VERSION, [asdict(scar) for scar in scars], ground, clouds, scl_errors]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _stamp(folder: Path) -> str | None:
    """Return the key of the scene set in ``folder``, ``None`` if there is none."""
    try:
        return str(json.loads((folder / STAMP).read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _put(made: Path, folder: Path, key: str) -> None:
    """Rename ``made`` to ``folder``, unless another process put the same set there meanwhile."""
    old = made.with_name(made.name + "-old")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(old)
    try:
        made.rename(folder)
    except OSError as error:
        if _stamp(folder) != key:
            raise OutputError(
                f"{folder}: the demo's scenes cannot be put there: {error}"
            ) from error
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _write_set(
    folder: Path, scars: tuple[Scar, ...], ground: Ground, clouds: bool, scl_errors: bool
) -> None:
    landscape = paint(scars, ground)
    skies = [sky(day, clouds) for day in DAYS]
    items: list[dict[str, Any]] = []
    for number, granule in enumerate(frame.granules()):
        seen = _Granule(granule, landscape, number)
        for date, (day, above) in enumerate(zip(DAYS, skies, strict=True)):
            pixels, classes = seen.look(date, day, above, scars, scl_errors)
            valid = seen.valid(day) if number == 0 and day.swath_edge else None
            if valid is not None:
                pixels[:, ~valid] = NODATA
                classes[~valid[::2, ::2]] = NODATA
            item = stac.item(granule, day, classes)
            place = folder / item["id"]
            place.mkdir()
            for band, dn in zip(BANDS, pixels, strict=True):
                _write_cog(place / f"{band}.tif", dn, granule, 10)
            _write_cog(place / "SCL.tif", classes, granule, 20)
            items.append(item)
            if number == 0 and date == 0:
                items.append(stac.earlier_baseline(item))
    items.sort(key=lambda one: (one["properties"]["datetime"], one["id"]))
    documents = {
        "items.json": stac.collection(items),
        "planted.geojson": _truth(scars),
        "aoi.geojson": aoi_feature(),
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=1), encoding="utf-8")


class _Granule:
    """The ground sampled once in a granule's own grid, then looked at on each date."""

    def __init__(self, granule: frame.Granule, landscape: Landscape, number: int) -> None:
        self._number = number
        self._col, self._row = granule.frame_pixels()
        cubic, nearest = cv2.INTER_CUBIC, cv2.INTER_NEAREST
        self._ground = np.stack([self._sample(band, cubic) for band in landscape.dn])
        self._ponds = self._sample(landscape.ponds, cv2.INTER_LINEAR)
        self._scar = self._sample(landscape.scar, nearest)

    def _sample(self, layer: Any, method: int) -> Any:
        return cv2.remap(layer, self._col, self._row, method, borderMode=cv2.BORDER_REFLECT)

    def look(
        self, date: int, day: Day, over: Sky, scars: Sequence[Scar], errors: bool
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        """Return the DN (4, rows, cols) and the SCL (20 m) of a date."""
        above = tuple(
            self._sample(layer, cv2.INTER_LINEAR)
            for layer in (over.cloud, over.shadow, over.cirrus)
        )
        cloud, shadow, cirrus = above
        pixels = picture(self._ground, cloud, shadow, cirrus, day, self._number)
        classes = scene_classes(
            self._ground, self._scar, self._ponds, (cloud, shadow, cirrus), scars, date, errors
        )
        return pixels, classes

    def valid(self, day: Day) -> NDArray[np.bool_]:
        """Return where the swath has data: east of a line that leans with the orbit."""
        edge = stac.SWATH_EDGE
        rows, cols = self._row.shape
        line = edge[0] + (edge[1] - edge[0]) * (np.arange(rows) // 2 / (rows // 2))
        return np.asarray(np.arange(cols)[None, :] // 2 * 2 >= line[:, None])


def _write_cog(path: Path, image: NDArray[Any], granule: frame.Granule, pixel: int) -> None:
    import rasterio
    from rasterio.transform import Affine

    rows, cols = image.shape
    transform = Affine(pixel, 0, granule.left, 0, -pixel, granule.top)
    with rasterio.open(
        path, "w", driver="COG", height=rows, width=cols, count=1, dtype=image.dtype,
        crs=f"EPSG:{granule.epsg}", transform=transform, nodata=NODATA,
        compress="DEFLATE", predictor="STANDARD", level=2, blocksize=512,
        overview_resampling="nearest" if pixel == 20 else "average",
    ) as out:  # fmt: skip
        out.write(image, 1)
        out.update_tags(SYNTHETIC="yes: made by mining-scan's demo, not a satellite image")


def _truth(scars: Sequence[Scar]) -> dict[str, Any]:
    features = [
        {
            "type": "Feature",
            "id": mine.name,
            "properties": {
                "name": mine.name,
                "area_ha": mine.area_ha,
                "description": mine.description,
                "synthetic": True,
            },
            "geometry": shapely.geometry.mapping(mine.polygon),
        }
        for mine in planted(scars)
    ]
    return {"type": "FeatureCollection", "name": "Planted mines (synthetic)", "features": features}


def aoi_feature() -> dict[str, Any]:
    """Return the demo's area of interest as a GeoJSON Feature (also in aois/demo.geojson)."""
    return {
        "type": "Feature",
        "properties": {
            "name": "Demo (synthetic)",
            "description": "A made-up area for the synthetic scenes of --catalog demo, no place of "
            "real mining. It lies across 54 W, the seam of UTM zones 21S and 22S.",
            "synthetic": True,
            "licence": "CC0-1.0",
        },
        "geometry": shapely.geometry.mapping(frame.aoi()),
    }
