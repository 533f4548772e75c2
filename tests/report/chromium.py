"""A page in headless Chromium: what it measures, what it logs, which requests it makes.

Standard library only. The page itself has no script; a copy of it with one appended measures the document and
counts errors, and ``--dump-dom`` returns what it wrote.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ID = "measured-by-the-test"
_NOBODY = "not an origin"  # initiator of the browser's own requests in its log
_QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-pings",
    "--disable-default-apps", "--disable-extensions", "--metrics-recording-only", "--mute-audio",
    "--enable-logging=stderr",
)  # fmt: skip
# Runs before the page: errors of everything that follows are seen.
_EARLY = """<script>
window.__errors = [];
addEventListener("error", e => __errors.push(String(e.message || e.target.src || e.target.href)), true);
addEventListener("unhandledrejection", e => __errors.push(String(e.reason)));
addEventListener("securitypolicyviolation", e => __errors.push(e.blockedURI));
const __error = console.error; console.error = (...a) => { __errors.push(a.join(" ")); __error(...a); };
</script>"""
_LATE = """<script>
addEventListener("load", () => {
  const box = e => { const r = e.getBoundingClientRect(); return [r.left, r.right, r.width, r.height]; };
  const out = document.createElement("script");
  out.type = "application/json"; out.id = "ELEMENT";
  out.textContent = JSON.stringify({
    errors: __errors,
    viewport: innerWidth,
    document: document.documentElement.scrollWidth,
    plots: [...document.querySelectorAll(".plot svg")].map(box),
    boxes: [...document.querySelectorAll(".box")].map(box),
    cut: [...document.querySelectorAll(".plot")].filter(e => e.scrollWidth > e.clientWidth).length,
    ids: [...document.querySelectorAll("[id]")].map(e => e.id),
    links: [...document.querySelectorAll("a[href]")].map(e => e.getAttribute("href")),
    resources: performance.getEntriesByType("resource").map(e => e.name),
  });
  document.body.appendChild(out);
});
</script>""".replace("ELEMENT", _ID)


@dataclass(frozen=True)
class Seen:
    """What Chromium saw.

    Attributes
    ----------
    page
        What the appended script measured.
    console
        Lines of the page's console.
    requests
        Addresses of the requests that its network log names, the file itself left out.
    """

    page: dict[str, Any] = field(repr=False)
    console: list[str]
    requests: list[str]


def find() -> str | None:
    """Path of the browser: ``CHROMIUM`` of the environment, else Debian's and others' names."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for path in map(shutil.which, NAMES) if path), None)


def look(browser: str, page: Path, folder: Path, *, width: int = 1280, script: str = "") -> Seen:
    """Open a page of this machine with every name lookup refused."""
    text = page.read_text("utf-8").replace("<head>", "<head>" + _EARLY, 1)
    copy = folder / "page.html"
    copy.write_text(text.replace("</body>", script + _LATE + "</body>", 1), "utf-8")
    log = folder / "net.json"
    done = subprocess.run(
        [
            browser, "--headless", *_QUIET, f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},900", "--host-resolver-rules=MAP * ~NOTFOUND", f"--log-net-log={log}",
            "--virtual-time-budget=5000", "--dump-dom", copy.as_uri(),
        ],
        capture_output=True, text=True, timeout=180, check=False, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    found = re.search(rf'<script[^>]*id="{_ID}"[^>]*>(.*?)</script>', done.stdout, re.DOTALL)
    if found is None:
        raise AssertionError(f"Chromium measured nothing: rc {done.returncode}\n{done.stderr[-3000:]}")
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Seen(json.loads(found[1]), console, _requests(log, copy.as_uri()))


def _requests(log: Path, own: str) -> list[str]:
    """What the page asked for: requests that a document started, connections and lookups on a file's behalf.

    The browser's own requests (updates, time, accounts) have no origin and no file as their site.
    """
    data = json.loads(log.read_text("utf-8"))
    names = {number: name for name, number in data["constants"]["logEventTypes"].items()}
    found = set()
    for event in data["events"]:
        params = event.get("params", {})
        begins = names[event["type"]] == "URL_REQUEST_START_JOB" and "initiator" in params
        started = begins and params["initiator"] != _NOBODY
        sites = (params.get("network_isolation_key", ""), params.get("network_anonymization_key", ""))
        if started or any(site.startswith("file:") for site in sites):
            found.add(str(params.get("url") or params.get("host") or params))
    return sorted(found - {own})
