"""Packages: a list of requirements or a requirements file becomes lines of requirements.txt.

The grammar is that of https://packaging.python.org/en/latest/specifications/dependency-specifiers/
less what an image build cannot install. Standard library only: neither cookiecutter nor Jinja
depends on ``packaging``; the tests compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from .refusals import Given, Refused, is_jinja, refuse, shown

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_RELEASE = r"v?(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)*"
_PRE_POST_DEV = (
    r"(?:[-_.]?(?:alpha|beta|preview|pre|rc|a|b|c)[-_.]?[0-9]*)?"
    r"(?:-[0-9]+|[-_.]?(?:post|rev|r)[-_.]?[0-9]*)?"
    r"(?:[-_.]?dev[-_.]?[0-9]*)?"
)
_LOCAL = r"(?:\+[A-Za-z0-9]+(?:[-_.][A-Za-z0-9]+)*)?"
_SPECIFIER = (
    rf"(?:(?:==|!=)\s*{_RELEASE}\.\*"
    rf"|(?:==(?!=)|!=)\s*{_RELEASE}{_PRE_POST_DEV}{_LOCAL}"
    rf"|(?:<=|>=|<|>)\s*{_RELEASE}{_PRE_POST_DEV}"
    rf"|~=\s*v?(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)+{_PRE_POST_DEV}"
    r"|===\s*[A-Za-z0-9.+!_-]+)"
)
_VARIABLE = (
    r"(?:python_version|python_full_version|os_name|sys_platform|platform_release"
    r"|platform_system|platform_version|platform_machine|platform_python_implementation"
    r"|implementation_name|implementation_version|extra)"
)
_TEXT = r"""(?:'[\w .,+*/!()-]*'|"[\w .,+*/!()-]*")"""
_OPERATOR = r"(?:===|==|~=|!=|<=|>=|<|>|in\b|not\s+in\b)"
# RFC 3986 characters less quotes and $, which pip would expand.
_URL = r"https?://[A-Za-z0-9\-._~:/?#\[\]@!&()*+,;=%]+"

NAME = re.compile(_NAME, re.ASCII)
EXTRAS = re.compile(rf"\[\s*(?:{_NAME}(?:\s*,\s*{_NAME})*)?\s*\]", re.ASCII)
SPECIFIERS = re.compile(
    rf"{_SPECIFIER}(?:\s*,\s*{_SPECIFIER})*|\(\s*{_SPECIFIER}(?:\s*,\s*{_SPECIFIER})*\s*\)",
    re.ASCII | re.IGNORECASE,
)
URL = re.compile(_URL)
CONDITION = re.compile(
    rf"(?:{_VARIABLE}|{_TEXT})\s*{_OPERATOR}\s*(?:{_VARIABLE}|{_TEXT})(?!\w)", re.ASCII
)
AT, SEMICOLON, OPENING, CLOSING, AND_OR, SPACE, GAP = (
    re.compile(pattern) for pattern in ("@", ";", r"\(", r"\)", r"(?:and|or)\b", r"\s*", r"[\s,]*")
)
BARE_VERSION = re.compile(r"v?[0-9]+(?:\.[0-9]+)*")
PIN = re.compile(rf"({_NAME})(?:\[.*\])?==([0-9]+(?:\.[0-9]+)*)", re.ASCII)
# 1.02 and 1.2.0 are the same version.
IDLE_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])|(?:\.0+)+$")

# The readers of pip and of the project's own tests recurse.
DEEPEST_MARKER = 20
# First line of a requirements file that was read once and is kept among the answers.
REMEMBERED = "# requirements file"

PACKAGES_REMEDY = (
    "give requirements such as numpy==2.1 pandas>=2,<3 name @ https://... without quotes, "
    "separated by spaces or commas, or the path of a requirements file that ends in .txt"
)
# Often given as a requirement: what it looks like, what it is, and what to do.
MISTAKES = (
    (
        re.compile(r"-"),
        "has an option",
        "leave it out, or give the path of a requirements file that ends in .txt, which may hold "
        "the options that name an index",
    ),
    (
        re.compile(r"(?:[^\s,;@]+\s*@\s*)?(?:git|hg|svn|bzr)\+"),
        "has a version-control address",
        "give that of an archive (https://....zip), as the image has no version-control client",
    ),
    (
        # pip takes a name that ends like an archive's for a file.
        re.compile(
            r"(?!\w\w+:)(?:\.|[^\s,;@]*[/\\]"
            r"|[\w.-]*\.(?:txt|whl|zip|tgz|tar(?:\.(?:gz|bz2|xz))?)(?![\w.-]))"
        ),
        "names a file or folder",
        "paths are taken only for a requirements file that ends in .txt, alone and without quotes",
    ),
)
# What pip accepts in a requirements file and what makes sense inside an image build.
FILE_OPTION = re.compile(
    r"(?:(?:--index-url|-i|--extra-index-url|--find-links|-f)[ =]\s*https?://[^\s'\"]+"
    r"|--trusted-host[ =]\s*[\w.:-]+|--(?:no-binary|only-binary)[ =]\s*[\w.,:-]+"
    r"|--prefer-binary|--pre|--require-hashes)",
    re.ASCII,
)
HASH = re.compile(r"\s--hash[ =]sha(?:256|384|512):[0-9a-f]+")
CONTINUATION = re.compile(r"\\\n\s*")


class Scanner:
    """A position in a text that moves over what is taken."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def take(self, pattern: re.Pattern[str]) -> str:
        """Skip blanks, then take a match of the pattern; empty when there is none."""
        start = self._after(SPACE)
        match = pattern.match(self.text, start)
        if not match or not match[0]:
            return ""
        self.position = match.end()
        return match[0]

    def need(self, pattern: re.Pattern[str], what: str, remedy: str) -> str:
        return self.take(pattern) or self.fail(f"has no {what}", remedy)

    def fail(self, cause: str, remedy: str) -> NoReturn:
        rest = self.text[self.position :].strip()
        place = f"at {shown(rest)}" if rest else "at the end"
        where = "" if rest == self.text.strip() else f" {place}"
        refuse("packages", self.text, f"{cause}{where}", remedy)

    def skip_gap(self) -> bool:
        """Move over blanks and commas; False when a next word follows without either."""
        before, self.position = self.position, self._after(GAP)
        return self.position > before or self.at_end()

    def at_end(self) -> bool:
        return self.position >= len(self.text)

    def _after(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self.text, self.position)
        return match.end() if match else self.position


