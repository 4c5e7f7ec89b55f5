"""Words, numbers and positions of the evidence page, as a language writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scanner.results.texts import texts


@dataclass(frozen=True)
class Words:
    """The texts ``evidence.*`` of a language; call it with a key and what fills its places."""

    lang: str
    table: Mapping[str, str]

    @classmethod
    def of(cls, lang: str) -> Words:
        """Return the words of a language; ``ConfigError`` for one there is none of."""
        return cls(lang, texts(lang))

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its places filled."""
        return self.table[f"evidence.{key}"].format(**values)

    def land(self, name: str) -> str:
        """Return what a land cover class is called, as in the report."""
        return self.table[f"report.class.{name}"]

    def many(self, key: str, n: int, **values: object) -> str:
        """Return the text for one, or for ``n``."""
        return self(f"{key}_{'one' if n == 1 else 'many'}", n=n, **values)

    def number(self, value: float, digits: int = 0) -> str:
        """Return a number as text; Portuguese has a comma where the others have a point."""
        text = f"{value:.{digits}f}"
        return text.replace(".", ",") if self.lang == "pt" else text

    def plain(self, value: float) -> str:
        """Return a number with as many digits as it has."""
        text = f"{value:.10g}"
        return text.replace(".", ",") if self.lang == "pt" else text

    def percent(self, share: float) -> str:
        """Return a share as percent, three digits, without the sign."""
        return self.plain(float(f"{100 * share:.3g}"))


def dms(lat: float, lon: float) -> str:
    """Return a position in degrees, minutes and seconds to a tenth (3 m on the ground)."""
    return f"{_dms(lat, 'NS')}, {_dms(lon, 'EW')}"


def _dms(value: float, signs: str) -> str:
    tenths = round(abs(value) * 36_000)
    degrees, rest = divmod(tenths, 36_000)
    minutes, rest = divmod(rest, 600)
    return (
        f"{degrees}\N{DEGREE SIGN} {minutes:02d}\u2032 {rest / 10:04.1f}\u2033 {signs[value < 0]}"
    )
