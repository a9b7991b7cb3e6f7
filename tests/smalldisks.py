"""Folders that cannot be written to, or not for long."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, nbytes: int) -> Iterator[Path]:
    """Mount a disk of so many bytes, where that is allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={nbytes},mode=700", "none", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount on this system")
    if done.returncode:
        pytest.skip(f"this user may not mount a disk: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder one that nobody writes to, and put it right again."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        # Root may write everywhere but on a disk that is read-only.
        if not os.path.ismount(folder):
            pytest.skip("root may write to any folder")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield
        return
    paths = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    modes = [path.stat().st_mode & 0o777 for path in paths]
    for path in paths:
        path.chmod(0o500)
    try:
        yield
    finally:
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode)
