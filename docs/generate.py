"""Writes the parts of docs/ that the code knows better; `make docs`.

Each part stands between two marks, and a test compares it with what would be written. In README.md
these are the rows of the comparison that benchmarks/results.json knows, and their day and commit.
"""

import argparse
import ast
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).resolve().parent
README = DOCS.parent / "README.md"
TEMPLATE = DOCS.parent / "{{cookiecutter.project_name}}"
AS_ANSWERED = "as answered"  # to one of the template's questions
MEASURED = ("latency", "fanout", "shared")  # the benchmarks whose numbers README.md has
sys.path[:0] = [str(TEMPLATE / "executor"), str(DOCS.parent)]


def failures() -> str:
    """All messages by what happened, with Covalent's names of their classes."""
    rows = ((what, f"`{kind}`", text) for what, kind, text in _messages())
    return _table(("what happened", "class", "what the user reads"), rows)


def messages_by_text() -> str:
    """All messages in the alphabetic order of their first own words."""
    rows = [(text, what, f"`{kind}`") for what, kind, text in _messages() if text != "…"]
    rows.sort(key=lambda row: row[0].lstrip("… ").lower())
    return _table(("the message", "what happened", "class"), rows)


def faults() -> str:
    """The table of faults, with what the latest `make faults` has left out."""
    from faults import report

    return report.faults()


def figures() -> str:
    """What the latest `make faults` has shown."""
    from faults import report

    return report.figures()


def fuzzed() -> str:
    """How many inputs the latest `make fuzz` has tried."""
    from faults import report

    return report.fuzzed()


def error_classes() -> str:
    """The exceptions' names and what each says can be done."""
    import covalent_awslambda_plugin

    names = [name for name in covalent_awslambda_plugin.__all__ if name.endswith("Error")]
    found = [(name, getattr(covalent_awslambda_plugin, name)) for name in names]
    rows = ((f"`{name}`", inspect.getdoc(kind) or "") for name, kind in found)
    return _table(("class", "meaning"), rows)


def executor_arguments() -> str:
    """The arguments of AWSLambdaExecutor."""
    from covalent_awslambda_plugin.awslambda import _EXECUTOR_PLUGIN_DEFAULTS, AWSLambdaExecutor

    return _arguments(AWSLambdaExecutor, _EXECUTOR_PLUGIN_DEFAULTS)


def configuration_keys() -> str:
    """The keys that covalent.conf may hold."""
    from covalent_awslambda_plugin.awslambda import _EXECUTOR_PLUGIN_DEFAULTS

    return ", ".join(f"`{name}`" for name in _EXECUTOR_PLUGIN_DEFAULTS)


def pool_arguments() -> str:
    """The arguments of LambdaPoolExecutor."""
    from lambda_calls import LambdaPoolExecutor

    return _arguments(LambdaPoolExecutor, {})


def fan_out_arguments() -> str:
    """The arguments of fan_out."""
    from lambda_calls import fan_out

    return _arguments(fan_out, {})


def stack_parameters() -> str:
    """The parameters of template.yaml."""
    text = (TEMPLATE / "template.yaml").read_text("utf-8")
    text = text[text.index("\nParameters:\n") : text.index("\nConditions:\n")]
    text = re.sub(r'"?\{\{.*?\}\}"?', AS_ANSWERED, text)
    parameters = yaml.safe_load(text)["Parameters"]
    rows = (
        (f"`{name}`", _default(p["Default"]), _allowed(p), p["Description"])
        for name, p in parameters.items()
    )
    return _table(("parameter", "default", "allowed", "meaning"), rows)


def settings_messages() -> str:
    """What is said of samconfig.toml, AWS's files and the stack, in alphabetic order."""
    return _list(_texts(TEMPLATE / "executor" / "lambda_calls" / "settings", "SettingsError"))


def command_messages() -> str:
    """What `covalent-lambda` says of itself, in alphabetic order."""
    cli = TEMPLATE / "executor" / "covalent_awslambda_plugin" / "cli"
    return _list(_texts(cli, "CommandError"))


def command_options() -> str:
    """The arguments of each command of `covalent-lambda`."""
    from covalent_awslambda_plugin.cli.main import _parser

    rows = []
    for name, parser in _commands(_parser()).items():
        for action in parser._actions:
            # argparse's own --help is the same for all.
            if not isinstance(action, argparse._HelpAction):
                meaning = parser._get_formatter()._expand_help(action)
                rows.append((f"`{name}`", _option(action), meaning))
    return _table(("command", "argument", "meaning"), rows)


