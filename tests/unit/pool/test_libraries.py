"""Libraries that bring their own parallel work: Dask and joblib, with scikit-learn on top."""

import sys
import time
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
from fleet import Fleet, pool
from lambda_calls import joblib_backend

cloudpickle.register_pickle_by_value(sys.modules[__name__])
# Import time of these in the function, on a busy machine.
pytestmark = pytest.mark.timeout(180)


def test_dask_runs_its_tasks_on_it(fleet: Fleet) -> None:
    """`dask.config.set(scheduler=pool)` is all it takes."""
    import dask.array

    numbers = dask.array.arange(1000, chunks=250)
    with pool(max_workers=2) as executor, dask.config.set(scheduler=executor):
        assert int((numbers**2).sum().compute()) == sum(x * x for x in range(1000))
    assert len(fleet.batches) >= 4


def fails(x: int) -> int:
    if x == 2:
        raise KeyError("two")
    return x


@pytest.fixture(autouse=True)
def registered() -> None:
    joblib_backend.register()


def test_joblib_runs_its_work_on_it(fleet: Fleet) -> None:
    """Results in order; short work is put together by joblib itself."""
    with pool(max_workers=2) as executor, joblib.parallel_config("lambda", pool=executor):
        work = (joblib.delayed(pow)(x, 2) for x in range(60))
        assert joblib.Parallel(n_jobs=2)(work) == [x * x for x in range(60)]
    assert sum(fleet.sizes) < 60


def test_an_error_in_joblibs_work_is_raised(fleet: Fleet) -> None:
    """The original; the other work is stopped."""
    began = time.monotonic()
    names: dict[str, Any] = {"function_name": "fn", "s3_bucket_name": "bucket"}
    with joblib.parallel_config("lambda", max_workers=2, region="eu-west-1", **names):
        work = [joblib.delayed(fails)(2), joblib.delayed(time.sleep)(60)]
        with pytest.raises(KeyError, match="two"):
            joblib.Parallel(n_jobs=2)(work)
    assert time.monotonic() - began < 30


def test_scikit_learn_searches_on_it(fleet: Fleet) -> None:
    """A grid search finds what it finds here."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    random = np.random.default_rng(1)
    x = random.normal(size=(60, 3))
    y = x @ [1.0, 2.0, 3.0] + 0.1 * random.normal(size=60)
    search = GridSearchCV(Ridge(), {"alpha": [0.01, 1.0, 100.0]}, cv=3)
    here = search.fit(x, y).best_params_
    with (
        pool(max_workers=2) as executor,
        joblib.parallel_config("lambda", n_jobs=-1, pool=executor),
    ):
        assert search.fit(x, y).best_params_ == here
    assert fleet.batches
