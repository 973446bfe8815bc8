"""Numbers and durations as a person reads them."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """A duration for people: 8.2 s, 3 min 20 s, 2 h 05 min, 3 d 04 h."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def number(value: float) -> str:
    """Three significant digits without noise: 0.412, 84.3, 1.2e-06, 12000."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6):
        return str(int(value))
    return f"{value:.1f}" if 100 <= abs(value) < 1e5 else f"{value:.3g}"
