"""What can go wrong with a call, named by what the caller can do about it."""

from concurrent.futures import BrokenExecutor


class LambdaCallError(Exception):
    """Base of everything that is raised about a call or its settings.

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
        """All there is to say: remote traceback, message, hint."""
        told = [self.traceback.rstrip("\n")]
        if self.message not in self.traceback:
            told.append(self.message)
        told.append(self.hint)
        return "\n".join(x for x in told if x) + "\n"


class ConfigurationError(LambdaCallError):
    """Names, region, credentials or permissions are wrong: correct the set-up, then run again."""


class CredentialsError(ConfigurationError):
    """AWS does not accept the credentials, or there are none: renew them, then run again."""


class CallRejectedError(LambdaCallError):
    """Nothing of the call ran: versions differ, a module is missing, a blob is damaged."""


class InitializerFailedError(CallRejectedError, BrokenExecutor):
    """The pool's initializer failed in the function: none of its calls can run."""


class CallFailedError(LambdaCallError):
    """The call's own code failed: it raised, exited, or returned what cannot be pickled."""


class ResourceLimitError(LambdaCallError):
    """Memory, time or payload ran out, or throttling lasted too long: raise the limit."""


class UnreachableError(LambdaCallError):
    """AWS could not be reached: look at the network, then run again."""


class OutcomeUnknownError(LambdaCallError):
    """The call may have run, but no answer came: check its effects before running it again."""


class ResultUnreadError(LambdaCallError):
    """The call ran, and its result is kept in the bucket, but it could not be fetched."""


class CannotAnswerError(LambdaCallError):
    """The function does not speak this protocol, or its environment ended abnormally."""


class CallCancelled(Exception):
    """The call was cancelled; nobody waits for its result."""


# After these another attempt has no use: nothing ran and nothing would; or the call ran, and its
# result is kept.
FINAL = (ConfigurationError, CallRejectedError, ResultUnreadError)
