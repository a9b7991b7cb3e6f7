"""The ``hfzarr`` command: each sub-command parses, calls one function and prints."""

from hfzarr.faces.cli.exits import NO, PIPE, STOPPED, TROUBLE
from hfzarr.faces.cli.program import main

__all__ = ["NO", "PIPE", "STOPPED", "TROUBLE", "main"]
