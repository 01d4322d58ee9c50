"""What measures."""

import os
import platform
from pathlib import Path


def machine() -> str:
    """The processor's name, its widest vectors, and how many cores it has here."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    facts = {
        name.strip(): value.strip()
        for name, colon, value in (line.partition(":") for line in lines)
        if colon
    }
    name = facts.get("model name") or platform.processor() or platform.machine()
    vectors = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    known = [title for flag, title in vectors.items() if flag in flags]
    return f"{name}{f' ({known[0]})' if known else ''}, {os.cpu_count()} cores"