def questions() -> str:
    """What cookiecutter asks, and its defaults."""
    asked = json.loads((DOCS.parent / "cookiecutter.json").read_text("utf-8"))
    rows = []
    for name, text in asked["__prompts__"].items():
        default = "computed, see below" if "{{" in asked[name] else _default(asked[name])
        rows.append((f"`{name}`", default or "none", text))
    return _table(("question", "default", "what is asked"), rows)


def measured() -> dict[str, tuple[str, str, str]]:
    """README's measured rows: by name, what is found for ours, the public plugin and Lithops."""
    from benchmarks.comparing import number

    def time(benchmark: str, what: str) -> Iterator[str]:
        for one in _medians(benchmark, what):
            # The public plugin takes minutes for a thousand.
            note = re.match(r"\d+(?= electrons, not)", one["note"])
            few = f" for {note[0]} tasks" if note else ""
            yield f"{number(one['median'])} {one['unit']}{few} ᵐ"

    def times(benchmark: str, what: str) -> Iterator[str]:
        for one in _medians(benchmark, what):
            count = round(one["median"])
            yield "once ᵐ" if count == 1 else f"{count} times ᵐ"

    return {
        "one trivial task, warm": _three(time("latency", "one electron, endpoint + 10 ms")),
        "1,000 tasks of 1 s: time beyond the 1 s": _three(
            time("fanout", "time beyond the 1 s, handlers run")
        ),
        "20 MB shared by 100 tasks: sent": _three(times("shared", "bytes sent, in arrays")),
    }


def measured_when() -> str:
    """One sentence with the day and the commit of README's measured rows."""
    sittings: dict[str, list[str]] = {}
    for name in MEASURED:
        on = _known()[name]["measured"]
        commit = f", commit {on['commit']}" if on.get("commit") else ""
        sittings.setdefault(f"{on['date']}{commit}", []).append(f"`{name}`")
    said = "; ".join(f"{when} ({', '.join(names)})" for when, names in sittings.items())
    return f"Measured {said}."


def readme() -> str:
    """The text of README.md, its measured rows and their dates renewed."""
    text = README.read_text("utf-8")
    for name, cells in measured().items():
        row = f"| {' | '.join((name, *cells, 'not measured'))} |"
        text, found = re.subn(rf"^\| {re.escape(name)} \|.*$", row, text, flags=re.M)
        assert found == 1, f"README.md has no row {name!r}, or two"
    return _with_part(text, "measured", measured_when(), README.name)


def at_once() -> str:
    """How fast many calls are, as far as benchmarks/results.json knows."""
    from benchmarks.comparing import number

    known = _known()
    rows = [
        (each["what"], each["contender"], f"{number(each['median'])} {each['unit']}", each["note"])
        for name in ("study", "pool")
        for each in known.get(name, {}).get("measures", [])
    ]
    if not rows:
        return "Not measured yet: `make bench ONLY=study`, `make bench ONLY=pool`."
    return _table(("what", "by", "median", ""), rows)


def transcript(name: str) -> Callable[[], str]:
    """What docs/transcripts.py wrote of a scene."""

    def part() -> str:
        text = (DOCS / "transcripts" / f"{name}.txt").read_text("utf-8")
        return f"```\n{text.rstrip()}\n```"

    return part


Page = dict[str, Callable[[], str]]
PARTS: dict[str, Page] = {
    "executor.md": {"arguments": executor_arguments, "failures": failures},
    "cli.md": {
        **{name: transcript(name) for name in ("configure", "show", "follow", "logs", "cost")},
        **{name: transcript(name) for name in ("doctor", "clean", "event", "laptop")},
        "options": command_options,
    },
    "examples.md": {
        name: transcript(name)
        for name in ("digits", "nitrogen_on_copper", "sublattice", "word_count", "thumbnails")
    },
    "fan-out.md": {"measured": at_once},
    "how-to/sandbox.md": {name: transcript(name) for name in ("demo", "status")},
    "how-to/troubleshooting.md": {
        "messages": messages_by_text,
        "settings": settings_messages,
        "commands": command_messages,
    },
    "reference/questions.md": {"questions": questions},
    "reference/settings.md": {
        "keys": configuration_keys,
        "parameters": stack_parameters,
        "fan_out": fan_out_arguments,
        "pool": pool_arguments,
        "errors": error_classes,
    },
    "reliability.md": {"faults": faults, "figures": figures, "fuzzed": fuzzed},
}


