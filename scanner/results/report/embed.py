"""What a page needs to carry everything itself: data URIs, safe JSON, hashes, numbers.

Nothing here trusts what it is given: names of areas, ids of items and reasons come from outside.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, Final

import cv2
import numpy as np
from jinja2 import BaseLoader, Environment, StrictUndefined
from numpy.typing import NDArray

from scanner.errors import OutputError

THIN_SPACE: Final = "\u202f"
"""Between thousands, as ISO 80000 writes them: it is no decimal sign in any language."""

_ESCAPED: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
_QUALITIES: Final = (82, 70, 55, 40, 25)
_LOSSLESS: Final = 101
_WEBP: Final = "data:image/webp;base64,"


def environment(loader: BaseLoader | None = None) -> Environment:
    """Return what fills the templates of pages: every value is escaped, a lacking one an error."""
    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def json_text(value: Any) -> str:
    """Return JSON that cannot end a script element or break a line of a script."""
    plain = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return plain.translate(_ESCAPED)


def source_hash(text: str) -> str:
    """Return what a content security policy calls an inline script or style by."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def picture_uri(rgba: NDArray[np.uint8], limit: int, lossless: bool = False) -> str | None:
    """Return pixels (4, y, x) as a WebP data URI of at most ``limit`` characters.

    Photographs lose quality until they fit; what still does not, and maps of classes
    (``lossless``), loses every other row and column. ``None`` where no pixel is opaque.
    """
    if not rgba[3].any():
        return None
    pixels = np.ascontiguousarray(np.moveaxis(rgba[[2, 1, 0, 3]], 0, -1))
    while True:
        for quality in (_LOSSLESS,) if lossless else _QUALITIES:
            encoded = base64.b64encode(_webp(pixels, quality)).decode()
            if len(encoded) + len(_WEBP) <= limit or min(pixels.shape[:2]) < 16:
                return _WEBP + encoded
        pixels = np.ascontiguousarray(pixels[::2, ::2])


def _webp(bgra: NDArray[np.uint8], quality: int) -> bytes:
    done, encoded = cv2.imencode(".webp", bgra, [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise OutputError(
            f"report: OpenCV cannot encode a picture of {bgra.shape[1]} x {bgra.shape[0]} as WebP; "
            "install opencv-python-headless again"
        )
    return bytes(encoded)


def number(value: float | None, digits: int = 0) -> str:
    """Write a number with a decimal point and thousands apart; a dash where there is none."""
    if value is None or not np.isfinite(value):
        return "\u2013"
    text = f"{value:,.{digits}f}" if abs(value) >= 10_000 else f"{value:.{digits}f}"
    return text.replace(",", THIN_SPACE)


def share(part: float, whole: float) -> str:
    """Write a share in percent; never 0 or 100 where it is only nearly so."""
    if not whole:
        return "\u2013"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f} %".replace(".0 %", " %") if percent in (0, 100) else f"{percent:.1f} %"