def requirements(text: str) -> Iterator[str]:
    """Yield each requirement of a text, on one line and evenly spaced."""
    scanner = Scanner(text)
    scanner.skip_gap()
    while not scanner.at_end():
        yield _requirement(scanner)
        if not scanner.skip_gap():
            scanner.fail("cannot be understood", PACKAGES_REMEDY)


def _requirement(scanner: Scanner) -> str:
    _refuse_mistakes(scanner)
    bare_url = _url(scanner)
    if bare_url:
        return bare_url + _marker(scanner)
    name = scanner.need(NAME, "package name", PACKAGES_REMEDY)
    if BARE_VERSION.fullmatch(name):
        cause = f"has the bare version {shown(name)}"
        refuse("packages", scanner.text, cause, "write name==version")
    head = name + re.sub(r"\s", "", scanner.take(EXTRAS))
    if scanner.take(AT):
        address = _url(scanner) or scanner.fail(
            "has no http(s) address", "write one that starts with https:// there"
        )
        return f"{head} @ {address}{_marker(scanner)}"
    versions = re.sub(r"[\s()]", "", scanner.take(SPECIFIERS))
    return head + versions + _marker(scanner)


def _refuse_mistakes(scanner: Scanner) -> None:
    for pattern, cause, remedy in MISTAKES:
        if pattern.match(scanner.text, scanner.position):
            scanner.fail(cause, remedy)


def _url(scanner: Scanner) -> str:
    """Take an address; a comma or semicolon at its end belongs to what follows."""
    taken = scanner.take(URL)
    address = taken.rstrip(",;")
    scanner.position -= len(taken) - len(address)
    return address


