"""What a real QGIS makes of our files; run by a Python that has pyqgis. Prints JSON.

``render.py project PROJECT.qgz PICTURE.png [WIDTH [LAYER,...]]`` opens a project and draws the
layers that are ticked, or those named. ``render.py layers FILE...`` opens files as if they were
dragged into an empty project, and tells with which style.
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


def layers(*sources: str) -> None:
    """Tell how each source opens."""
    told = {}
    for source in sources:
        kind = QgsRasterLayer if source.endswith(".tif") else QgsVectorLayer
        layer = kind(source, "layer", "gdal" if kind is QgsRasterLayer else "ogr")
        told[source] = layer.renderer().type() if layer.isValid() else None
    print(json.dumps(told))


def project(path: str, picture: str, width: str = "1400", wanted: str = "") -> None:
    """Read a project, tell, draw."""
    opened = QgsProject.instance()
    told = {"read": opened.read(path), "title": opened.title(), "layers": []}
    for node in opened.layerTreeRoot().findLayers():
        layer = node.layer()
        if layer is None:
            told["layers"].append({"id": node.layerId(), "valid": False})
            continue
        one = {
            "id": layer.id(),
            "name": layer.name(),
            "valid": layer.isValid(),
            "crs": layer.crs().authid(),
            "shown": node.itemVisibilityChecked(),
            "renderer": layer.renderer().type() if layer.renderer() else None,
            "abstract": layer.metadata().abstract(),
        }
        if isinstance(layer, QgsVectorLayer):
            one["features"] = layer.featureCount()
            one["error"] = layer.dataProvider().error().message()
            one["legend"] = [
                [item.label(), item.symbol().color().name() if item.symbol() else None]
                for item in layer.renderer().legendSymbolItems()
            ]
        else:
            one["legend"] = [[i[0], i[1].name()] for i in layer.renderer().legendSymbologyItems()]
        told["layers"].append(one)
    told["crs"] = opened.crs().authid()
    view = opened.viewSettings().defaultViewExtent()
    told["view"] = [view.xMinimum(), view.yMinimum(), view.xMaximum(), view.yMaximum()]
    told["units"] = opened.areaUnits()
    settings = QgsMapSettings()
    nodes = opened.layerTreeRoot().findLayers()
    drawn = [n for n in nodes if (n.layerId() in wanted.split(",") if wanted else n.isVisible())]
    settings.setLayers([node.layer() for node in drawn])
    settings.setDestinationCrs(opened.crs())
    settings.setTransformContext(opened.transformContext())
    settings.setBackgroundColor(QColor(255, 255, 255))
    settings.setOutputSize(QSize(int(width), round(int(width) * view.height() / view.width())))
    settings.setExtent(view)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    told["drawn"] = job.renderedImage().save(picture)
    told["scale"] = settings.scale()
    print(json.dumps(told))
    opened.clear()


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    {"project": project, "layers": layers}[sys.argv[1]](*sys.argv[2:])
    application.exitQgis()
