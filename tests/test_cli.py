"""The ``hfzarr`` command as a whole: what it promises, how it ends, what it keeps to itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commandline import PYTHON, a_volume, an_image, ask, facts, fails, run, told  # noqa: F401 (fixtures)
from hfzarr.faces.cli import NO, PIPE, STOPPED, TROUBLE, main
from hfzarr.faces.cli.program import PROGRAM
from rawstores import write_array, write_group

COMMANDS = list(PROGRAM.commands)
SECRET = "wrpx-7f3a-secret"


# --- the program ----------------------------------------------------------------------------------


def test_it_has_the_commands_that_it_promises() -> None:
    assert set(COMMANDS) == {
        "info", "tree", "scan", "thumbnail", "reshard", "push", "diagnose", "explain", "validate",
        "demo", "gallery",
    }  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_each_help_has_examples_and_fits_a_terminal(
    name: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main([name, flag])
    assert done.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: hfzarr {name}")
    assert f"Examples:\n  hfzarr {name}" in said
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize("name", COMMANDS)
def test_each_example_is_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command line is read; what it would do is not done."""
    import shlex

    import click

    monkeypatch.setattr(click.Command, "invoke", lambda self, ctx: 0)
    command = PROGRAM.commands[name]
    for example in command.examples:  # type: ignore[attr-defined]
        line = example.split(" > ")[0]
        with command.make_context(name, shlex.split(line)):
            pass


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("demo",)])
def test_each_command_that_tells_facts_speaks_json(name: str) -> None:
    assert "as_json" in [one.name for one in PROGRAM.commands[name].params]


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    assert done.value.code == 0
    said = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n  {name} " not in said] == []
    assert "Exit codes" in said


