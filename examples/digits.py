"""Covalent's tutorial on handwritten digits, retold with scikit-learn.

The tutorial ("MNIST classifier") trains one neural network with PyTorch. Here a network is trained
for each of some learning rates, side by side on Lambda. The digits come with scikit-learn.

    make up PACKAGES="scikit-learn matplotlib"
    . build/demo.env && python examples/digits.py digits.png
"""

import subprocess
import sys
from typing import Any

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

RATES = [0.0003, 0.001, 0.01, 0.1]
EPOCHS = 25
on_lambda = AWSLambdaExecutor()


@ct.electron(executor=on_lambda)
def load() -> list[Any]:
    """Images and digits to train with, then those to test with."""
    pixels, digits = load_digits(return_X_y=True)
    parts = train_test_split(pixels / 16, digits, test_size=0.25, random_state=0)
    return [(parts[0], parts[2]), (parts[1], parts[3])]


@ct.electron(executor=on_lambda)
def train(data: list[Any], rate: float) -> tuple[Any, list[float]]:
    """A network, and how far off it was after each epoch."""
    pixels, digits = data[0]
    network = MLPClassifier((50,), solver="sgd", learning_rate_init=rate, random_state=0)
    losses = []
    for epoch in range(1, EPOCHS + 1):
        network.partial_fit(pixels, digits, classes=range(10))
        losses.append(float(network.loss_))
        print(f"learning rate {rate}, epoch {epoch}: loss {losses[-1]:.3f}")
    return network, losses


@ct.electron(executor=on_lambda)
def test(data: list[Any], rate: float, trained: tuple[Any, list[float]]) -> dict[str, Any]:
    """What a network makes of digits that it has not seen."""
    (pixels, digits), (network, losses) = data[1], trained
    seen = network.predict(pixels)
    return {
        "rate": rate,
        "losses": losses,
        "accuracy": float((seen == digits).mean()),
        "confusion": confusion_matrix(digits, seen).tolist(),
    }


# Its executor also runs Covalent's own steps, so that its server needs no scikit-learn.
@ct.lattice(executor=on_lambda)
def compare(rates: list[float]) -> Any:
    """Train and test a network for each learning rate."""
    data = load()
    return [test(data, rate, train(data, rate)) for rate in rates]


def draw(tested: list[dict[str, Any]], path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for one in tested:
        left.plot(range(1, EPOCHS + 1), one["losses"], label=f"{one['rate']:g}")
    left.set(xlabel="epoch", ylabel="loss", title="Training")
    left.legend(title="learning rate")
    best = max(tested, key=lambda one: one["accuracy"])
    right.imshow(best["confusion"], cmap="Blues")
    for digit, row in enumerate(best["confusion"]):
        for seen, count in enumerate(row):
            if count:
                colour = "white" if digit == seen else "black"
                right.text(seen, digit, count, ha="center", va="center", color=colour)
    right.set(xticks=range(10), yticks=range(10), xlabel="seen as", ylabel="digit")
    right.set_title(f"Test with {best['rate']:g}: {best['accuracy']:.1%} right")
    figure.savefig(path, dpi=80)


def main(path: str) -> None:
    dispatched = ct.dispatch(compare)(RATES)
    # A bar while it runs; in the end what failed, and why.
    if subprocess.run(["covalent-lambda", "show", dispatched], check=False).returncode:
        sys.exit(1)
    tested = ct.get_result(dispatched).result
    print("learning rate   right")
    for one in tested:
        print(f"{one['rate']:>13g}  {one['accuracy']:>6.1%}")
    draw(tested, path)
    print(f"written: {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "digits.png")
