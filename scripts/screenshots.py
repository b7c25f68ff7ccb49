"""Pictures of the pages over real runs, for the README.

    python scripts/screenshots.py runs/demo --out docs/pictures

Needs Chromium and the development packages. Takes the tree, the root's page and its newest decided comparison of the
first run below RUN that has assistants (or of --run), each in the light scheme and in the dark one.
"""

from __future__ import annotations

import argparse
import shutil
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

from rrm.view.reading import Reader, find_runs
from rrm.view.web.app import create_app
from rrm.view.web.security import Access
from rrm.view.web.serving import address, listen, serve

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def addresses(runs: dict[str, Path], name: str | None) -> dict[str, str]:
    """What to take a picture of: file name -> path on the server."""
    for run, folder in runs.items():
        with Reader(folder, run) as opened:
            if run != name if name else not opened.children(opened.root):
                continue
            row = opened.row(
                "SELECT MAX(seq) FROM comparisons WHERE task = ? AND preference IN (0, 1)", (opened.root,)
            )
            return {
                "tree": f"/r/{run}", "node": f"/r/{run}/node/{opened.root}", "comparison": f"/r/{run}/c/{row[0]}",
            }  # fmt: skip
    raise SystemExit(f"no run {name!r}" if name else "no run with assistants")


def main() -> None:
    """Serve the runs, take the pictures, and write them to --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--run", help="the run's name, as the page of all runs has it")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--width", type=int, default=1200)
    args = parser.parse_args()

    pages = addresses(find_runs([args.runs]), args.run)
    access, bound = Access(), listen("127.0.0.1", 0)
    threading.Thread(target=serve, args=(create_app([args.runs], access), bound), daemon=True).start()
    args.out.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": args.width, "height": 760}, color_scheme=scheme)
            page.goto(address(bound, access))
            for name, path in pages.items():
                page.goto(f"http://127.0.0.1:{bound.getsockname()[1]}{path}")
                if name == "comparison":
                    page.locator(".answer[data-points]").first.focus()
                page.screenshot(path=args.out / f"{name}-{scheme}.png")
                print(args.out / f"{name}-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main()
