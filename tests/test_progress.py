"""How far a run is: as numbers, as a bar on a terminal, as lines in a log, in a notebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

import hfzarr
from hfzarr.faces import progress as module
from hfzarr.faces.progress import Progress, tracking

RUN = """
import time
from contextlib import ExitStack
from hfzarr.faces.progress import tracking

with ExitStack() as stack:
    tracker = stack.enter_context(tracking(True, "reshard", total=10, nbytes=10**9, before=3))
    for _ in range(7):
        time.sleep(0.05)
        tracker.add(1, 10 * 2**20)
    tracker = stack.enter_context(tracking(True, "verify", total=4, nbytes=10**9))
    for _ in range(4):
        time.sleep(0.05)
        tracker.add(1)
print("end")
"""


# Numbers


def test_time_left_counts_what_this_run_did():
    now = Progress(stage="reshard", done=95, before=90, total=100, seconds=10.0)
    assert now.seconds_left == 10.0
    assert (
        Progress(stage="reshard", done=90, before=90, total=100, seconds=1.0).seconds_left is None
    )
    assert Progress(stage="reshard", done=100, before=100, total=100).seconds_left == 0.0
    assert Progress(stage="reshard", done=25, total=100, seconds=5.0).seconds_left == 15.0


def test_it_reads_as_a_line():
    now = Progress(stage="reshard", done=1500, total=3000, bytes_written=3 * 2**30, seconds=3725.0)
    assert str(now) == "reshard: 1,500 of 3,000 shards, 3.0 GiB written, 1:02:05 left"
    assert str(Progress(stage="verify", total=8)) == "verify: 0 of 8 parts"


def test_a_function_is_called_with_each_step():
    seen: list[Progress] = []
    with tracking(seen.append, "reshard", total=4, nbytes=1000, before=1) as tracker:
        for _ in range(3):
            tracker.add(1, 10)
    assert [(now.done, now.before, now.bytes_written) for now in seen] == [
        (2, 1, 10), (3, 1, 20), (4, 1, 30),
    ]  # fmt: skip
    assert {(now.stage, now.total, now.bytes_total) for now in seen} == {("reshard", 4, 1000)}
    assert [now.seconds for now in seen] == sorted(now.seconds for now in seen)
    assert seen[-1].seconds_left == 0.0


def test_threads_may_add():
    seen: list[int] = []
    with tracking(lambda now: seen.append(now.done), "reshard", total=400, nbytes=0) as tracker:
        threads = [
            threading.Thread(target=lambda: [tracker.add(1) for _ in range(100)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == list(range(1, 401))


def test_what_the_function_raises_ends_the_run(tmp_path: Path):
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros((4, 4)) + 1, chunks=(1, 4))

    def stop(now: Progress) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        hfzarr.reshard(tmp_path / "a.zarr", tmp_path / "b.zarr", progress=stop)
    assert not (tmp_path / "b.zarr" / "zarr.json").exists()


# Logs


@pytest.mark.parametrize("show", [True, False])
def test_a_short_run_writes_nothing_to_a_log(show, capsys):
    with tracking(show, "reshard", total=2, nbytes=0) as tracker:
        tracker.add(2, 10)
    assert capsys.readouterr() == ("", "")


def test_a_long_run_writes_a_line_now_and_then(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with tracking(True, "reshard", total=10, nbytes=0) as tracker:
        for _ in range(10):
            now[0] += 12.0
            tracker.add(1, 2**20)
    said, errors = capsys.readouterr()
    assert said == ""
    assert errors.splitlines() == [
        "reshard: 3 of 10 shards, 3.0 MiB written, 0:01:24 left",
        "reshard: 6 of 10 shards, 6.0 MiB written, 0:00:48 left",
        "reshard: 9 of 10 shards, 9.0 MiB written, 0:00:12 left",
        "reshard: 10 of 10 shards, 10.0 MiB written, 0:00:00 left",
    ]


def test_without_a_stderr_nothing_fails(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with tracking(True, "reshard", total=2, nbytes=0) as tracker:
        tracker.add(2, 10)


def run_piped(code: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_pipe_gets_no_bar():
    assert run_piped(RUN) == ("end\n", "")


# Terminals


def run_on_terminal(code: str, columns: int, rows: int) -> list[str]:
    """Run a program on a terminal of some size; return its lines, as they were drawn in turn."""
    pty = pytest.importorskip("pty", reason="needs pseudo-terminals")
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    env["PYTHONIOENCODING"] = "utf-8"
    running = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs, stdout=theirs, stderr=theirs, env=env, close_fds=True,
    )  # fmt: skip
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux ends a terminal like this.
            break
        if not part:
            break
        text += part
    os.close(ours)
    assert running.wait(60) == 0, text.decode()
    return text.decode().split("\n")


@pytest.mark.parametrize(("columns", "rows"), [(100, 30), (80, 24), (0, 0)])
def test_a_terminal_shows_shards_bytes_and_time_left(columns, rows):
    reshard, verify, end, rest = [line.rstrip("\r") for line in run_on_terminal(RUN, columns, rows)]
    assert (end, rest) == ("end", "")
    first, *_, last = reshard.split("\r")[1:]
    assert first.startswith("reshard:  30%|")
    assert "3/10 shards" in first
    assert last.startswith("reshard: 100%|")
    assert "10/10 shards" in last
    assert "70.0 MiB" in last
    assert "MiB/s]" in last
    assert "4/4 parts" in verify.split("\r")[-1]
    drawn = [part for line in (reshard, verify) for part in line.split("\r")]
    assert max(len(part) for part in drawn) <= (columns or 80)


def test_a_stage_that_was_done_before_shows_a_full_bar():
    code = """
