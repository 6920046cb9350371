"""Draw the pictures of the documentation from synthetic people.

Run it in an empty folder: `python <repository>/docs/images/make.py`. It trains a model for some minutes. The picture of a report
also needs Chromium and Playwright; without them it is skipped.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

from reidlit.visualize.curves import cmc_figure, roc_figure

HERE = Path(__file__).parent
RUN = Path("runs/train/first")
PEOPLE = ("0048", "0049", "0050", "0051", "0052")
CHECKPOINT = f"ckpt_path={RUN}/checkpoints/last.ckpt"


def reidlit(*arguments: str) -> None:
    """Run a command."""
    subprocess.run([sys.executable, "-m", "reidlit", *arguments], check=True)


def save(image: Image.Image, name: str, colors: int = 256, width: int | None = None) -> None:
    """Store a picture as a small PNG with a palette, scaled down to a width in pixels if it is wider."""
    if width is not None and image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    image.convert("RGB").quantize(colors, dither=Image.Dither.NONE).save(HERE / name, optimize=True)


def copy_crops() -> None:
    """Copy the images of some test people into `crops`, and one of them to `a.jpg`."""
    for person in PEOPLE:
        Path("crops", person).mkdir(parents=True, exist_ok=True)
        for image in Path("data/synthetic/seed0_128x64").glob(f"{person}_*.jpg"):
            shutil.copy(image, Path("crops", person))
    shutil.move("crops/0050/0050_c1_00.jpg", "a.jpg")


def draw_curves() -> None:
    """Draw the CMC and the ROC curve before and after training."""
    metrics = json.loads((RUN / "metrics.json").read_text())
    names = {"untrained": "untrained/synthetic", "trained for three minutes": "test/synthetic"}
    cmc_figure({label: metrics[f"{name}/cmc"][:20] for label, name in names.items()}).savefig("cmc.png", dpi=150)
    roc_figure({label: metrics[f"{name}/roc"] for label, name in names.items()}).savefig("roc.png", dpi=150)
    for name in ("cmc.png", "roc.png"):
        save(Image.open(name), name, colors=64)


def draw_report() -> None:
    """Take a screenshot of the top of a report."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.stderr.write("report.png is skipped: no Chromium\n")
        return
    from playwright.sync_api import sync_playwright

    reidlit("report", f"run={RUN}", "output=report.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 1225})
        page.goto(Path("report.html").resolve().as_uri())
        page.screenshot(path="report.png")
        browser.close()
    save(Image.open("report.png"), "report.png", colors=64, width=880)


def main() -> None:
    """Draw all pictures."""
    if not RUN.exists():
        reidlit("train", "score_untrained=true", f"hydra.run.dir={RUN}")
    if not Path("a.jpg").exists():
        copy_crops()
    reidlit(
        "test", CHECKPOINT, "callbacks.ranked_lists.queries=3", "callbacks.ranked_lists.top_k=9", "hydra.run.dir=test"
    )
    save(Image.open("test/ranked_lists/synthetic.png"), "ranked_lists.png", colors=64)
    reidlit("search", "query=a.jpg", "gallery=crops", CHECKPOINT, "hydra.run.dir=search")
    save(Image.open("search/search.png"), "search.png")
    reidlit("doctor", "contact_sheet.identities=2", "hydra.run.dir=doctor")
    save(Image.open("doctor/contact_sheet.png"), "contact_sheet.png", colors=128)
    reidlit("visualize", CHECKPOINT, "images=crops", "count=8", "hydra.run.dir=visualize")
    save(Image.open(next(Path("visualize").glob("*.png"))), "activation_map.png", colors=128)
    draw_curves()
    draw_report()


if __name__ == "__main__":
    main()
