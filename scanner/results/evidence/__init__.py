"""Evidence of one site: a folder from which another person can check and repeat the finding."""

from __future__ import annotations

from scanner.results.evidence.folder import write_evidence

__all__ = ["write_evidence"]