def _marker(scanner: Scanner) -> str:
    if not scanner.take(SEMICOLON):
        return ""
    start = scanner.position
    _conditions(scanner)
    return " ; " + " ".join(scanner.text[start : scanner.position].split())


def _conditions(scanner: Scanner) -> None:
    depth = 0
    while True:
        while scanner.take(OPENING):
            depth += 1
        if depth > DEEPEST_MARKER:
            remedy = f"use at most {DEEPEST_MARKER} around a condition"
            scanner.fail("has too many parentheses", remedy)
        remedy = "write one there, or separate packages by spaces or commas only"
        scanner.need(CONDITION, "condition such as python_version < '3.12'", remedy)
        while depth and scanner.take(CLOSING):
            depth -= 1
        if not scanner.take(AND_OR):
            break
    if depth:
        scanner.fail("has no closing parenthesis", "write one there")


def check_packages(value: str, answers: Given) -> str:
    """Return the lines for requirements.txt from a list of requirements or from a file."""
    value = value.strip()
    if is_jinja(value):
        refuse("packages", value, "has braces that belong to no requirement", PACKAGES_REMEDY)
    if _is_text_file(value):
        lines = list(_checked_lines(_read(value), Path(value).name))
        _refuse_two_pins(value, lines)
        # What is kept for a replay or for `cruft update` must do without the file, which may
        # have changed by then, or be on another machine.
        answers["packages"] = "\n".join([REMEMBERED, *lines])
        return "\n".join(lines)
    if value.startswith(REMEMBERED):
        return "\n".join(_checked_lines(value.removeprefix(REMEMBERED)[1:], "remembered file"))
    lines = list(requirements(value))
    _refuse_two_pins(value, lines)
    return "\n".join(lines)


def _is_text_file(value: str) -> bool:
    is_one_line = "\n" not in value and "://" not in value
    return is_one_line and value.lower().endswith(".txt") and not value.startswith("-")


def _refuse_two_pins(value: str, lines: list[str]) -> None:
    """Refuse two versions of a package; whether ranges overlap, pip tells in the image build."""
    pins: dict[str, tuple[str, str]] = {}
    for line in lines:
        content = _content(line)
        listed = [] if FILE_OPTION.fullmatch(content) else requirements(content)
        pin = PIN.fullmatch("".join(listed))
        if not pin:
            continue
        # https://packaging.python.org/en/latest/specifications/name-normalization/
        name = re.sub(r"[-_.]+", "-", pin[1]).lower()
        version = IDLE_ZEROS.sub("", pin[2])
        other, first = pins.setdefault(name, (version, line))
        if version != other:
            cause = f"has both {shown(first)} and {shown(line)}"
            refuse("packages", value, cause, "keep one of the two")


def _read(name: str) -> str:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8-sig")
    # RuntimeError: the home of a user who does not exist.
    except (OSError, UnicodeError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        remedy = "give only the path of a text file in UTF-8"
        refuse("packages", name, f"cannot be read ({reason})", remedy)


def _checked_lines(text: str, source: str) -> Iterator[str]:
    for number, line in enumerate(CONTINUATION.sub(" ", text).splitlines(), 1):
        yield _checked_line(line.rstrip(), f"{shown(source)}, entry {number}")


def _content(line: str) -> str:
    """What stands in a line of a requirements file besides comment and hashes."""
    return HASH.sub("", re.sub(r"(?:^|\s)#.*", "", line)).strip()


def _checked_line(line: str, where: str) -> str:
    """Return a line of a requirements file unchanged if pip can use it inside the image."""
    line = line.expandtabs(1)
    content = _content(line)
    if not line.isprintable() or is_jinja(line):
        refuse("packages", line, f"({where}) has characters no requirement has", "remove them")
    if not content or FILE_OPTION.fullmatch(content):
        return line
    try:
        found = list(requirements(content))
    except Refused:
        found = []
    if len(found) != 1:
        cause = f"({where}) is not one requirement that an image build can install"
        remedy = "keep requirements, https addresses and index options, but no -r, -c, -e or paths"
        refuse("packages", line, cause, remedy)
    return line
