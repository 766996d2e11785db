"""Pages as people see them: headless Chromium over its debugging pipe. Tests that use it are skipped where there is no Chromium."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from pilvi.testing.server import eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1200,800",
)  # fmt: skip


class Browser:
    """One page of one browser with a profile of its own. A context manager."""

    CONTROL = 2
    """A modifier of `press`."""

    def __enter__(self) -> Browser:
        assert CHROMIUM is not None
        self._profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        # The pipe is file 3 (to the browser) and file 4 (from it).
        command = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'
        options = (*_OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={self._profile.name}", "about:blank")
        self._process = subprocess.Popen(
            ["sh", "-c", command, CHROMIUM, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._number = 0
        self._session = ""
        self._waiting = b""
        targets = self.tell("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.tell("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        return self

    def __exit__(self, *_: object) -> None:
        self._session = ""
        self.tell("Browser.close")
        self._process.wait(20)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._profile.cleanup()

    def tell(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its result."""
        assert self._process.stdin is not None
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return dict(answer["result"])

    def open(self, url: str) -> None:
        self.tell("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """What a script gives on the page, promises awaited."""
        found = self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str, within_s: float = 60.0) -> None:
        """Wait until a script gives something true."""
        eventually(lambda: bool(self.value(script)), within_s=within_s, every_s=0.2)

    def press(self, code: str, key: str, modifiers: int = 0) -> None:
        """One key, as it is called on a keyboard (code) and as what it means (key)."""
        number = {"Enter": 13, "Backquote": 192, "Escape": 27}.get(code, ord(key[0].upper()))
        text = {"text": "\r"} if code == "Enter" else {}
        same = {"code": code, "key": key, "modifiers": modifiers, "windowsVirtualKeyCode": number}
        self.tell("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **same, **text)
        self.tell("Input.dispatchKeyEvent", type="keyUp", **same)

    def write(self, text: str) -> None:
        """Text where the cursor is."""
        self.tell("Input.insertText", text=text)

    def click(self, x: float, y: float, button: str = "left") -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.tell("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=1)

    def picture(self, file: Path) -> None:
        """What the page looks like now, as PNG."""
        file.write_bytes(base64.b64decode(self.tell("Page.captureScreenshot")["data"]))

    def _next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\0" not in self._waiting:
            some = self._process.stdout.read(65536)
            assert some, "the browser has ended"
            self._waiting += some
        message, _, self._waiting = self._waiting.partition(b"\0")
        return dict(json.loads(message))
