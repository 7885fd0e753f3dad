"""Thumbnails of a folder of pictures, in a plain script: no Covalent server.

Without a folder it draws some pictures first.

    make up PACKAGES="pillow tqdm"
    . build/demo.env && python examples/thumbnails.py thumbnails.png [FOLDER]
"""

import io
import math
import sys
import tempfile
from pathlib import Path

from lambda_calls import LambdaPoolExecutor
from PIL import Image, ImageDraw, ImageOps

SIDE = 96  # pixels
ENDINGS = {".jpg", ".jpeg", ".png", ".webp"}


def thumbnail(picture: bytes) -> bytes:
    """The middle of a picture, SIDE pixels wide and high, as a JPEG."""
    with Image.open(io.BytesIO(picture)) as whole:
        small = ImageOps.fit(ImageOps.exif_transpose(whole).convert("RGB"), (SIDE, SIDE))
    written = io.BytesIO()
    small.save(written, "JPEG")
    return written.getvalue()


def draw_some(folder: Path) -> None:
    """Twenty-four parts of the Mandelbrot set."""
    for number in range(24):
        x, y = -0.75 + 0.9 * math.cos(number / 4), 0.9 * math.sin(number / 4)
        width = 0.2 + 0.06 * number
        extent = (x - width, y - width, x + width, y + width)
        grey = Image.effect_mandelbrot((640, 480), extent, 40)
        colours = ("navy", f"hsl({15 * number}, 80%, 55%)", "white")
        picture = ImageOps.colorize(grey, colours[0], colours[2], colours[1])
        picture.save(folder / f"part-{number:02}.jpg")


def sheet(small: list[bytes | Exception]) -> Image.Image:
    """All of them in rows of eight; a cross where a picture could not be read."""
    columns = min(8, len(small))
    whole = Image.new("RGB", (SIDE * columns, SIDE * math.ceil(len(small) / columns)), "white")
    for number, one in enumerate(small):
        at = (number % columns * SIDE, number // columns * SIDE)
        if isinstance(one, bytes):
            whole.paste(Image.open(io.BytesIO(one)), at)
        else:
            ImageDraw.Draw(whole).line((*at, at[0] + SIDE, at[1] + SIDE), "red", 3)
    return whole


def main(path: str, folder: Path) -> None:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
    if not files:
        sys.exit(f"there is no picture ({', '.join(sorted(ENDINGS))}) in {folder}")
    # Eight are what a laptop's sandbox stands; leave max_workers out on AWS.
    with LambdaPoolExecutor(max_workers=8, progress=True) as pool:
        pictures = (file.read_bytes() for file in files)
        # A file that is no picture is no reason to lose the others.
        small = list(pool.map(thumbnail, pictures, return_exceptions=True))
    # After the pool has left its bar's line.
    for file, one in zip(files, small, strict=True):
        if isinstance(one, Exception):
            print(f"{file}: {one}", file=sys.stderr)
    print(f"{len(files)} pictures; {pool.stats().summary}")
    sheet(small).save(path)
    print(f"written: {path}")


if __name__ == "__main__":
    output = sys.argv[1] if len(sys.argv) > 1 else "thumbnails.png"
    if len(sys.argv) > 2:
        main(output, Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as drawn:
            draw_some(Path(drawn))
            main(output, Path(drawn))
