"""Random changes to inputs: to the bytes, and to the values of a JSON or TOML document."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import tomli_w

Holder = dict[str, Any] | list[Any]


def nested(levels: int, inside: Any = 1) -> Any:
    for level in range(levels):
        inside = [inside] if level % 2 else {"a": inside}
    return inside


HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 0.5, 91, 181, -181, 361, 2**31, 2**53, 2**64, 10**400, -(10**400)),
    *(1e-320, 1e308, -1e308, float("inf"), float("nan")),
    *(
        "",
        " ",
        "\0",
        "a\nb",
        "\x1b[2J",
        "ä" * 50,
        "\ud800",
        "²",
        "\u0663.\u0661",
        "nan",
        "1e999",
        "../..",
        "~",
    ),
    *("x" * 5000, "NaT", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2024-07-01"),
    *(
        "2024-07-01T00:00:00+14:00",
        "file:///etc/passwd",
        "/vsicurl/https://h/a.tif",
        "s3://b/a.tif",
    ),
    *("https://u:p@sentinel2l2a01.blob.core.windows.net/a.tif", "https://[::1", "http://h:99999/a"),
    *([], {}, [[]], [{}], [None], {"": ""}, [0] * 300, [1, 2], [1, 2, 3, 4], [0.0] * 6),
    *(nested(30), nested(60), nested(300), nested(800)),
    {"type": "Point", "coordinates": [0, 0]},
    {"type": "GeometryCollection", "geometries": []},
    {"type": "MultiPolygon", "coordinates": [[]]},
    {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]},
)
"""Values that have broken readers of JSON before, here or elsewhere."""


def places(value: Any) -> Iterator[tuple[Holder, Any]]:
    """Yield each (holder, key or index) of a document."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            keys = list(one) if isinstance(one, dict) else range(len(one))
            for key in keys:
                yield one, key
                waiting.append(one[key])


def change(value: Any, rng: Random, hostile: tuple[Any, ...] = HOSTILE) -> Any:
    """Return a document with one to four values changed, dropped, doubled, moved or wrapped."""
    root: list[Any] = [copy.deepcopy(value)]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        found = [place for _, place in zip(range(3000), places(root), strict=False)]
        holder, key = rng.choice(found)
        match rng.randrange(7):
            case 0 | 1:
                holder[key] = copy.deepcopy(rng.choice(hostile))
            case 2 if holder is not root:
                del holder[key]
            case 3 if isinstance(holder, list) and holder is not root:
                holder.insert(key, copy.deepcopy(holder[key]))
            case 4:
                other, where = rng.choice(found)
                holder[key] = copy.deepcopy(other[where])
            case 5 if isinstance(holder[key], int | float) and abs(holder[key]) < 1e300:
                holder[key] = holder[key] * rng.choice((-1, 0.5, 2, 1e-9, 1e7)) + rng.random()
            case 6 if isinstance(holder[key], str):
                holder[key] = splice(holder[key], rng)
            case _:
                holder[key] = [holder[key]] if rng.random() < 0.5 else {"a": holder[key]}
    return root[0]


def splice(text: str, rng: Random) -> str:
    at, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    return text[:at] + rng.choice(("", *"/?#&=@:.-+%\\é\n\0²9", text[at:end] * 2)) + text[end:]


def change_json(data: bytes, rng: Random) -> bytes:
    """Change a JSON document; ``ValueError`` or ``RecursionError`` where it is none."""
    return json.dumps(change(json.loads(data), rng)).encode()


def change_toml(data: bytes, rng: Random) -> bytes:
    """Change a TOML document; one of ``NOT_TOML`` where it, or what came out, is none."""
    return tomli_w.dumps(change(tomllib.loads(data.decode()), rng)).encode()


NOT_TOML = (ValueError, TypeError, AttributeError, RecursionError)


def change_bytes(data: bytes, rng: Random) -> bytes:
    """Overwrite, cut out, double or insert some bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.choice((1, 1, 2, 4, 16, 200)))
        match rng.randrange(4):
            case 0:
                out[at:end] = rng.randbytes(end - at)
            case 1:
                del out[at:end]
            case 2:
                out[at:at] = out[at:end] * rng.choice((1, 2, 30))
            case 3:
                out[at:end] = rng.choice((b"\0", b"\xff\xff\xff\xff", b"[", b"{", b'"', b"1e999"))
    return bytes(out)


def changed(data: bytes, form: str, rng: Random) -> bytes:
    """Return ``data`` changed, by its values where it is a document of ``form``."""
    ways: dict[str, Callable[[bytes, Random], bytes]] = {"json": change_json, "toml": change_toml}
    if form in ways and rng.random() < 0.8:
        try:
            return ways[form](data, rng)
        except NOT_TOML:
            pass
    return change_bytes(data, rng)
