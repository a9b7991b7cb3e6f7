"""Processes that talk to a Hub of tests, and to no other.

huggingface_hub and datasets read HF_ENDPOINT and their folders once, when they are imported.
``run_python`` starts a process with the right environment; ``in_process`` sets what was read by
this one anew, for as long as a test runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from hub.server import Hub


def environment(
    hub: Hub, home: Path, token: str | None = None, more: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Environment of a process whose only Hub is this one, and that knows no other login."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("HF_", "HUGGING")) and not name.lower().endswith("_proxy")
    }
    ours = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "*",
        "TQDM_DISABLE": "1",
        **({"HF_TOKEN": token} if token else {}),
    }
    return {**kept, **ours, **(more or {})}


def run_python(
    hub: Hub,
    code: str,
    home: Path,
    *,
    token: str | None = None,
    more: Mapping[str, str] | None = None,
    timeout: float = 180,
) -> str:
    """Run Python code in a process of its own; give what it prints, or raise what it says."""
    # Threads of a stream may abort an interpreter that takes its leave.
    leave = "\nimport os, sys\nsys.stdout.flush()\nos._exit(0)\n"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code) + leave],
        env=environment(hub, home, token, more),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def hasten(patch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub wait no longer than a moment between its attempts."""
    import huggingface_hub.utils._http as http

    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, 0.01))

    patch.setattr(http, "time", SimpleNamespace(**{**vars(time), "sleep": sleep}))


def in_process(hub: Hub, patch: pytest.MonkeyPatch, home: Path, token: str | None = None) -> None:
    """Make this process talk to a Hub, until ``patch`` is undone."""
    for name in tuple(os.environ):
        if name.startswith(("HF_", "HUGGING")) or name.lower().endswith("_proxy"):
            patch.delenv(name)
    for name, text in environment(hub, home, token).items():
        if name not in os.environ:
            patch.setenv(name, text)
    import huggingface_hub.constants as constants
    from huggingface_hub import HfFileSystem, hf_api

    patch.setattr(constants, "ENDPOINT", hub.url)
    address = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(hf_api.api, "endpoint", hub.url)  # what the module's functions are bound to
    HfFileSystem.clear_instance_cache()
    import datasets.config as config

    patch.setattr(config, "HF_ENDPOINT", hub.url)
    address = f"{hub.url}/datasets/{{repo_id}}/resolve/{{revision}}/{{path}}"
    patch.setattr(config, "HUB_DATASETS_URL", address)
    patch.setattr(config, "HF_DATASETS_CACHE", home / "datasets")
    patch.setattr(config, "DOWNLOADED_DATASETS_PATH", home / "datasets" / "downloads")
