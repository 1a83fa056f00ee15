"""A real browser, driven over the WebDriver protocol (W3C) that its own driver speaks."""

import base64
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
# WebDriver's code points for keys.
TAB, ENTER, SPACE, RIGHT, HOME = "\ue004", "\ue007", "\ue00d", "\ue014", "\ue011"


def found() -> bool:
    """Whether Chromium and its driver are installed."""
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


class Browser:
    """Headless Chromium."""

    def __init__(self, profile: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        driver = shutil.which("chromedriver")
        assert driver is not None
        self._driver = subprocess.Popen(
            [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        try:
            self._wait_for_driver()
            arguments = [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                f"--user-data-dir={profile}", "--hide-scrollbars",
                "--disable-background-networking",
            ]  # fmt: skip
            wanted = {
                "goog:chromeOptions": {"args": arguments},
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{session['sessionId']}"
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._http.delete(self._session)
        finally:
            self._end()

    def open(self, url: str) -> None:
        """Goes to an address."""
        self._do("POST", "/url", {"url": url})

    def size(self, width: int, height: int) -> None:
        """Sets what the page sees of a screen."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        """Light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._devtools("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self._do("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def upload(self, selector: str, *paths: Path) -> None:
        """Chooses files as a person would."""
        element = self._do("POST", "/element", {"using": "css selector", "value": selector})
        text = "\n".join(map(str, paths))
        self._do("POST", f"/element/{element[ELEMENT]}/value", {"text": text})

    def click(self, selector: str) -> None:
        """Clicks what a selector finds."""
        element = self._do("POST", "/element", {"using": "css selector", "value": selector})
        self._do("POST", f"/element/{element[ELEMENT]}/click", {})

    def press(self, *keys: str) -> None:
        """Presses keys, whatever has the focus."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        source = {"type": "key", "id": "keys", "actions": actions}
        self._do("POST", "/actions", {"actions": [source]})

    def wait(self, script: str, seconds: float = 30) -> Any:
        """What a script returns, once that is true."""
        until = time.monotonic() + seconds
        while not (value := self.run(script)):
            if time.monotonic() > until:
                raise TimeoutError(f"{script}\n{self.run('return document.body.innerText')}")
            time.sleep(0.05)
        return value

    def screenshot(self, path: Path) -> None:
        """Draws the whole page."""
        height = self.run("return document.documentElement.scrollHeight")
        width = self.run("return window.innerWidth")
        self.size(width, height)
        path.write_bytes(base64.b64decode(self._do("GET", "/screenshot")))

    def accessible(self) -> list[dict[str, Any]]:
        """What a screen reader is told: roles and names of what is not hidden from it."""
        nodes = self._devtools("Accessibility.getFullAXTree", {})["nodes"]
        return [
            {
                "role": node["role"]["value"],
                "name": node.get("name", {}).get("value", ""),
                "properties": {
                    one["name"]: one["value"].get("value") for one in node.get("properties", [])
                },
            }
            for node in nodes
            if not node["ignored"]
        ]

    def complaints(self) -> list[str]:
        """What the console was told: errors, and what the policy did not let happen."""
        entries = self._do("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        body = {"cmd": command, "params": parameters}
        return self._do("POST", "/goog/cdp/execute", body)

    def _do(self, method: str, path: str, body: Any = None) -> Any:
        return self._ask(method, self._session + path, body)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body)
        answer = self._http.request(method, path, content=content)
        value = answer.json()["value"]
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {value['error']}: {value['message'][:500]}")
        return value

    def _wait_for_driver(self) -> None:
        until = time.monotonic() + 30
        while True:
            try:
                if self._http.get("/status").json()["value"]["ready"]:
                    return
            except httpx.TransportError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.05)

    def _end(self) -> None:
        self._http.close()
        self._driver.terminate()
        self._driver.wait(30)
