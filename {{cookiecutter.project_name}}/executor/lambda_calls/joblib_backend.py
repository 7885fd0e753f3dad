"""joblib's work as calls of a pool, so that scikit-learn's `n_jobs` goes to Lambda.

from joblib import parallel_config
from lambda_calls import joblib_backend

joblib_backend.register()
with parallel_config("lambda", n_jobs=-1):
    GridSearchCV(model, grid).fit(X, y)

The function's image needs joblib, and whatever the work needs.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib import register_parallel_backend
from joblib._parallel_backends import AutoBatchingMixin
from joblib.parallel import ParallelBackendBase

from .pool import LambdaPoolExecutor

NAME = "lambda"


def register() -> None:
    """Let joblib know the backend `lambda`."""
    register_parallel_backend(NAME, LambdaBackend)


class LambdaBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """A joblib backend on a pool.

    The mutable state is the pool, and the calls that are not settled yet.

    Args:
        pool: whose calls they are; None: one of its own, which ends with the configuration.
        inner_max_num_threads, nesting_level: joblib's own.
        arguments: of that pool (`function_name`, `retries`, …).
    """

    supports_retrieve_callback = True

    def __init__(
        self,
        *,
        pool: LambdaPoolExecutor | None = None,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._pool = pool or LambdaPoolExecutor(**arguments)
        self._calls: set[Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many jobs joblib may think of as running at a time."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else self._pool.max_workers

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Get ready for one `Parallel`; how many jobs run at a time."""
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Callable[[], Any], callback: Any = None) -> "Future[Any]":
        """Have a batch of joblib's run, as one call."""
        # As an argument: unlike a function, it is not kept for calls to come.
        future: Future[Any] = self._pool.submit(_called, func)
        self._calls.add(future)
        future.add_done_callback(self._calls.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: "Future[Any]") -> Any:
        """What a batch returned."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop what runs: one of the jobs has failed."""
        for future in list(self._calls):
            self._pool.cancel(future)


def _called(batch: Callable[[], Any]) -> Any:
    return batch()
