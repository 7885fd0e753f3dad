"""Covalent's tutorial on nitrogen and copper, retold: a workflow of workflows.

How strongly a nitrogen molecule binds to copper, for some distances between its two atoms. Each
distance is a sublattice: it builds molecule and surface, relaxes them together, and compares
energies. (The effective medium theory that is used here is quick, and rough.)

    make up PACKAGES="ase matplotlib"
    . build/demo.env && python examples/nitrogen_on_copper.py nitrogen_on_copper.png
"""

import subprocess
import sys
from typing import Any

import covalent as ct
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import BFGS
from covalent.executor import AWSLambdaExecutor

DISTANCES = [1.00, 1.05, 1.10, 1.15, 1.20]  # Å
HEIGHT = 2.0  # Å above the surface, before they are relaxed
on_lambda = AWSLambdaExecutor()


@ct.electron(executor=on_lambda)
def molecule(distance: float) -> Atoms:
    return Atoms("2N", positions=[(0, 0, 0), (0, 0, distance)])


@ct.electron(executor=on_lambda)
def surface() -> Atoms:
    """Two layers of copper, as a (111) surface."""
    return fcc111("Cu", size=(3, 3, 2), vacuum=10.0)


@ct.electron(executor=on_lambda)
def together(copper: Atoms, nitrogen: Atoms) -> Atoms:
    """The molecule above the surface, moved until no force is left; copper stays."""
    add_adsorbate(copper, nitrogen, HEIGHT, "ontop")
    copper.set_constraint(FixAtoms(mask=[atom.symbol == "Cu" for atom in copper]))
    copper.calc = EMT()
    BFGS(copper).run(fmax=0.05)
    copper.calc = None
    return copper


@ct.electron(executor=on_lambda)
def energy(atoms: Atoms) -> float:
    """In eV."""
    atoms.calc = EMT()
    return float(atoms.get_potential_energy())


@ct.electron(executor=on_lambda)
def difference(copper: float, nitrogen: float, both: float) -> float:
    return copper + nitrogen - both


@ct.electron(executor=on_lambda)
@ct.lattice(executor=on_lambda)
def binding_energy(distance: float) -> Any:
    """A workflow of its own, for one distance."""
    nitrogen, copper = molecule(distance), surface()
    return difference(energy(copper), energy(nitrogen), energy(together(copper, nitrogen)))


@ct.lattice(executor=on_lambda)
def vary(distances: list[float]) -> Any:
    return [binding_energy(distance) for distance in distances]


def draw(energies: list[float], path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(DISTANCES, energies, "o-")
    axes.set(xlabel="distance of the nitrogen atoms at first, Å", ylabel="energy set free, eV")
    axes.set_title("Nitrogen on copper")
    figure.savefig(path, dpi=80)


def main(path: str) -> None:
    dispatched = ct.dispatch(vary)(DISTANCES)
    # A bar while it runs; in the end what failed, and why.
    if subprocess.run(["covalent-lambda", "show", dispatched], check=False).returncode:
        sys.exit(1)
    energies = ct.get_result(dispatched).result
    print("distance  energy set free")
    for distance, one in zip(DISTANCES, energies, strict=True):
        print(f"{distance:>6.2f} Å  {one:>12.3f} eV")
    draw(energies, path)
    print(f"written: {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "nitrogen_on_copper.png")
