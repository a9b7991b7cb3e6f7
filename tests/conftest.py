"""What every test may ask for: the folder of real stores, and how hypothesis behaves."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# Stores are written inside tests, so time says nothing; CI tries the same examples every time.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", parent=settings.get_profile("local"), derandomize=True, print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# A shell starts what runs in its background deaf to Ctrl-C; tests interrupt themselves by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(config: Any, val: Any, argname: str) -> str | None:
    """Name bytes by their number: processes that share the tests must give them the same names."""
    return f"{argname}-{len(val)}-bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of real stores: ``$HFZARR_REALDATA``, else ``../shared/realdata``."""
    named = os.environ.get("HFZARR_REALDATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "realdata"
    if not (folder / "expected.json").is_file():
        if named:
            pytest.fail(f"HFZARR_REALDATA is {named!r}, but there is no expected.json in it")
        pytest.skip("no real stores: set HFZARR_REALDATA to their folder")
    return folder


@pytest.fixture(scope="session")
def expected(realdata: Path) -> dict[str, Any]:
    """What each array of the real stores holds, as ``expected.json`` says."""
    values: dict[str, Any] = json.loads((realdata / "expected.json").read_text("utf-8"))
    return values
