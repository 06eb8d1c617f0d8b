"""Chromium without a window, driven by its DevTools protocol over pipes: no driver is needed."""

import base64
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waiting import patient, wait_until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


class Browser:
    """One tab, with the requests and complaints since it was last opened."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive, self._buffer, self._number, self._session = send, receive, b"", 0, ""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            told = self._read()
            if told.get("id") == self._number:
                assert "error" not in told, told
                return dict(told["result"])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            limit = patient(60)
            assert select.select([self._receive], [], [], limit)[0], (
                f"the browser has said nothing for {limit:g} s"
            )
            more = os.read(self._receive, 1 << 20)
            assert more, "the browser has gone"
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\0", 1)
        told = json.loads(line)
        about = told.get("params", {})
        if told.get("method") == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif told.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(about))
        return dict(told)

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        self.requests.clear()
        self.complaints.clear()
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Page.navigate", url=page.as_uri())
        wait_until(lambda: self.value("document.readyState") == "complete", f"{page.name} is loaded")
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")

    def value(self, expression: str) -> Any:
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def picture(self) -> bytes:
        """The whole page as a PNG file."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        return base64.b64decode(
            self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        )

    def printed(self) -> bytes:
        """The page as a PDF file."""
        return base64.b64decode(
            self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"]
        )


@contextmanager
def browser(home: Path) -> Iterator[Browser]:
    """Start Chromium with a profile of its own in a folder, and end it."""
    to_read, to_send = os.pipe()
    from_read, from_send = os.pipe()
    assert CHROMIUM
    # It reads messages from descriptor 3 and writes to 4: the shell puts the pipes there.
    command = f'exec "$@" 3<&{to_read} 4>&{from_send}'
    process = subprocess.Popen(
        ["bash", "-c", command, "bash", CHROMIUM, *_FLAGS, f"--user-data-dir={home}"],
        pass_fds=(to_read, from_send), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_read)
    os.close(from_send)
    try:
        yield Browser(to_send, from_read)
    finally:
        os.close(to_send)
        os.close(from_read)
        process.terminate()
        process.wait(patient(60))