from hfzarr.faces.progress import tracking
with tracking(True, "reshard", total=5, nbytes=1, before=5):
    print("inside")
"""
    lines = run_on_terminal(code, 100, 30)
    assert "5/5 shards" in lines[0]
    assert lines[1].startswith("inside")


def test_a_run_that_fails_leaves_the_bar_and_then_the_error():
    code = """
import sys
from hfzarr.faces.progress import tracking
try:
    with tracking(True, "reshard", total=5, nbytes=1) as tracker:
        tracker.add(2)
        raise ValueError
except ValueError:
    print("failed")
"""
    lines = run_on_terminal(code, 100, 30)
    assert "2/5 shards" in lines[0]
    assert lines[1].startswith("failed")


# Notebooks

PRETEND = """
import sys, types
ipython = types.ModuleType("IPython")
shell = types.SimpleNamespace(config={"IPKernelApp": {}})
ipython.get_ipython = lambda: shell
sys.modules["IPython"] = ipython
sys.modules["ipywidgets"] = None
"""


def test_a_notebook_without_widgets_gets_a_bar_of_text_and_no_warning():
    said, errors = run_piped(PRETEND + RUN)
    assert said == "end\n"
    assert "Warning" not in errors
    assert "10/10 shards" in errors
    assert "4/4 parts" in errors
    assert "70.0 MiB" in errors


def test_an_interactive_shell_without_a_kernel_is_no_notebook():
    assert run_piped(PRETEND.replace("IPKernelApp", "TerminalIPythonApp") + RUN) == ("end\n", "")


def test_a_real_kernel(tmp_path: Path):
    """A cell that reshards shows a bar, prints the result, and raises nothing."""
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    manager = pytest.importorskip("jupyter_client.manager", reason="no jupyter_client")
    zarr.create_array(tmp_path / "a.zarr", data=np.ones((8, 8)), chunks=(1, 4))
    code = f"""
import warnings
warnings.simplefilter("error")
import hfzarr
hfzarr.reshard({str(tmp_path / "a.zarr")!r}, {str(tmp_path / "b.zarr")!r})
"""
    kernels, client = manager.start_new_kernel(kernel_name="python3")
    try:
        messages: list[dict] = []
        reply = client.execute_interactive(code, output_hook=messages.append, timeout=60)
    finally:
        client.stop_channels()
        kernels.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok", reply["content"]
    said = json.dumps([message["content"] for message in messages])
    assert "became 2" in said
    assert "reshard" in said
    assert "Traceback" not in said
