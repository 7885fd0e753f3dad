"""For all tests: what they write holds none of the keys that they sign with.

Whether skips are forbidden is read here, before the unit tests' conftest clears the environment.
"""

from lacking import lacking
from secret_keys import no_secret_is_written, secrets

__all__ = ["lacking", "no_secret_is_written", "secrets"]
