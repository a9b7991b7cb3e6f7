"""``hfzarr reshard``: what its options become, what it prints, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

import hfzarr
from hfzarr.faces import cli
from hfzarr.faces import reshard as face
from hfzarr.faces.cli import main

COMMAND = [sys.executable, "-m", "hfzarr.faces.cli", "reshard"]
PIXELS = np.arange(1, 4 * 16 * 16 + 1, dtype="<u2").reshape(4, 16, 16)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a group in v2: an array of 64 chunk files, and a small one."""
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    root.attrs["title"] = "cells"
    image = root.create_array("image", shape=PIXELS.shape, dtype="<u2", chunks=(1, 4, 4))
    image[...] = PIXELS
    image.attrs["_ARRAY_DIMENSIONS"] = ["z", "y", "x"]
    times = root.create_array("times", shape=(3,), dtype="<f8", chunks=(1,))
    times[...] = np.arange(1.0, 4.0)
    return tmp_path / "a.zarr"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "b.zarr"


def image_of(target: Path) -> zarr.Array:
    array = zarr.open_group(target, mode="r")["image"]
    np.testing.assert_array_equal(array[...], PIXELS)
    return array


def reshard(*arguments: object) -> int:
    return main(["reshard", *map(str, arguments)])


# What it prints


def test_the_plan_comes_first_and_the_result_last(source, target, capsys):
    assert reshard(source, target) == 0
    said, errors = capsys.readouterr()
    assert errors == ""
    lines = said.splitlines()
    assert lines[0] == f"Reshard {source} to {target} (Zarr v3)"
    assert "repack" in said
    assert lines[-1].startswith(f"{target}: ")
    assert "became 5" in lines[-1]
    assert image_of(target).shards == (4, 16, 16)


def test_a_dry_run_writes_nothing(source, target, capsys):
    assert reshard(source, target, "--dry-run") == 0
    assert capsys.readouterr().out == f"{hfzarr.plan_reshard(source, target)}\n"
    assert not target.exists()


