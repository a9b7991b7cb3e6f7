"""What the exit codes of the command mean; 0 is that it did what it was asked."""

from __future__ import annotations

__all__ = ["NO", "PIPE", "STOPPED", "TROUBLE"]

#: The answer is no: `hfzarr validate` found a broken rule.
NO = 1
#: Wrong usage, or it could not be done.
TROUBLE = 2
#: Stopped with Ctrl-C, as shells have it: 128 and the number of the signal.
STOPPED = 130
#: Nobody reads what it prints any more, as shells have it.
PIPE = 141
