"""A Sentinel-2-like scene set made on the spot, for machines without a network.

A made-up piece of rain forest of 21 x 19 km on the seam of UTM zones 21S and 22S, with a brown
river and its sandbars, streams, a lake, a road with pasture, and ten planted mining scars whose
outlines are known (``PLANTED``). ``make_scenes`` writes it as a catalog would deliver it: COGs of
L2A DN with the offset of baseline 05.10, an SCL with the errors of real ones, STAC items.
Everything in it says that it is synthetic.

One module a step: ``frame`` (where), ``streams`` and ``scars`` (lines and truth), ``texture``,
``tailings`` and ``landscape`` (the ground), ``sky`` (light, cloud, SCL), ``stac`` and ``scenes``
(files).
"""

from __future__ import annotations

from typing import Final

from scanner.imagery.demo.frame import aoi
from scanner.imagery.demo.scars import PlantedMine, Scar, demo_scars, planted, scar_grid
from scanner.imagery.demo.scenes import make_scenes

PLANTED: Final[tuple[PlantedMine, ...]] = planted(demo_scars())
"""The demo's mining scars, the truth a run of it is judged by."""

__all__ = ["PLANTED", "PlantedMine", "Scar", "aoi", "make_scenes", "planted", "scar_grid"]
