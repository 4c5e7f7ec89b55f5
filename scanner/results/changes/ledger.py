"""The ledger: every site that comparisons have told of, carried on from month to month.

One row a site. A site keeps its ``site_id`` as long as its cells are mined, whatever it is called
in a single run:

- A group of cells is the ledger's site whose cells it holds; a site in several groups goes on in
  the one that holds most of its cells, and the others are new rows with ``split_from``, there by
  the end of the first comparison that showed one of their cells mined.
- A group that several sites go on in is the oldest of them (by ``first_seen_by``, then by id); the
  others stay as rows with ``merged_into``, and come back under their own id if they part again.

What was once told is only ever made narrower: ``first_seen_by`` moves earlier and
``first_seen_after`` later, never past it. Ground that joins a site later does not change them.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scanner.errors import ConfigError
from scanner.results.changes.ledger_table import Pair, Site, read_sites, write_sites


class Ledger:
    """All sites; read one with :meth:`read`, carry it on with :meth:`apply`."""

    def __init__(self, sites: Iterable[Site] = (), path: Path | None = None) -> None:
        self.sites = {site.site_id: site for site in sites}
        self._path = path

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Read ``ledger.parquet``; see :func:`ledger_table.read_sites`."""
        return cls(read_sites(path), path)

    def known(self, pair: Pair) -> set[str]:
        """Return the cells that were mined as last seen before a pair of runs."""
        return {cell for site in self.sites.values() for cell in site.mined_before(pair)}

    def check(self, pair: Pair) -> None:
        """Refuse a pair that cannot be told after what is told already (``ConfigError``)."""
        steps = [step for site in self.sites.values() for step in site.history]
        told = [step for step in steps if pair.told(step)]
        if told and told[0]["settings"] != pair.settings:
            raise ConfigError(
                f"{self._path}: holds these two runs at {told[0]['settings']}, now they are at "
                f"{pair.settings}; give another --out, or the ledger as it was before them"
            )
        latest = max((step["until"] for step in steps), default=pair.until)
        if not told and latest > pair.until:
            raise ConfigError(
                f"{self._path}: goes to {latest}, NEW ends on {pair.until}; compare runs in order "
                "of time, or give the ledger as it was before"
            )

    def apply(
        self, rows: Sequence[dict[str, Any]], pair: Pair, present: Collection[str] = ()
    ) -> list[dict[str, Any]]:
        """Name the sites of a comparison and carry the ledger on; the same pair again is no news.

        Args:
            rows: from ``sites.site_row``, and ``cells`` and ``mined`` (lists of cell ids:
                all of the site, and those mined as last seen).
            pair: the runs.
            present: cells of :meth:`known` that lie in either run's area.

        Returns the rows with ``site_id``, what the ledger knows of the bracket, ``split_from`` and
        ``merged``. Nothing of the ledger changes if it holds the pair already.
        """
        if any(site.told(pair) for site in self.sites.values()):
            return Ledger(map(_copy, self.sites.values()), self._path)._apply(rows, pair, present)
        return self._apply(rows, pair, present)

    def _apply(
        self, rows: Sequence[dict[str, Any]], pair: Pair, present: Collection[str]
    ) -> list[dict[str, Any]]:
        named = self._name(rows)
        for row, (site, joined) in zip(rows, named, strict=True):
            before = [cell for one in (site, *joined) for cell in one.mined_before(pair)]
            _narrow(site, row)
            if not site.told(pair):
                elsewhere = {*before} - {*row["cells"], *present}
                hidden = bool(elsewhere) or "new:" in (row["unseen_reason"] or "")
                _carry_on(site, row, pair, sorted({*row["mined"], *elsewhere}), hidden)
            for younger in joined:
                _merge(younger, site, pair, self.sites.values())
        self._hand_over(rows, [site for site, _ in named])
        merged: dict[str | None, list[str]] = {}
        for name in sorted(self.sites):
            merged.setdefault(self.sites[name].merged_into, []).append(name)
        return [
            row
            | {
                "site_id": site.site_id,
                "first_seen_after": site.first_seen_after,
                "first_seen_by": site.first_seen_by,
                "last_seen": site.last_seen,
                "geometry": site.geometry if row["geometry"] is None else row["geometry"],
                "split_from": site.split_from,
                "merged": merged.get(site.site_id, []),
            }
            for row, (site, _) in zip(rows, named, strict=True)
        ]

    def write(self, path: Path) -> None:
        """Write ``ledger.parquet``."""
        write_sites(path, [self.sites[name] for name in sorted(self.sites)])

    def _name(self, rows: Sequence[dict[str, Any]]) -> list[tuple[Site, list[Site]]]:
        """Return for each row its site (made or brought back as need be) and those it takes in."""
        group_of = {cell: n for n, row in enumerate(rows) for cell in row["cells"]}
        shares = {
            name: Counter(group_of[cell] for cell in site.cells if cell in group_of)
            for name, site in self.sites.items()
        }
        heirs: dict[int, list[Site]] = {}
        claims: dict[int, list[Site]] = {}
        for name, share in shares.items():
            site = self.sites[name]
            if share and site.merged_into is None:
                heir = min(share, key=lambda group: (-share[group], group))
                heirs.setdefault(heir, []).append(site)
                for group in share:
                    claims.setdefault(group, []).append(site)
        named = []
        for n, row in enumerate(rows):
            known = sorted(heirs.get(n, []), key=_age)
            if not known:
                parents = sorted(claims.get(n, []), key=lambda s: (-shares[s.site_id][n], _age(s)))
                known = [self._part(n, row, parents[0] if parents else None, shares)]
            named.append((known[0], known[1:]))
        return named

    def _part(
        self, n: int, row: dict[str, Any], parent: Site | None, shares: dict[str, Counter[int]]
    ) -> Site:
        """Return the site of a group no site goes on in: one that had merged, or a new one."""
        asleep = [
            site
            for name, site in self.sites.items()
            if parent and site.merged_into == parent.site_id and shares[name][n]
        ]
        if asleep:
            site = min(asleep, key=lambda s: (-shares[s.site_id][n], _age(s)))
            site.merged_into, site.cells = None, []
            return site
        name, count = row["site_id"], 1
        while name in self.sites:
            count += 1
            name = f"{row['site_id']}_{count}"
        site = self.sites[name] = Site(name)
        if parent:
            told = [
                s["until"] for s in parent.history if not {*row["cells"]}.isdisjoint(s["mined"])
            ]
            site.first_seen_by = min(told, default=None)
            site.split_from, site.geometry = parent.site_id, parent.geometry
        return site

    def _hand_over(self, rows: Sequence[dict[str, Any]], named: Sequence[Site]) -> None:
        """Give each cell of the rows to its site, and to no other that is not merged."""
        owner = {
            cell: site.site_id
            for row, site in zip(rows, named, strict=True)
            for cell in row["cells"]
        }
        for name, site in self.sites.items():
            if site.merged_into is None:
                site.cells = [cell for cell in site.cells if owner.get(cell, name) == name]
        for row, site in zip(rows, named, strict=True):
            site.cells = sorted({*site.cells, *row["cells"]})


