"""`python -m covalent_awslambda_plugin` is `covalent-lambda`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
