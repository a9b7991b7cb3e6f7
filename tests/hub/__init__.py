"""A Hub on the loopback interface, which speaks the HTTP protocol of the real one.

``running_hub()`` starts it: the Hub on one port, its CDN and its Xet on two others, so that they
are different origins, as in the world. ``state`` holds repos as plain values, ``reading`` and
``writing`` answer calls of the API, ``lfs`` git's for large objects, ``cards`` judges cards,
``attributes`` says which files are large, ``buckets`` answers calls of buckets, ``cdn`` those of
the CDN, ``xet`` those of Xet (``mdb`` and ``xorbs`` are its two kinds of files), ``web`` is the
plumbing, ``faults`` breaks answers on demand, ``client`` prepares processes that talk to it.
"""

from __future__ import annotations

from hub.client import environment, hasten, in_process, run_python
from hub.log import Request, RequestLog
from hub.server import Hub, running_hub
from hub.state import Commit, File, Repo, Token
from hub.web import Answer, Asked

__all__ = [
    "Answer",
    "Asked",
    "Commit",
    "File",
    "Hub",
    "Repo",
    "Request",
    "RequestLog",
    "Token",
    "environment",
    "hasten",
    "in_process",
    "run_python",
    "running_hub",
]
