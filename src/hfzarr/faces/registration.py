"""What `datasets` is told of hfzarr, as soon as both are imported, in either order.

`datasets` has no entry points, and importing it takes seconds. So it is told at once where it is
imported already, and else right after its import, by a finder that waits for that one name.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import logging
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["announce", "need_datasets"]

_NAME = "datasets"
_HOME = "hfzarr.faces"
# Part of the folder that a prepared dataset is cached in: another number when rows change.
_CACHED_AS = "hfzarr-1"
# What load_dataset() calls a builder, and the module that holds its class.
BUILDERS = {"zarrfolder": f"{_HOME}.builders", "zarr": f"{_HOME}.table_builder"}


def announce() -> None:
    """Tell `datasets` of the feature and the builders, now or when it is imported.

    Calling it again changes nothing. Where `datasets` is not installed, nothing happens.
    """
    if _NAME in sys.modules:
        _tell()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


def need_datasets(what: str) -> ModuleType:
    """Return the module `datasets`, told of hfzarr.

    Parameters
    ----------
    what
        Whatever needs it, for the message.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    from hfzarr.rows.dataset_tables import import_datasets

    found: ModuleType = import_datasets(what)
    _register()
    return found


def _tell() -> None:
    """Register, and never fail: an import of `datasets` must not break because of hfzarr."""
    try:
        _register()
    except Exception:
        # At the first use of what was to be registered, need_datasets() raises it.
        logging.getLogger("hfzarr").warning(
            "`datasets` could not be told of hfzarr; load_dataset('zarrfolder') will not work. "
            'Install the versions that go together: pip install -U "hfzarr[datasets]"',
            exc_info=True,
        )


def _register() -> None:
    from datasets import packaged_modules
    from datasets.features import features

    from hfzarr.faces.feature import Zarr, reading_marks

    # As register_feature() does, without its warning that it is experimental.
    features._FEATURE_TYPES.setdefault("Zarr", Zarr)
    # Features are written as marked text. `datasets` reads them back all the time (from the
    # cache of map(), from the schema that a column is cast to), and must find stores again.
    if features._FEATURE_TYPES.get("Value") is features.Value:
        features._FEATURE_TYPES["Value"] = reading_marks(features.Value)
    _let_cells_be_written(features)
    for name, module in BUILDERS.items():
        packaged_modules._PACKAGED_DATASETS_MODULES.setdefault(name, (module, _CACHED_AS))


def _let_cells_be_written(features: Any) -> None:
    """Have `datasets` write handles and selections by their ``items()``, as it writes mappings.

    They are no mappings to anyone else: pandas would print and torch would collate what is in
    them, and read it for that.
    """
    from hfzarr.rows.handle import ZarrHandle
    from hfzarr.rows.selection import ZarrSelection

    written = getattr(features, "Mapping", None)
    if written is Mapping:
        features.Mapping = (Mapping, ZarrHandle, ZarrSelection)
    elif not isinstance(written, tuple):
        Mapping.register(ZarrHandle)
        Mapping.register(ZarrSelection)


def tell_torch() -> None:
    """Have torch's default collate keep handles and selections, once torch is imported."""
    collate = sys.modules.get("torch.utils.data._utils.collate")
    known = getattr(collate, "default_collate_fn_map", None)
    if not isinstance(known, dict):
        return
    from hfzarr.rows.handle import ZarrHandle
    from hfzarr.rows.selection import ZarrSelection

    known.setdefault(ZarrHandle, _as_list)
    known.setdefault(ZarrSelection, _as_list)


def _as_list(batch: Any, **_: Any) -> list[Any]:
    return list(batch)


class _Waiting(importlib.abc.MetaPathFinder):
    """Finds `datasets` as it would be found without it, and has its loader call back once."""

    def __init__(self) -> None:
        # By thread: another thread's import of the same name waits for Python's own lock.
        self._busy = threading.local()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != _NAME or getattr(self._busy, "yes", False):
            return None
        self._busy.yes = True
        try:
            spec = importlib.util.find_spec(fullname)
        except (ImportError, ValueError):
            return None
        finally:
            self._busy.yes = False
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return None
        spec.loader = _Telling(spec.loader, self)
        return spec


class _Telling(importlib.abc.Loader):
    """A loader that does what another does, and then tells."""

    def __init__(self, loader: Any, finder: _Waiting) -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        # Whatever the other offers besides: get_source, get_resource_reader, is_package, …
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        # As if hfzarr had never been there, also for reload(), pickle and inspect.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        _tell()