def _narrow(site: Site, row: dict[str, Any]) -> None:
    """Take what a row says of when a site began and was last seen."""
    by = [day for day in (site.first_seen_by, row["first_seen_by"]) if day]
    site.first_seen_by = min(by, default=None)
    after = [day for day in (site.first_seen_after, row["first_seen_after"]) if day]
    site.first_seen_after = max((day for day in after if by and day < min(by)), default=None)
    site.last_seen = max((day for day in (site.last_seen, row["last_seen"]) if day), default=None)


def _carry_on(site: Site, row: dict[str, Any], pair: Pair, mined: list[str], hidden: bool) -> None:
    """Take a row as the next step of a site, a part of which may be ``hidden`` from NEW."""
    shown = float(row["detected_new_ha"])
    if hidden:  # no less than was last seen
        shown = max(shown, site.area_ha or float(row["detected_old_ha"]))
    site.area_ha = shown
    if row["geometry"] is not None and (row["detection_ids_new"] or not site.history):
        site.geometry = row["geometry"]
    site.add(pair, row["change"], mined, row["growth_ha"])


def _merge(younger: Site, into: Site, pair: Pair, sites: Iterable[Site]) -> None:
    """Let a site go on in an older one; what had merged into it before goes along."""
    into.cells = sorted({*into.cells, *younger.cells})
    for site in sites:
        if site.merged_into == younger.site_id:
            site.merged_into = into.site_id
    younger.merged_into = into.site_id
    younger.add(pair, "merged", [], None)


def _age(site: Site) -> tuple[dt.date, str]:
    return site.first_seen_by or dt.date.max, site.site_id


def _copy(site: Site) -> Site:
    return replace(site, cells=list(site.cells), history=list(site.history))
