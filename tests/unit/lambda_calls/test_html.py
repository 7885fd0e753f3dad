"""What notebooks show."""

from __future__ import annotations

import inspect
import re

from covalent_awslambda_plugin import AWSLambdaExecutor
from lambda_calls import html
from lambda_calls.pool import LambdaPoolExecutor


def test_text_is_no_markup() -> None:
    """Whatever a value holds, it is shown as text."""
    assert "<td" in html.table("t", ("a",), [["<b>&"]])
    assert "&lt;b&gt;&amp;" in html.table("t", ("a",), [["<b>&"]])


def test_the_executor_shows_each_setting_and_its_origin() -> None:
    """The function's name comes with where it was said."""
    shown = AWSLambdaExecutor(function_name="my-fn", retries=2, usage=True, carry=[])
    rows = dict(re.findall(r"<tr><td[^>]*>(\w+)</td>(.*?)</tr>", shown._repr_html_()))
    assert ">my-fn<" in rows["function_name"]
    for name in ("function_name", "retries", "usage", "carry"):
        assert f">the argument {name}=<" in rows[name]
    assert ">-1<" in rows["time_limit"] and ">the default<" in rows["time_limit"]
    assert ">nothing<" in rows["carry"]


def test_every_argument_is_a_row() -> None:
    """No setting is left out, but for those that only say where the others are looked for."""
    arguments = set(inspect.signature(AWSLambdaExecutor).parameters)
    shown = re.findall(r"<tr><td[^>]*>(\w+)</td>", AWSLambdaExecutor()._repr_html_())
    assert set(shown) == arguments - {"samconfig", "config_env", "others"}


def test_the_pool_shows_where_it_sends_calls_and_what_they_took() -> None:
    """Both tables are there before the first call, too."""
    with LambdaPoolExecutor(function_name="my-fn") as pool:
        shown = pool._repr_html_()
        assert ">my-fn<" in shown and "What the pool did" in shown
        assert pool.stats()._repr_html_() in shown
