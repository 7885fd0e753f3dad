"""What can go wrong, named by what the caller can do about it.

All of them are Covalent's `TaskRuntimeError`: only then does Covalent keep the electron's stdout
and stderr, and the message reaches the UI through the latter.
"""

from covalent._shared_files.exceptions import TaskRuntimeError


class AWSLambdaExecutorError(TaskRuntimeError):
    """Base of everything that the executor raises about an electron or its settings.

    Args:
        message: what happened, to what, and the likely cause.
        hint: the next step, where it is not part of the message.
        type: qualified name of the remote exception's class; empty if there was none.
        traceback: the remote traceback as text; empty if there was none.
    """

    def __init__(
        self, message: str, *, hint: str = "", type: str = "", traceback: str = ""
    ) -> None:
        super().__init__(f"{message}\n{hint}" if hint else message)
        self.message, self.hint = message, hint
        self.type, self.traceback = type, traceback

    def report(self) -> str:
        """All there is to say, as shown at the end of the electron's stderr."""
        told = [self.traceback.rstrip("\n")]
        if self.message not in self.traceback:
            told.append(self.message)
        told.append(self.hint)
        return "\n".join(x for x in told if x) + "\n"


class ConfigurationError(AWSLambdaExecutorError):
    """Names, region, credentials or permissions are wrong: correct the set-up, then run again."""


class TaskRejectedError(AWSLambdaExecutorError):
    """Nothing of the electron ran: versions differ, a module is missing, a blob is damaged."""


class TaskFailedError(AWSLambdaExecutorError):
    """The electron's own code failed: it raised, exited, or returned what cannot be pickled."""


class ResourceLimitError(AWSLambdaExecutorError):
    """Memory, time or payload ran out, or throttling lasted too long: raise the limit."""


class OutcomeUnknownError(AWSLambdaExecutorError):
    """The electron may have run, but no answer came: check its effects before running it again."""


class CannotAnswerError(AWSLambdaExecutorError):
    """The function does not speak the executor's protocol, or its process ended abnormally."""
