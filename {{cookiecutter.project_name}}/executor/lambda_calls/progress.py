"""A bar that shows how many calls are done; tqdm draws it, in a terminal or a notebook."""

import threading
from typing import Any

from .errors import ConfigurationError


class Bar:
    """The mutable state is the bar's, and how many calls are expected and failed.

    Raises:
        ConfigurationError: if tqdm is not installed.
    """

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ConfigurationError(
                "progress=True needs the package tqdm: pip install tqdm."
            ) from error
        self._lock = threading.Lock()
        self._failed = 0
        self._bar: Any = tqdm(total=0, unit="call", dynamic_ncols=True)

    def expect(self, calls: int) -> None:
        """There are so many calls more."""
        with self._lock:
            self._bar.total += calls
            self._bar.refresh()

    def done(self, *, failed: bool) -> None:
        """One call is over."""
        with self._lock:
            self._failed += failed
            if failed:
                self._bar.set_postfix(failed=self._failed, refresh=False)
            self._bar.update(1)

    def close(self) -> None:
        """Leave the bar as it is, and draw it no more."""
        with self._lock:
            self._bar.close()
