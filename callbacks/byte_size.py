"""Bytes as a person reads them."""

from __future__ import annotations


def byte_size(count: float) -> str:
    """Write a number of bytes with a decimal unit, 1 kB being 1000 bytes.

    Args:
        count: Bytes, at least 0.

    Example:
        >>> byte_size(0), byte_size(999), byte_size(1_500), byte_size(25_000_000)
        ('0 B', '999 B', '1.5 kB', '25.0 MB')
    """
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        # 999.95 would be rounded to 1000.0.
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} PB"
