"""The classic recipe: six steps from coordinates to detections, with one config file.

``recipe`` (the settings), ``workspace`` (folders, and what a step lacks), ``steps`` (what each step
runs), ``overview``, ``detect``, ``results`` and ``draw`` (step five), ``command``.
"""
