"""A real browser without a window, driven through the DevTools protocol."""

import asyncio
import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",  # It refuses to run as root otherwise, and only ever sees our own page.
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-proxy-server",
    "--remote-debugging-port=0",
)
SLOWEST_SECONDS = 20.0
KEYS: Mapping[str, Mapping[str, Any]] = {
    "Tab": {"windowsVirtualKeyCode": 9},
    "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"},
    "Escape": {"windowsVirtualKeyCode": 27},
}
CONTROL = 2


def find_browser() -> str | None:
    """Return the path of a browser that speaks the protocol, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


# What Chromium says of a page that goes away while it is asked.
LEFT = "Inspected target navigated or closed"


class PageLeft(Exception):
    """The page that was asked is not there any more."""


@dataclass
class Tab:
    """One open page. ``complaints`` is what it wrote as errors: exceptions, and all that a policy forbade."""

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def call(self, method: str, **parameters: Any) -> Any:
        """Send a command and return its result; events that come in between are noted."""
        number = next(self._numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self.socket.receive_json(timeout=SLOWEST_SECONDS)
            if message.get("id") == number:
                if LEFT in str(message.get("error")):
                    raise PageLeft
                assert "error" not in message, f"{method}: {message}"
                return message["result"]
            self._note(message)

    async def run(self, script: str) -> Any:
        """Evaluate an expression in the page and return its value."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, f"{script}: {found['exceptionDetails']}"
        return found["result"].get("value")

    async def _run_here(self, script: str) -> Any:
        """Evaluate an expression in the page; one that is just being left says nothing."""
        with contextlib.suppress(PageLeft):
            return await self.run(script)

    async def until(self, script: str, seconds: float = SLOWEST_SECONDS) -> Any:
        """Wait until an expression is true in the page."""
        deadline = time.monotonic() + seconds
        while not (found := await self._run_here(script)):
            if time.monotonic() > deadline:
                shown = await self._run_here("document.body.innerText")
                raise AssertionError(f"never true: {script}\nThe page shows:\n{shown}")
            await asyncio.sleep(0.02)
        return found

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def press(self, key: str, modifiers: int = 0) -> None:
        described = {"key": key, "code": key, "modifiers": modifiers, **KEYS[key]}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **described)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **described)

    async def type(self, text: str) -> None:
        """Put a text where the focus is, as a person would."""
        await self.call("Input.insertText", text=text)

    async def nameless_controls(self) -> list[str]:
        """Return the controls that a screen reader would have no name for."""
        tree = (await self.call("Accessibility.getFullAXTree"))["nodes"]
        controls = {"button", "link", "textbox", "combobox", "list", "dialog"}
        return [
            node["role"]["value"]
            for node in tree
            if node.get("role", {}).get("value") in controls and not node.get("name", {}).get("value")
        ]

    def _note(self, message: Mapping[str, Any]) -> None:
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(message["params"]["exceptionDetails"]))
        # An answer with an error status is what some of these tests are about.
        entry = message.get("params", {}).get("entry", {})
        if entry.get("level") == "error" and entry.get("source") != "network":
            self.complaints.append(entry["text"])


@contextlib.asynccontextmanager
async def open_browser(program: str, home: Path, width: int, height: int) -> AsyncIterator[Tab]:
    """Start a browser with an empty profile in ``home`` and end it with the block."""
    arguments = [*QUIET, f"--user-data-dir={home}", "about:blank"]
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        async with aiohttp.ClientSession() as session:
            address = await _address_of_page(session, process, home / "DevToolsActivePort")
            async with session.ws_connect(address, max_msg_size=0) as socket:
                tab = Tab(socket)
                for domain in ("Page", "Runtime", "Log", "Accessibility"):
                    await tab.call(f"{domain}.enable")
                # A window is never as narrow as a phone.
                screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
                await tab.call("Emulation.setDeviceMetricsOverride", **screen)
                yield tab
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _address_of_page(
    session: aiohttp.ClientSession, process: "subprocess.Popen[bytes]", port_file: Path
) -> str:
    deadline = time.monotonic() + SLOWEST_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(FileNotFoundError, IndexError, aiohttp.ClientError):
            port = port_file.read_text().split()[0]
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = [found for found in await answer.json() if found["type"] == "page"]
            return str(pages[0]["webSocketDebuggerUrl"])
        await asyncio.sleep(0.02)
    raise TimeoutError(f"The browser opened no page; exit status {process.poll()}.")