def written(name: str) -> str:
    """The text of the page `name`, its generated parts renewed."""
    text = (DOCS / name).read_text("utf-8")
    for part, make in PARTS[name].items():
        text = _with_part(text, part, make(), name)
    return text


def main() -> None:
    """Write all of it."""
    for name in PARTS:
        (DOCS / name).write_text(written(name), "utf-8")
    README.write_text(readme(), "utf-8")


def _with_part(text: str, part: str, made: str, page: str) -> str:
    """The text of a page with what stands between the part's two marks replaced."""
    begin, end = f"<!-- {part}: generated by docs/generate.py -->", f"<!-- end of {part} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    assert found, f"{page} has no place for {part}"
    return f"{before}{begin}\n{made}\n{end}{after}"


def _known() -> dict[str, Any]:
    """What benchmarks/results.json holds, by benchmark."""
    from benchmarks.report import RESULTS

    known: dict[str, Any] = json.loads(RESULTS.read_text("utf-8"))
    return known


def _medians(benchmark: str, what: str) -> Iterator[dict[str, Any]]:
    """What results.json holds of a quantity: of ours, the public plugin, Lithops."""
    measures = _known()[benchmark]["measures"]
    found = {one["contender"]: one for one in measures if one["what"] == what}
    yield from (found[name] for name in ("ours", "public plugin", "Lithops"))


def _three(cells: Iterator[str]) -> tuple[str, str, str]:
    ours, public, lithops = cells
    return ours, public, lithops


def _messages() -> list[tuple[str, str, str]]:
    from covalent_awslambda_plugin.errors import as_covalents
    from lambda_calls import messages

    rows = []
    for message in messages.ALL:
        situation, _, text = message.row()
        rows.append((situation, type(as_covalents(message.error(""))).__name__, text))
    return rows


def _texts(folder: Path, error: str) -> Iterator[str]:
    """What is said where sources of `folder` make this error; … stands for what varies."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == error and node.args:
                text = re.sub(r"…(\s*…)+", "…", _text(node.args[0]))
                if re.search("[a-z]", text):  # else it is made elsewhere
                    yield text


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "…"


def _list(texts: Iterator[str]) -> str:
    lines = sorted(set(texts), key=lambda text: text.lstrip("… ").lower())
    return "\n".join(f"- {_cell(line)}" for line in lines)


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (commands,) = (x for x in parser._actions if isinstance(x, argparse._SubParsersAction))
    return dict(commands.choices)


def _option(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    value = action.metavar or action.dest.upper()
    if not names:
        return f"`{value}`"
    return names if action.nargs == 0 else f"{names} `{value}`"


def _arguments(documented: Callable[..., Any], defaults: dict[str, Any]) -> str:
    """The arguments of what is called, by its docstring, and the defaults of its signature."""
    signature = inspect.signature(documented).parameters
    rows = []
    for name, meaning in _described(inspect.getdoc(documented) or ""):
        default = signature[name].default
        if default is None:
            default = defaults.get(name) or ""
        rows.append((f"`{name}`", _default(default), meaning))
    return _table(("argument", "default", "meaning"), rows)


def _described(docstring: str) -> list[tuple[str, str]]:
    """The names under `Args:`, each with its text; names that share one are taken apart."""
    _, _, rest = docstring.partition("\nArgs:\n")
    block = re.split(r"\n\S", rest)[0]
    entries = re.split(r"\n {4}(?! )", "\n" + block)[1:]
    found = []
    for entry in entries:
        names, _, meaning = " ".join(entry.split()).partition(": ")
        found += [(name, meaning) for name in names.split(", ")]
    return found


def _default(value: Any) -> str:
    if isinstance(value, type):
        return f"`{value.__name__}`"
    if value == AS_ANSWERED:
        return AS_ANSWERED
    return "" if value in ("", ()) or value is inspect.Parameter.empty else f"`{value}`"


def _allowed(parameter: dict[str, Any]) -> str:
    if "MinValue" in parameter:
        return f"{parameter['MinValue']} to {parameter['MaxValue']}"
    if "AllowedValues" in parameter:
        return ", ".join(map(str, parameter["AllowedValues"]))
    return str(parameter.get("ConstraintDescription", "")).rstrip(".")


def _table(heads: tuple[str, ...], rows: Any) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(x) for x in line) + " |" for line in lines)


def _cell(text: str) -> str:
    text = " ".join(text.split()).replace("|", r"\|")
    # Outside of code, <region> would be HTML.
    return re.sub(r"`[^`]*`|<", lambda x: "&lt;" if x[0] == "<" else x[0], text)


if __name__ == "__main__":
    main()
