"""What `covalent-lambda doctor` looks at: each check yields its remarks, and changes nothing."""

from collections.abc import Callable, Iterator

from . import account, covalent, function, machine, permissions, settings
from .finding import Remark
from .situation import Situation

#: In the order in which a reader wants to know: what is first explains what follows.
ALL: tuple[tuple[str, Callable[[Situation], Iterator[Remark]]], ...] = (
    ("Settings", settings.check),
    ("Credentials", account.credentials),
    ("Clock", account.clock),
    ("Function", function.state),
    ("Image", function.image),
    ("Bucket", permissions.bucket),
    ("Permissions", permissions.permissions),
    ("Quota", account.quota),
    ("Covalent", covalent.client),
    ("Covalent's server", covalent.server),
    ("Packages in the server", covalent.packages),
    ("Docker and SAM CLI", machine.building),
    ("Open files", machine.open_files),
)
