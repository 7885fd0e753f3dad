"""scikit-learn's grid search on Lambda, through joblib: one line around what one has.

Needs scikit-learn and matplotlib here; scikit-learn in the function
(`make up PACKAGES="scikit-learn"`, or function/requirements.txt):

    . build/demo.env && python examples/grid_search.py grid_search.png
"""

import sys
from typing import Any

import numpy as np
from joblib import parallel_config
from lambda_calls import LambdaPoolExecutor, joblib_backend
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

GRID = {"C": [0.1, 1.0, 10.0, 100.0], "gamma": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]}


def draw(search: Any, path: str) -> None:
    from matplotlib.figure import Figure

    scores = search.cv_results_["mean_test_score"].reshape(len(GRID["C"]), len(GRID["gamma"]))
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(scores, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(GRID["gamma"])), [f"{x:g}" for x in GRID["gamma"]])
    axes.set_yticks(range(len(GRID["C"])), [f"{x:g}" for x in GRID["C"]])
    axes.set(xlabel="gamma", ylabel="C", title="Share of digits that are recognised")
    middle = (scores.min() + scores.max()) / 2
    for (row, column), score in np.ndenumerate(scores):
        colour = "white" if score < middle else "black"
        axes.text(column, row, f"{score:.3f}", ha="center", va="center", color=colour)
    figure.colorbar(image)
    figure.savefig(path)


def main(path: str) -> None:
    images, digits = load_digits(return_X_y=True)
    search = GridSearchCV(SVC(), GRID, cv=3, verbose=1)
    joblib_backend.register()
    # Eight suit a laptop's sandbox, whose cores run them; leave max_workers out on AWS.
    with (
        LambdaPoolExecutor(max_workers=8, progress=True) as pool,
        parallel_config("lambda", n_jobs=8, pool=pool),
    ):
        search.fit(images[:900], digits[:900])
    print(f"best: {search.best_params_}, {search.best_score_:.3f}; {pool.stats().summary}")
    draw(search, path)
    print(f"written: {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "grid_search.png")