def test_quiet_prints_nothing(source, target, capsys):
    assert reshard(source, target, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    image_of(target)


def test_the_plan_is_there_before_the_bar_in_pipes(source, target):
    done = subprocess.run([*COMMAND, source, target], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.index("route") < done.stdout.index("became")


def test_a_terminal_shows_a_bar_between_them(source, target):
    pty = pytest.importorskip("pty", reason="needs pseudo-terminals")
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [*COMMAND, source, target], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    text = b""
    while part := _read(ours):
        text += part
    os.close(ours)
    assert running.wait(60) == 0, text.decode()
    said = text.decode()
    places = [said.index(word) for word in ("route", "reshard: 100%", "verify: 100%", "became")]
    assert places == sorted(places)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux ends a terminal like this.
        return b""


# What options become


def passed(monkeypatch, *arguments: str) -> dict:
    """Return the options that `hfzarr.reshard` gets."""
    seen: dict = {}

    def record(source: str, target: str, **options: object) -> str:
        seen.update(options, source=source, target=target)
        return "done"

    monkeypatch.setattr(face, "reshard", record)
    monkeypatch.setattr(face, "plan_reshard", lambda *_, **__: "plan")
    assert main(["reshard", "a", "b", *arguments]) == 0
    return seen


def test_defaults_are_those_of_the_function(monkeypatch):
    import inspect

    named = inspect.signature(hfzarr.reshard).parameters
    found = passed(monkeypatch)
    assert (found.pop("source"), found.pop("target")) == ("a", "b")
    defaults = {name: named[name].default for name in found}
    # Spelled otherwise, and the same.
    defaults |= {"client": "threads", "drop_variables": [], "max_memory": "512MiB"}
    assert found == defaults


@pytest.mark.parametrize(
    ("arguments", "name", "wanted"),
    [
        (["--inner-chunk", "z=64,y=128,x=-1"], "inner_chunk", {"z": 64, "y": 128, "x": -1}),
        (["--inner-chunk", " y = 4 , x = 4 "], "inner_chunk", {"y": 4, "x": 4}),
        (["--inner-chunk", "64,128,128"], "inner_chunk", (64, 128, 128)),
        (["--inner-chunk=-1,8"], "inner_chunk", (-1, 8)),
        (["--inner-chunk", "64"], "inner_chunk", (64,)),
        (["--shard", "auto"], "shard", "auto"),
        (["--shard", "none"], "shard", None),
        (["--shard", "256MiB"], "shard", "256MiB"),
        (["--shard", "1000000"], "shard", "1000000"),
        (["--shard", "z=512"], "shard", {"z": 512}),
        (["--shard", "512,512"], "shard", (512, 512)),
        (["--shard", "512,"], "shard", (512,)),
        (["--codecs", "zstd:5"], "codecs", "zstd:5"),
        (["--codecs", '{"name": "zstd"}'], "codecs", {"name": "zstd"}),
        (["--codecs", '["bytes", {"name": "zstd"}]'], "codecs", ["bytes", {"name": "zstd"}]),
        (["--max-memory", "2 GB"], "max_memory", "2 GB"),
        (["--no-resume"], "resume", False),
        (["--verify", "full"], "verify", "full"),
        (["--verify", "none"], "verify", False),
        (["--quiet"], "progress", False),
        (["--group", "labels"], "group", "labels"),
        (["--drop", "a", "b", "--drop", "c"], "drop_variables", ["a", "b", "c"]),
        (["--client", "serial"], "client", "serial"),
        (["--client", "dask"], "client", "dask"),
        (["--source-options", '{"anon": true}'], "storage_options", {"anon": True}),
        (["--target-options", '{"key": "x"}'], "target_options", {"key": "x"}),
    ],
)
def test_options_are_passed_on(arguments, name, wanted, monkeypatch):
    assert passed(monkeypatch, *arguments)[name] == wanted


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required: SRC, DST"),
        (["a"], "required: DST"),
        (["a", "b", "--inner-chunk", "z=big"], "wanted lengths such as"),
        (["a", "b", "--inner-chunk", "z=1,2"], "wanted lengths such as"),
        (["a", "b", "--inner-chunk", ","], "wanted lengths such as"),
        (["a", "b", "--shard", "z="], "wanted lengths such as"),
        (["a", "b", "--codecs", "[zstd"], "is no JSON"),
        (["a", "b", "--source-options", "anon"], "is no JSON"),
        (["a", "b", "--target-options", "[1]"], "wanted a JSON object"),
        (["a", "b", "--verify", "all"], "'all' is not one of"),
        (["a", "b", "--client", "cluster"], "got 'cluster'"),
        (["a", "b", "--client", "local:0"], "got 'local:0'"),
        (["a", "b", "--client", "local:"], "got 'local:'"),
    ],
)
def test_wrong_arguments_exit_with_2(arguments, said, capsys):
    with pytest.raises(SystemExit) as error:
        main(["reshard", *arguments])
    assert error.value.code == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert "usage: hfzarr reshard SRC DST [options]" in errors


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as error:
        main(["reshard", "--help"])
    assert error.value.code == 0
    said = capsys.readouterr().out
    for option in (
        "inner-chunk", "shard", "codecs", "max-memory", "no-resume", "verify", "client",
        "dry-run", "group", "drop", "quiet", "source-options", "target-options",
    ):  # fmt: skip
        assert f"--{option}" in said
    assert "z=64,y=128,x=128" in said


# What is written


def test_shapes_codecs_and_what_is_left_out(source, target, capsys):
    options = ["--inner-chunk", "z=2,y=8,x=8", "--shard", "z=4,y=8,x=-1", "--codecs", "zstd:5"]
    assert reshard(source, target, *options, "--drop", "times", "--verify", "full") == 0
    array = image_of(target)
    assert (array.chunks, array.shards) == ((2, 8, 8), (4, 8, 16))
    assert array.compressors[0].to_dict()["configuration"]["level"] == 5
    assert "times" not in zarr.open_group(target, mode="r")
    assert "verified: all" in capsys.readouterr().out


