"""The function's box and the template's folders, as the unit tests have them."""

import sys
from pathlib import Path

UNIT = Path(__file__).parents[1] / "unit"
sys.path[:0] = [str(Path(__file__).parent), str(UNIT)]

from template_paths import EXECUTOR, FUNCTION, LAMBDA_CALLS  # noqa: E402 - found there

sys.path[:0] = [str(EXECUTOR), str(FUNCTION)]
sys.path.append(str(LAMBDA_CALLS))
