"""For all tests: what they write holds none of the keys that they sign with."""

from secret_keys import no_secret_is_written, secrets

__all__ = ["no_secret_is_written", "secrets"]
