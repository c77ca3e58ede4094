"""How often gRPC's own threads, those of its newer poller, go to sleep."""

from __future__ import annotations

from typing import Final

__all__ = ["SWITCHES"]

SWITCHES: Final = """
def switches():
    from pathlib import Path
    count = 0
    for thread in Path("/proc/self/task").iterdir():
        if "event_engine" in (thread / "comm").read_text():
            words = (thread / "status").read_text().split()
            count += int(words[words.index("voluntary_ctxt_switches:") + 1])
    return count
"""
"""For a program of its own: each message takes the newer poller several."""
