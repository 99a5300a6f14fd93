"""A page in headless Chromium, spoken to over the DevTools protocol on two pipes. No package is needed for it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless_shell")


def browser_path() -> str | None:
    """The browser to test with: the one that RESTRL_CHROMIUM names, or the first of the usual names."""
    named = os.environ.get("RESTRL_CHROMIUM")
    return named or next((path for name in BROWSERS if (path := shutil.which(name))), None)


class Browser:
    """One browser with one page; a context manager. `log` collects console messages and uncaught errors."""

    def __init__(self, binary: str, profile: Path, size: tuple[int, int] = (1280, 800)) -> None:
        to_child, self._out = os.pipe()
        self._in, from_child = os.pipe()

        def connect() -> None:
            # Chromium reads commands from 3 and writes answers to 4; go by way of high numbers, which are free.
            os.dup2(to_child, 103)
            os.dup2(from_child, 104)
            os.dup2(103, 3)
            os.dup2(104, 4)

        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        flags += ["--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update"]
        self._process = subprocess.Popen(
            [binary, *flags, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", "about:blank"],
            pass_fds=(3, 4),
            preexec_fn=connect,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_child)
        os.close(from_child)
        self._buffer, self._next, self._session = b"", 0, None
        self._events: list[dict[str, Any]] = []
        self.log: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, timeout_s: float = 60.0, **params: Any) -> dict[str, Any]:
        """Sends a command and returns its result; events that come meanwhile are kept."""
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(timeout_s)
            if answer.get("id") == self._next:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._keep(answer)

    def open(self, url: str) -> None:
        """Loads a page and waits for its load event."""
        self._events.clear()
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._keep(self._read(60.0))

    def run(self, expression: str) -> Any:
        """Evaluates an expression, waits for it if it is a promise, and returns its value."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def requests(self) -> list[str]:
        """Addresses that the page asked for since it was opened."""
        return [e["params"]["request"]["url"] for e in self._events if e["method"] == "Network.requestWillBeSent"]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Sends a mouse event: mousePressed, mouseReleased, mouseMoved or mouseWheel."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def key(self, key: str) -> None:
        """Presses a key by its name."""
        text = {"text": key} if len(key) == 1 else {}
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=codes.get(key, 0), **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=codes.get(key, 0))

    def picture(self, path: Path) -> None:
        """Saves a screenshot."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _keep(self, message: dict[str, Any]) -> None:
        self._events.append(message)
        params = message.get("params", {})
        if message.get("method") == "Runtime.consoleAPICalled":
            self.log.append(" ".join(str(item.get("value", item.get("description"))) for item in params["args"]))
        elif message.get("method") == "Runtime.exceptionThrown":
            self.log.append(json.dumps(params["exceptionDetails"])[:1000])
        elif message.get("method") == "Log.entryAdded":
            self.log.append(params["entry"]["text"])

    def _read(self, timeout_s: float) -> dict[str, Any]:
        end = time.monotonic() + timeout_s
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            block = os.read(self._in, 1 << 16) if ready else b""
            if not block:
                raise RuntimeError("the browser ended" if ready else f"the browser said nothing for {timeout_s} s")
            self._buffer += block
        raw, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(raw)
        return message
