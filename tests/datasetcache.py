"""Fixtures for tests of `datasets`: no network, no progress bars, a cache for each test."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def processes() -> Iterator[None]:
    """Let go of what processes leave behind in the test that began them."""
    yield
    gc.collect()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No network, no progress bars, and a cache of its own."""
    import datasets

    from hfzarr.faces.registration import need_datasets

    need_datasets("a test")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    shown = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    yield
    if shown:
        datasets.enable_progress_bars()
