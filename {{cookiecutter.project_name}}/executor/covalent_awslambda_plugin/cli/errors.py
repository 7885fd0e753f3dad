"""The one error of the commands."""


class CommandError(Exception):
    """A command cannot do what was asked: says why, and what to do."""
