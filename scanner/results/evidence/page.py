"""``evidence.html``: one page to print, with everything in it, that opens without a network.

Whatever came from outside (names, ids, reasons) goes through the template's escaping; nothing on
the page can run, and its content policy forbids what is not in the file.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader

from scanner.models.card import SEGMENTER_CLASSES
from scanner.results.evidence.case import USES, Case
from scanner.results.evidence.facts import made, scene_notes, scene_rows, what, where
from scanner.results.evidence.pixels import CLEAR_SHARE
from scanner.results.evidence.repeat import steps
from scanner.results.evidence.words import Words
from scanner.results.palette import CLASS_COLOURS, as_hex
from scanner.results.report.embed import environment, source_hash

BIG: Final = ("before", "after")
SMALL: Final = ("composite", "classes")


def page(case: Case, words: Words, files: Mapping[str, bytes], digests: Mapping[str, str]) -> str:
    """Return the page of a case.

    Args:
        case: what is known.
        words: of the page's language.
        files: pictures by name, such as ``before.png``, and ``series.svg``; those there are.
        digests: sha256 of the files beside the page, by name.
    """
    jinja = _jinja()
    colours = [(name, as_hex(CLASS_COLOURS[name])) for name in SEGMENTER_CLASSES]
    style = jinja.get_template("evidence.css.j2").render(colours=colours)
    scenes, more = scene_rows(case)
    notes, left_out = scene_notes(case, words, more)
    return jinja.get_template("evidence.html.j2").render(
        t=words,
        lang=words.lang,
        style=style,
        style_hash=source_hash(style).strip("'"),
        site={"id": case.detection_id, "aoi": case.run.aoi.name},
        synthetic=case.synthetic,
        facts=[
            {
                "heading": words("where.heading"),
                "rows": where(case, words),
                "map": _data(files["locator.svg"], "image/svg+xml"),
            },
            {"heading": words("what.heading"), "rows": what(case, words), "map": None},
        ],
        big=[_picture(name, case, words, files) for name in BIG if f"{name}.png" in files],
        small=[_picture(name, case, words, files) for name in SMALL if f"{name}.png" in files],
        legend=[(one, words.land(one)) for one in SEGMENTER_CLASSES]
        if "classes.png" in files
        else [],
        picture_notes=picture_notes(case, words, files),
        series=_data(files["series.svg"], "image/svg+xml") if "series.svg" in files else None,
        series_notes=series_notes(case, words),
        uses=USES,
        scenes=scenes,
        scene_notes=notes,
        left_out=left_out,
        made=made(case, words),
        years=years(case),
        steps=[{"text": text, "command": command} for text, command in steps(case, words)],
        files=sorted(digests.items()),
    )


def title(name: str, case: Case, words: Words) -> tuple[str, str]:
    """Return the title of a picture and a few words on it."""
    if name == "composite":
        days = case.composite_days() or ["?"]
        key = "pictures.composite_text" if len(days) > 1 else "pictures.composite_day"
        return words("pictures.composite"), words(key, first=days[0], last=days[-1])
    if name == "classes":
        return words("pictures.classes"), ""
    view = case.before if name == "before" else case.after
    if view is None:
        return "", ""
    if view.clear < CLEAR_SHARE:
        return words("pictures.clearest", day=view.day, share=words.percent(view.clear)), ""
    share = words.percent(view.clear)
    if name == "before":
        key, run = ("before_run", case.earlier.run_id[:12]) if case.earlier else ("before_text", "")
        text = words(f"pictures.{key}", run=run, share=share)
        return words("pictures.before", day=view.day), text
    if case.before is None and case.earlier is None:
        return words("pictures.only", day=view.day), ""
    return words("pictures.after", day=view.day), words("pictures.after_text", share=share)


def picture_notes(case: Case, words: Words, files: Mapping[str, bytes]) -> list[str]:
    """Return what is said below the pictures: what they are, and what is not there."""
    ground, notes = case.ground, []
    if any(f"{name}.png" in files for name in (*BIG, *SMALL)):
        notes.append(words("pictures.about", side=ground.side_m))
    if case.after is None:
        notes.append(words("pictures.none"))
    elif case.earlier is not None and case.before is None:
        notes.append(words("pictures.none_before", run=case.earlier.run_id[:12]))
    elif case.before is None and case.series:
        notes.append(words("pictures.same_day"))
    if "composite.png" not in files:
        notes.append(words("pictures.no_composite"))
    if "classes.png" not in files:
        notes.append(words("pictures.no_classes"))
    if ground.share < 0.999:
        notes.append(words("pictures.capped", share=words.percent(ground.share)))
    return notes


def series_notes(case: Case, words: Words) -> list[str]:
    """Return what is said below the series: how it was made, and what stands in for what."""
    share, rows = words.percent(CLEAR_SHARE), case.series
    if not rows:
        return [words("series.none", share=share)]
    notes = [words("series.text", share=share)]
    ndvi, bsi = (any(row[name] is not None for row in rows) for name in ("ndvi", "bsi"))
    if not ndvi:
        notes.append(words("series.no_ndvi"))
    if not bsi:
        notes.append(words("series.no_bsi", bands="B11" if ndvi else "B08, B11"))
    if not (ndvi and bsi):
        notes.append(words("series.stand_in"))
    shown = [name for name, has in (("ndvi", ndvi), ("bsi", bsi)) if has] or ["brightness"]
    return [*(_summary(name, rows, words) for name in shown), *notes]


def _summary(name: str, rows: Sequence[Mapping[str, Any]], words: Words) -> str:
    """Return the first and the last value of an index, in words."""
    here = [row for row in rows if row[name] is not None]
    first, last = here[0], here[-1]
    values = {
        "first": first[name],
        "last": last[name],
        "around_first": first[f"{name}_around"],
        "around_last": last[f"{name}_around"],
    }
    told = {key: "?" if v is None else words.number(v, 2) for key, v in values.items()}
    return words(
        "series.summary" if len(here) > 1 else "series.summary_one",
        name=words(f"series.{name}").partition(":")[0],
        first_day=first["date"],
        last_day=last["date"],
        **told,
    )


def years(case: Case) -> str:
    """Return the year the scenes used were sensed in, or the first and the last."""
    found = sorted({item.datetime.year for item, _ in case.used})
    return "-".join(dict.fromkeys(str(year) for year in (found[0], found[-1]))) if found else ""


def _picture(name: str, case: Case, words: Words, files: Mapping[str, bytes]) -> dict[str, Any]:
    heading, text = title(name, case, words)
    return {
        "data": _data(files[f"{name}.png"], "image/png"),
        "title": heading,
        "text": text,
    }


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@cache
def _jinja() -> Environment:
    return environment(PackageLoader("scanner.results.evidence"))
