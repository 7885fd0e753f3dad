"""The documented defaults, and which of them can hold data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: The last resort; in a configuration file they count as no statement of the user's, since
#: programs write a plugin's defaults there by themselves.
DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "function_name": "covalent-awslambda-executor",
        "s3_bucket_name": "covalent-lambda-job-resources",
        "region": "us-east-1",
        "profile": "",
        "credentials_file": "",
    }
)

#: Our field -> the name of both the template's parameter and the stack's output.
PARAMETERS: Mapping[str, str] = MappingProxyType(
    {"function_name": "FunctionName", "s3_bucket_name": "BucketName"}
)


def data_bucket(name: str) -> str | None:
    """Return the bucket that data may go into, None if there is none.

    The documented default is a name that anybody may own, so it counts as none, whoever said it.
    The rule looks at the name alone: it holds on any machine and after any journey as JSON.
    """
    return name if name and name != DEFAULTS["s3_bucket_name"] else None
