"""Makes docs/ui.png: the tutorial's sweep in Covalent's UI, as headless Chromium shows it.

    make up PACKAGES="numpy matplotlib" && . build/demo.env
    (run docs/tutorial, which prints the dispatch's id)
    python docs/picture.py DISPATCH

Needs Debian's package `chromium`.
"""

import asyncio
import base64
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp

PICTURE = Path(__file__).with_name("ui.png")
WINDOW = (2150, 900)
# Without the panel on the left, which shows paths of this machine.
CLIP = {"x": 690, "y": 0, "width": 1260, "height": 680, "scale": 1}
BELOW = {"x": 1290, "y": 320}
DRAWN = 4  # seconds until the graph stands still
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
]


async def photograph(address: str, port_file: Path) -> bytes:
    """The page at `address`, its graph in view, as a PNG."""
    while not port_file.exists():
        await asyncio.sleep(0.1)
    port = port_file.read_text().splitlines()[0]
    async with aiohttp.ClientSession() as http:
        async with http.put(f"http://127.0.0.1:{port}/json/new?{address}") as answer:
            page = await answer.json(content_type=None)
        async with http.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:

            async def order(method: str, **parameters: object) -> Any:
                await socket.send_json({"id": 1, "method": method, "params": parameters})
                while (said := await socket.receive_json()).get("id") != 1:
                    pass
                return said["result"]

            count = "document.querySelectorAll('.react-flow__node').length"
            while not (await order("Runtime.evaluate", expression=count))["result"]["value"]:
                await asyncio.sleep(0.5)
            await asyncio.sleep(DRAWN)
            # The UI draws the uppermost node under its header: zoom out from a point below.
            await order(
                "Input.dispatchMouseEvent", type="mouseWheel", **BELOW, deltaX=0, deltaY=150
            )
            await asyncio.sleep(1)
            shot = await order("Page.captureScreenshot", format="png", clip=CLIP)
            return base64.b64decode(shot["data"])


def main(dispatch: str) -> None:
    """Photograph one dispatch."""
    address = f"http://127.0.0.1:{os.environ['COVALENT_SVC_PORT']}/{dispatch}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        size = "--window-size={},{}".format(*WINDOW)
        mine = [f"--user-data-dir={folder}", "--remote-debugging-port=0", size, "about:blank"]
        browser = subprocess.Popen(["chromium", *FLAGS, *mine], stderr=subprocess.DEVNULL)
        try:
            shot = photograph(address, Path(folder) / "DevToolsActivePort")
            PICTURE.write_bytes(asyncio.run(asyncio.wait_for(shot, 120)))
        finally:
            browser.terminate()
            browser.wait()


if __name__ == "__main__":
    main(sys.argv[1])
