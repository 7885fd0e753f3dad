"""The one error that the sandbox raises on purpose."""


class SandboxError(Exception):
    """Something outside this package went wrong; the message is all that a user needs to see."""
