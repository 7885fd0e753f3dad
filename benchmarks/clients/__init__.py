"""The contenders. Each runs in a process of its own, on the side where Covalent's server would."""
