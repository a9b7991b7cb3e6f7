"""A real headless Chromium, driven over its DevTools protocol: what a page is like to its reader.

Only what tests of pages need: open a file, evaluate script, press keys, choose light or dark, take
a screenshot, and know every request and every message of the console.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ABSENT = "no headless browser: install chromium"
# Debian's runs as root here, and a container has little shared memory.
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-default-apps", "--disable-extensions", "--remote-debugging-port=0",
    "--window-size=1100,900",
)  # fmt: skip
KEYS = {
    "Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, ""), "ArrowRight": (39, ""),
    "ArrowLeft": (37, ""), "ArrowDown": (40, ""), "/": (191, "/"),
}  # fmt: skip


def found() -> str | None:
    """Return the path of a browser, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, loop: Any) -> None:
        self._socket, self._loop = socket, loop
        self._number = 0
        self.requests: list[str] = []
        self.messages: list[str] = []

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        return self._loop.run_until_complete(asyncio.wait_for(self._send(method, params), 30))

    async def _send(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        wanted = self._number
        await self._socket.send_json({"id": wanted, "method": method, "params": params})
        while True:
            got = await self._socket.receive_json()
            if got.get("id") == wanted:
                assert "error" not in got, got["error"]
                return dict(got["result"])
            self._note(got)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.messages.append(str(params["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded":
            self.messages.append(params["entry"]["text"])
        elif event["method"] == "Runtime.consoleAPICalled":
            self.messages.append(str(params["args"]))

    def open(self, path: Path, *, scheme: str = "light", script: bool = True) -> None:
        """Open a file, as a reader with light or dark windows, with or without script."""
        for domain in ("Network", "Runtime", "Log", "Page"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setScriptExecutionDisabled", value=not script)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)
        self.send("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def get(self, expression: str) -> Any:
        """Return what an expression is worth in the page."""
        got = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def wait(self, expression: str, seconds: float = 10) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.get(expression):
            assert time.monotonic() < end, f"not so in {seconds} s: {expression}"
            time.sleep(0.02)

    def press(self, *names: str) -> None:
        """Press keys, one after the other."""
        for name in names:
            code, text = KEYS[name]
            key = {"key": name, "code": name, "windowsVirtualKeyCode": code}
            kind = "keyDown" if text else "rawKeyDown"
            self.send("Input.dispatchKeyEvent", type=kind, text=text, **key)
            self.send("Input.dispatchKeyEvent", type="keyUp", **key)

    def write(self, text: str) -> None:
        """Type text where the focus is."""
        self.send("Input.insertText", text=text)

    def picture(self) -> bytes:
        """Return a screenshot, a PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot")["data"])


@contextmanager
def running_page() -> Iterator[Page]:
    """Run a browser of its own, and give its page; skip where there is none."""
    program = found()
    if program is None:
        pytest.skip(ABSENT)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            port = _port(Path(folder), process)
            with _connected(port) as page:
                yield page
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def _port(folder: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError, IndexError, ValueError):
            return int((folder / "DevToolsActivePort").read_text().splitlines()[0])
        time.sleep(0.05)
    raise RuntimeError(f"the browser did not start; it ended with {process.poll()}")


@contextmanager
def _connected(port: int) -> Iterator[Page]:
    loop = asyncio.new_event_loop()
    session = loop.run_until_complete(_session())
    try:
        socket = loop.run_until_complete(_socket(session, port))
        yield Page(socket, loop)
        loop.run_until_complete(socket.close())
    finally:
        loop.run_until_complete(session.close())
        loop.close()


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


async def _socket(session: aiohttp.ClientSession, port: int) -> Any:
    async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
        pages = [one for one in await response.json() if one["type"] == "page"]
    return await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