def test_a_node_of_the_source(source, target):
    assert reshard(source, target, "--group", "image", "--quiet") == 0
    np.testing.assert_array_equal(zarr.open_array(target, mode="r")[...], PIXELS)


@pytest.mark.parametrize("client", ["serial", "threads", "dask"])
def test_where_it_runs_in_this_process(client, source, target):
    assert reshard(source, target, "--client", client, "--quiet") == 0
    image_of(target)


def test_a_cluster_of_its_own(source, target):
    pytest.importorskip("distributed")
    done = subprocess.run(
        [*COMMAND, source, target, "--client", "local:2"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "became 5" in done.stdout
    image_of(target)


def test_the_address_of_a_scheduler(source, target, capsys):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        assert reshard(source, target, "--client", cluster.scheduler_address) == 0
    assert "became 5" in capsys.readouterr().out
    image_of(target)


# How it ends


def fails(capsys, *arguments: object) -> str:
    """Run a command that fails; return the one line that it says."""
    assert reshard(*arguments) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert errors.startswith("hfzarr: ")
    return errors


def test_errors_are_one_line(source, target, tmp_path: Path, capsys):
    assert "none.zarr" in fails(capsys, tmp_path / "none.zarr", target)
    assert "'q'" in fails(capsys, source, target, "--inner-chunk", "q=4")
    assert "max_memory" in fails(capsys, source, target, "--max-memory", "lots")
    assert "zip" in fails(capsys, source, tmp_path / "b.zarr.zip")
    assert "lie in each other" in fails(capsys, source, source / "inside")
    assert not target.exists()
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    assert "not empty" in fails(capsys, source, target)
    assert [path.name for path in target.iterdir()] == ["notes.txt"]


def test_no_scheduler_answers(source, target, capsys):
    distributed = pytest.importorskip("distributed")
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "200ms"}):
        said = fails(capsys, source, target, "--client", "tcp://127.0.0.1:9")
    assert "no scheduler answers at 'tcp://127.0.0.1:9'" in said
    assert not target.exists()
    assert distributed.client._get_global_client() is None


def test_without_distributed_it_says_what_to_install(source, target, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install distributed" in fails(capsys, source, target, "--client", "local:2")


SLOW = """
import sys, time
from hfzarr.faces.cli import main
from hfzarr.run.repack import Repack
run = Repack.run
def slowly(self, step, number):
    print("begun", flush=True)
    time.sleep(0.2)
    return run(self, step, number)
Repack.run = slowly
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_a_run_that_was_stopped_goes_on_with_the_same_command(source, target, capsys):
    options = ["--shard", "z=1,y=4,x=4", "--inner-chunk", "z=1,y=4,x=4", "--client", "serial"]
    running = subprocess.Popen(
        [sys.executable, "-c", SLOW, "reshard", source, target, *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    begun = 0
    while begun < 4 and (line := running.stdout.readline()):
        begun += line == "begun\n"
    time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == cli.STOPPED
    assert errors == "hfzarr: stopped; the same command goes on where it was\n"
    assert not (target / "zarr.json").exists()
    assert reshard(source, target, *options) == 0
    assert "done before" in capsys.readouterr().out
    image_of(target)


def test_an_unfinished_run_for_something_else(source, target, capsys):
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hfzarr.reshard(source, target, inner_chunk={"z": 2}, progress=stop)
    said = fails(capsys, source, target)
    assert "inner_chunk" in said
    assert reshard(source, target, "--no-resume", "--quiet") == 0
    assert image_of(target).chunks == (1, 4, 4)


def test_the_command_starts_without_heavy_libraries():
    code = """
import contextlib, sys
from hfzarr.faces.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):
    main(["reshard", "--help"])
print([name for name in ("zarr", "dask", "distributed", "tqdm") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
