"""A Dask array reduced on Lambda: the pool is Dask's scheduler.

Needs dask[array] and matplotlib here; dask[array] in the function
(`make up PACKAGES="dask[array]"`, or function/requirements.txt):

    . build/demo.env && python examples/dask_reduction.py dask_reduction.png
"""

import sys

import dask
import dask.array as da
import numpy as np
from lambda_calls import LambdaPoolExecutor

SIDE, BLOCK = 2400, 600


def waves(x: "da.Array", y: "da.Array") -> "da.Array":
    """Waves from two points, on top of one another."""
    sources = [(0.3, 0.4), (0.7, 0.55)]
    return sum(da.sin(120 * da.sqrt((x - a) ** 2 + (y - b) ** 2)) for a, b in sources)


def draw(intensity: np.ndarray, path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(intensity, origin="lower", extent=(0, 1, 0, 1), cmap="magma")
    axes.set(title="Interference: mean intensity of each cell")
    figure.colorbar(image)
    figure.savefig(path)


def main(path: str) -> None:
    at = da.linspace(0, 1, SIDE, chunks=BLOCK)
    intensity = waves(at[None, :], at[:, None]) ** 2
    cells = da.coarsen(np.mean, intensity, {0: 12, 1: 12})
    # Eight suit a laptop's sandbox, whose cores run them; leave max_workers out on AWS.
    with (
        LambdaPoolExecutor(max_workers=8, progress=True) as pool,
        dask.config.set(scheduler=pool),
    ):
        mean, picture = dask.compute(intensity.mean(), cells)
    print(f"mean intensity {mean:.4f} of {SIDE}² points; {pool.stats().summary}")
    draw(picture, path)
    print(f"written: {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "dask_reduction.png")
