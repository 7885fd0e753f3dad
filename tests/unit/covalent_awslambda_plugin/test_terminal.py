"""What electrons and servers have written reaches a terminal as text, not as commands."""

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from covalent_awslambda_plugin.cli import errors, output, show
from covalent_awslambda_plugin.cli.checks import covalent as checks
from covalent_awslambda_plugin.cli.dispatches import Dispatch, Dispatches
from covalent_awslambda_plugin.cli.main import main
from rich.console import Console

HOSTILE = "\x1b]0;title\x07\x1b[2Jshown\rhidden\x9b31m\x08\x00\u202egnp.exe\u2028\tend"
CONTROLS = [x for x in map(chr, range(0xA0)) if not x.isprintable() and x not in "\n\t"]
CONTROLS += ["\u2028", "\u2029", "\u200e", "\u202a", "\u202e", "\u2066", "\u2069"]


def is_harmless(written: str) -> bool:
    return not any(x in written for x in CONTROLS)


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_blocks_and_tables(terminal: bool) -> None:
    """Control characters are shown as escapes, whatever writes them; tabs and words stay."""
    shown = output.Output(as_json=False)
    shown.console = Console(file=io.StringIO(), color_system=None, width=200)
    shown.console._force_terminal = terminal
    shown.line("stdout: ", (HOSTILE, "title"))
    shown.block(f"first\r\n{HOSTILE}\nlast", "  ")
    shown.table(("name",), [(HOSTILE,)])
    written = shown.console.file.getvalue()  # type: ignore[attr-defined]
    assert is_harmless(written)
    assert "\\x1b[2Jshown\\rhidden" in written.replace("\\x0d", "\\r") and "\\u202egnp" in written
    assert "  first\n" in written and "\n  last" in written


def test_json_holds_the_same_value_without_control_characters(capsys: Any) -> None:
    """JSON says the value by its own escapes, on a terminal too."""
    shown = output.Output(as_json=True)
    shown.document({"line": HOSTILE, "name": "Zoë"})
    shown.record({"line": HOSTILE})
    written = capsys.readouterr().out
    assert is_harmless(written) and "Zoë" in written
    assert json.loads(written.splitlines()[-1]) == {"line": HOSTILE}


def test_bar_takes_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lattice's name is no format and no markup for the bar, and moves no cursor."""
    monkeypatch.setattr(show, "_SHORTEST", 0.0)
    name = "{task.nothing} [red]x[/] \x1b[2J"
    dispatch = Dispatch("id", name, "RUNNING", 0.0, 1.0, "", [])
    asked: Any = SimpleNamespace(status=lambda _: "COMPLETED", dispatch=lambda _: dispatch)
    shown = output.Output(as_json=False)
    file = io.StringIO()
    shown.console = Console(file=file, force_terminal=True, color_system=None, width=200)
    assert show._with_bar(asked, dispatch, shown) is dispatch
    assert "{task.nothing} [red]x[/] \\x1b[2J" in file.getvalue()
    assert "\x1b[2J" not in file.getvalue()


def test_errors_of_commands(capsys: Any, tmp_path: Path) -> None:
    """What a command quotes on standard error is harmless, too."""
    assert main(["result", str(tmp_path / "\x1b[2Jnone")]) == 1
    said = capsys.readouterr().err
    assert is_harmless(said) and "\\x1b[2Jnone" in said


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://x/y", "/etc/passwd", "data:,x"])
def test_server_names_no_files_to_read(address: str) -> None:
    """Addresses that Covalent's server hands out are read only where they are a server's."""
    with pytest.raises(errors.CommandError, match="not read"):
        Dispatches("http://127.0.0.1:1").text(address)


def test_doctor_runs_nobody_elses_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another user listens at the server's port, nothing that it names is run."""
    import psutil

    listening = SimpleNamespace(pid=1, status="LISTEN", laddr=SimpleNamespace(port=48008))
    monkeypatch.setattr(psutil, "net_connections", lambda kind: [listening])
    process = SimpleNamespace(
        cmdline=lambda: ["python3"],
        environ=lambda: {"PATH": os.environ["PATH"]},
        uids=lambda: SimpleNamespace(real=os.getuid() + 1),
    )
    monkeypatch.setattr(psutil, "Process", lambda pid: process)
    assert checks._program("http://127.0.0.1:48008") is None
    process.uids = lambda: SimpleNamespace(real=os.getuid())
    assert checks._program("http://127.0.0.1:48008") is not None


def test_command_names_a_request_as_one_word(capsys: pytest.CaptureFixture[str]) -> None:
    """A function chooses the id of its request: in a command that somebody copies, a shell takes
    it for one word."""
    cost = {"invocations": 1, "gb_seconds": 0.1, "dollars": 0.0, "request_ids": ["x; id"]}
    said = {"stdout": "", "stderr": "", "error": "", "seconds": 1.0, "executor": "awslambda"}
    node = {"node": 0, "name": "fail", "cost": cost, **said}
    show._write_node(node, output.Output(as_json=False), "")
    assert "covalent-lambda logs --request 'x; id'\n" in capsys.readouterr().out
