"""A pytest plugin: xarray's own tests with another engine under the name ``zarr``.

Load it with ``-p engine_swap``. ``--zarr-engine=module:Class`` says which class takes the place
of xarray's own, which stays without the option; it takes on two habits of the name ``zarr`` (see
`_under_zarrs_name`) unless ``--bare`` is given. ``--outcomes=FILE`` writes a JSON object, ``{test
id: [outcome, reason]}``.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from xarray.backends.common import BACKEND_ENTRYPOINTS, BackendEntrypoint
from xarray.backends.plugins import list_engines, refresh_engines
from xarray.backends.zarr import ZarrBackendEntrypoint

_OUTCOMES = pytest.StashKey[dict[str, tuple[str, str]]]()
_WORST_FIRST = ("error", "failed", "skipped", "xpassed", "xfailed", "passed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that the module's docstring names."""
    parser.addoption("--zarr-engine", default=None, metavar="MODULE:CLASS")
    parser.addoption("--bare", action="store_true")
    parser.addoption("--outcomes", default=None, metavar="FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Put the wanted engine in place before a test is collected."""
    config.stash[_OUTCOMES] = {}
    if target := config.getoption("--zarr-engine"):
        engine = load_engine(target)
        put_in_place_of_zarr(engine if config.getoption("--bare") else _under_zarrs_name(engine))


def load_engine(target: str) -> type[BackendEntrypoint]:
    """Return the class that ``module:Class`` names."""
    module, _, name = target.partition(":")
    engine: type[BackendEntrypoint] = getattr(importlib.import_module(module), name)
    return engine


def put_in_place_of_zarr(engine: type[BackendEntrypoint]) -> None:
    """Register `engine` under the name ``zarr`` and have xarray list its engines anew."""
    BACKEND_ENTRYPOINTS["zarr"] = ("zarr", engine)
    refresh_engines()
    if not isinstance(list_engines()["zarr"], engine):
        raise pytest.UsageError("an installed xarray plugin has taken the engine name 'zarr'")


def _under_zarrs_name(engine: type[BackendEntrypoint]) -> type[BackendEntrypoint]:
    """Return `engine` with the two habits that belong to the name ``zarr``.

    It claims a bare ``.zarr``, which another engine must not: 4 tests name no engine. Where
    ``decode_coords`` is not given it is True, where hfzarr, as it says, takes ``"all"``: 8 tests
    want bounds and grid mappings as data variables. (Numbers of xarray 2026.9.)
    """

    def guess_can_open(self: BackendEntrypoint, filename_or_obj: Any) -> bool:
        return ZarrBackendEntrypoint().guess_can_open(filename_or_obj)

    def with_zarrs_default(name: str) -> Any:
        method = getattr(engine, name)

        @functools.wraps(method)
        def opened(self: BackendEntrypoint, filename_or_obj: Any, **options: Any) -> Any:
            return method(self, filename_or_obj, **{"decode_coords": True, **options})

        return opened

    methods = {
        name: with_zarrs_default(name)
        for name in ("open_dataset", "open_datatree", "open_groups_as_dict")
    }
    return type("StandInForZarr", (engine,), {"guess_can_open": guess_can_open, **methods})


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine, which pytest alone would fail unrun."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted if name in pyfuncitem.funcargs}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Record the report of each phase."""
    report = yield
    _record(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """Record a module that could not be collected."""
    report = yield
    if report.failed:
        _record(collector.config, report)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the outcomes."""
    if target := session.config.getoption("--outcomes"):
        Path(target).write_text(json.dumps(session.config.stash[_OUTCOMES]))


def _record(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    """Keep the worst outcome of a test's phases."""
    outcomes = config.stash[_OUTCOMES]
    new = _outcome(report)
    old = outcomes.get(report.nodeid)
    if old is None or _WORST_FIRST.index(new[0]) < _WORST_FIRST.index(old[0]):
        outcomes[report.nodeid] = new


def _outcome(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str]:
    """Return a phase's outcome in pytest's words, and the reason in one line."""
    expected = hasattr(report, "wasxfail")
    if report.failed:
        unrun = getattr(report, "when", "collect") != "call"
        return ("error" if unrun else "failed"), _reason(report)
    if report.skipped:
        return ("xfailed" if expected else "skipped"), _reason(report)
    return ("xpassed" if expected else "passed"), ""


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the first line of what went wrong, or of why a test was skipped."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr or "")
    place = f" ({Path(crash.path).name}:{crash.lineno})" if crash is not None else ""
    return text.partition("\n")[0][:300] + place