def test_a_bare_command_helps(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([])
    assert done.value.code == TROUBLE
    said, errors = capsys.readouterr()
    assert said == ""
    assert "Commands:" in errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inf", "a"], "No such command 'inf'"),
        (["info"], "required: TARGET"),
        (["reshard", "a"], "required: DST"),
        (["info", "a", "--nope"], "--nope"),
        (["info", "a", "b"], "unexpected extra argument"),
        (["tree", "a", "--depth", "x"], "'x' is not a valid integer"),
        (["explain", "a", "--size", "256"], "wanted lengths by dimension"),
        (["explain", "a", "--size", "y=,x=2"], "wanted lengths by dimension"),
        (["info", "a", "--storage-options", "[1]"], "wanted a JSON object"),
        (["thumbnail", "a"], "-o"),
        (["thumbnail", "a", "-o", "a.png", "--projection", "min"], "'min' is not one of"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == TROUBLE
    usage, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: hfzarr")
    assert error.startswith("hfzarr: ")
    assert said in error
    assert "--help tells more" in error


@pytest.mark.parametrize("module", ["hfzarr", "hfzarr.faces.cli"])
def test_it_runs_as_a_module(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"hfzarr \S+\n", done.stdout)


def test_the_program_is_light() -> None:
    code = (
        "import sys, hfzarr.faces.cli; heavy = ('zarr', 'dask', 'datasets', 'PIL', "
        "'huggingface_hub', 'aiohttp', 'tqdm', 'fsspec', 'distributed'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["info"], ["info", "--json"], ["tree"], ["diagnose"], ["validate"], ["explain"],
        ["thumbnail", "-o", "a.png"], ["scan"], ["reshard", "b.zarr"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_store_that_is_not_there(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = arguments
    assert "none.zarr" in fails(capsys, name, tmp_path / "none.zarr", *rest)


def test_a_folder_that_is_not_there(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(capsys, "thumbnail", image, "-o", image.parent / "none" / "a.png")
    assert "none/a.png': No such file or directory. Check the path" in said


def test_a_traceback_on_demand(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments in (["--debug", "info", "none.zarr"], ["info", "none.zarr", "--debug"]):
        ask(*arguments, code=TROUBLE)
        errors = capsys.readouterr().err.splitlines()
        assert errors[0].startswith("Traceback")
        assert errors[-1].startswith("hfzarr: ")


def test_what_was_not_foreseen_is_a_line_too(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("hfzarr.faces.outline.outline", fail)
    assert "ZeroDivisionError: by zero (this was not foreseen; --debug" in fails(
        capsys, "tree", image
    )


def test_a_file_that_cannot_be_written(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(capsys, "thumbnail", volume, "-o", volume / "no" / "folder" / "a.png")
    assert "a.png" in said


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_ctrl_c_is_told_in_a_line(image: Path) -> None:
    code = (
        "import sys, time, hfzarr.faces.outline as o\n"
        "from hfzarr.faces.cli import main\n"
        "def wait(*_, **__):\n    print('begun', flush=True)\n    time.sleep(30)\n"
        "o.outline = wait\n"
        "sys.exit(main())"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", code, "tree", str(image)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert (running.returncode, errors) == (STOPPED, "hfzarr: stopped\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes as Unix has them")
@pytest.mark.parametrize(
    "arguments", [["info"], ["tree", "--json"], ["reshard", "--help"]], ids=" ".join
)
def test_a_pipe_that_is_closed_is_left_quietly(arguments: list[str], image: Path) -> None:
    name, *rest = arguments
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*PYTHON, name, str(image), *rest], stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (PIPE, b"")


def test_output_in_ascii(tmp_path: Path) -> None:
    store = write_group(tmp_path / "a.zarr", {}, 3)
    write_array(store / "µm", (4,), 3)
    done = run("tree", store, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xb5m" in done.stdout


def completes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **variables: str
) -> str:
    """Return what a shell is told that asks for completion."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        main([])
    assert done.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_shells_get_a_script_that_completes(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = completes(monkeypatch, capsys, _HFZARR_COMPLETE=f"{shell}_source")
    assert "_HFZARR_COMPLETE" in said


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(tmp_path: Path) -> None:
    """The script that bash is given, in a real bash, up to the word that it fills in."""
    program = Path(sys.executable).with_name("hfzarr")
    if not program.exists():
        pytest.skip("the command is not installed beside this Python")
    script = (
        'eval "$(_HFZARR_COMPLETE=bash_source hfzarr)"; COMP_WORDS=(hfzarr val); COMP_CWORD=1; '
        '_hfzarr_completion hfzarr val hfzarr; echo "${COMPREPLY[@]}"'
    )
    env = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, env=env, cwd=tmp_path
    )
    assert done.stdout == "validate\n", done.stderr


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("hfzarr val", "plain,validate"),
        ("hfzarr tree --de", "plain,--depth"),
        ("hfzarr info a", "file,a"),
        ("hfzarr reshard a b", "file,b"),
        ("hfzarr gallery a -o p", "file,p"),
        ("hfzarr thumbnail a --projection m", "plain,max"),
    ],
)
def test_words_and_paths_are_completed(
    words: str, wanted: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = str(len(words.split()) - 1)
    said = completes(
        monkeypatch, capsys, _HFZARR_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=last
    )
    assert wanted in said.splitlines()


# --- what a store can do to a terminal ------------------------------------------------------------


def test_names_and_attributes_do_not_reach_the_terminal_raw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "a\x1b[2Jb\x07\u202ec"
    store = write_group(tmp_path / "a.zarr", {"title": evil, "Conventions": evil}, 3)
    write_array(store / "x\x1b[31m\u202ey", (4,), 3, dims=["x"])
    for name in ("info", "tree", "diagnose", "validate"):
        said = told(capsys, name, store)
        assert not set(said) & {"\x1b", "\x07", "\u202e"}, name
    assert "\\x1b[2J" in told(capsys, "info", store)
    assert facts(capsys, "info", store)["attrs"]["title"] == evil, "JSON has its own escapes"


def test_secrets_are_not_told(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = json.dumps({"token": SECRET, "client_kwargs": {"headers": {"x": SECRET}}})
    url = f"http://me:{SECRET}@127.0.0.1:9/a.zarr?sig={SECRET}"
    for name in ("info", "tree", "diagnose", "validate", "explain"):
        for debug in ([], ["--debug"]):
            main([name, url, "--storage-options", options, *debug])
            said, errors = capsys.readouterr()
            assert SECRET not in said + errors, name
    with pytest.raises(SystemExit):
        main(["info", "a", "--storage-options", f"{{'token': '{SECRET}'}}"])
    assert SECRET not in capsys.readouterr().err


def test_a_secret_may_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--storage-options", '{"token": "env:HFZARR_TEST_TOKEN"}']
    monkeypatch.delenv("HFZARR_TEST_TOKEN", raising=False)
    assert "HFZARR_TEST_TOKEN" in fails(capsys, "tree", "memory://a.zarr", *options)


def test_there_is_no_option_for_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    for command in PROGRAM.commands.values():
        assert not any("token" in name for one in command.params for name in one.opts)
    with pytest.raises(SystemExit):
        main(["push", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "hf auth login" in said
    assert "HF_TOKEN" in said


def test_codes_differ() -> None:
    assert sorted({0, NO, TROUBLE, STOPPED, PIPE}) == [0, 1, 2, 130, 141]
