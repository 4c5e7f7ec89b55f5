"""How right a run is, by eye: a sample to label, accuracy and area from labels, training chips."""

from __future__ import annotations

from scanner.results.audit.accuracy import Estimate, estimate
from scanner.results.audit.chips import export_chips
from scanner.results.audit.page import write_audit
from scanner.results.audit.told import tell_estimate

__all__ = ["Estimate", "estimate", "export_chips", "tell_estimate", "write_audit"]
