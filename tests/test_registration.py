"""`datasets` is told of hfzarr, whichever is imported first, and no import breaks of it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap

import pytest

from hfzarr.errors import MissingDependencyError
from hfzarr.faces import registration

needs_datasets = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="datasets is not installed"
)
TOLD = """
    from datasets.features.features import _FEATURE_TYPES
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as known
    assert _FEATURE_TYPES["Zarr"].__module__ == "hfzarr.faces.feature"
    assert known["zarrfolder"][0] == "hfzarr.faces.builders", known
    assert known["zarr"][0] == "hfzarr.faces.table_builder", known
    assert not [f for f in sys.meta_path if type(f).__module__.startswith("hfzarr")]
"""


def run(code: str, *more: str) -> str:
    """Run code in a Python of its own, where every warning is an error."""
    text = "import sys, warnings\n" + textwrap.dedent(code) + "".join(map(textwrap.dedent, more))
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", text],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_datasets
@pytest.mark.parametrize(
    "order",
    [
        "import hfzarr, datasets\n",
        "import datasets, hfzarr\n",
        "import hfzarr\nimport datasets.features\n",
        "import hfzarr\nfrom datasets import load_dataset\n",
        "import hfzarr, importlib\nimportlib.import_module('datasets')\n",
    ],
)
def test_either_order_of_imports(order):
    run(order, TOLD)


def test_importing_hfzarr_does_not_import_datasets():
    run(
        """
        import hfzarr
        # Later versions of pandas import pyarrow themselves.
        heavy = {"datasets", "huggingface_hub", "torch", "PIL"} & set(sys.modules)
        assert not heavy, heavy
        """
    )


def test_the_hook_is_small():
    """It is imported by everyone, also by those who never heard of `datasets`."""
    run(
        """
        import importlib.util
        before = set(sys.modules)
        spec = importlib.util.find_spec("hfzarr")
        sys.modules["hfzarr"] = importlib.util.module_from_spec(spec)  # not executed
        import hfzarr.faces.registration
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        assert new - set(sys.stdlib_module_names) == {"hfzarr"}, new
        """
    )


@needs_datasets
def test_the_hook_leaves_no_trace_on_the_module():
    run(
        """
        import hfzarr, datasets, importlib, inspect
        from importlib.machinery import SourceFileLoader
        assert type(datasets.__loader__) is SourceFileLoader
        assert type(datasets.__spec__.loader) is SourceFileLoader
        assert "load_dataset" in inspect.getsource(datasets)
        importlib.reload(datasets)
        """,
        TOLD,
    )


@needs_datasets
def test_looking_for_datasets_does_not_import_it():
    run(
        """
        import hfzarr, importlib.util, pkgutil
        spec = importlib.util.find_spec("datasets")
        assert spec is not None and spec.origin.endswith("__init__.py")
        assert spec.submodule_search_locations
        assert "datasets" not in sys.modules
        import datasets
        """,
        TOLD,
    )


@needs_datasets
def test_several_threads_import_at_once():
    run(
        """
        import hfzarr, threading
        errors = []
        def work():
            try:
                import datasets
                datasets.Dataset
            except Exception as error:
                errors.append(error)
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert not errors, errors
        """,
        TOLD,
    )


def fake(tmp_path, body):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text(body)
    return f"sys.path.insert(0, {str(tmp_path)!r})\n"


def test_a_failing_import_fails_as_it_would_and_may_be_tried_again(tmp_path):
    path = fake(
        tmp_path, "import os\nif 'LUCK' not in os.environ:\n    raise RuntimeError('bad')\n"
    )
    run(
        path,
        """
        import hfzarr, os
        for _ in range(2):
            try:
                import datasets
            except RuntimeError as error:
                assert str(error) == "bad"
            else:
                raise SystemExit("imported")
            assert "datasets" not in sys.modules
        os.environ["LUCK"] = "1"
        import logging
        logging.disable()
        import datasets
        assert not [f for f in sys.meta_path if type(f).__module__.startswith("hfzarr")]
        """,
    )


def test_another_library_of_that_name_is_imported_as_it_is(tmp_path):
    """What hfzarr cannot tell is logged, and the import goes on."""
    path = fake(tmp_path, "HERE = 1\n")
    out = run(
        path,
        """
        import hfzarr, logging
        told = []
        class Keep(logging.Handler):
            def emit(self, record): told.append(record.getMessage())
        logging.getLogger("hfzarr").addHandler(Keep())
        import datasets
        assert datasets.HERE == 1
        print(told)
        """,
    )
    assert "zarrfolder" in out
    assert 'pip install -U "hfzarr[datasets]"' in out


def test_without_datasets_nothing_happens(tmp_path):
    run(
        """
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name == "datasets":
                    raise ModuleNotFoundError("No module named 'datasets'", name="datasets")
        sys.meta_path.insert(0, Absent())
        import hfzarr
        try:
            import datasets
        except ModuleNotFoundError as error:
            assert error.name == "datasets"
        else:
            raise SystemExit("imported")
        for name, args in [
            ("load_dataset", ["parquet"]), ("load_from_disk", ["x"]), ("restore", [None]),
            ("load_zarr_dataset", ["x"]),
        ]:
            try:
                getattr(hfzarr, name)(*args)
            except hfzarr.MissingDependencyError as error:
                assert name in str(error) and 'pip install "hfzarr[datasets]"' in str(error), error
            else:
                raise SystemExit(name)
        """
    )


def test_what_is_broken_inside_datasets_is_not_called_missing(monkeypatch):
    def broken(name, *args, **kwargs):
        if name == "datasets":
            raise ModuleNotFoundError("No module named 'dill'", name="dill")
        return real(name, *args, **kwargs)

    real = __import__
    monkeypatch.setattr("builtins.__import__", broken)
    with pytest.raises(ModuleNotFoundError, match="dill") as caught:
        registration.need_datasets("a test")
    assert not isinstance(caught.value, MissingDependencyError)


@needs_datasets
def test_announcing_again_changes_nothing():
    registration.need_datasets("a test")
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as known

    before, finders = dict(known), list(sys.meta_path)
    registration.announce()
    registration.announce()
    assert known == before
    assert sys.meta_path == finders


@needs_datasets
def test_the_list_of_packaged_modules_is_changed_in_place():
    """`load` has imported it by name."""
    import datasets.load
    import datasets.packaged_modules

    registration.need_datasets("a test")
    assert datasets.load._PACKAGED_DATASETS_MODULES["zarrfolder"][0] == "hfzarr.faces.builders"
    assert datasets.load._PACKAGED_DATASETS_MODULES["parquet"][0].startswith("datasets.")
