"""``report.html``: map, sites and figures of a run on one page that opens without a network.

One module a step: ``frame`` (the map's grid), ``embed`` (data URIs, safe JSON, numbers),
``shapes`` and ``layers`` (what the map shows), ``sites`` and ``figures`` (what was found, what was
seen), ``map_data`` (all the scripts get), ``words`` (all the template gets), ``page``.
"""

from __future__ import annotations

from scanner.results.report.page import page, write_report

__all__ = ["page", "write_report"]
