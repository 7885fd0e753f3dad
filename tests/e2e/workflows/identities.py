"""Who AWS takes each of the three for that make requests, and what it answers to requests that
nobody's policy allows. Prints it, as JSON."""

import json
from typing import Any

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from report import report

FORBIDDEN = (("s3", "list_buckets"), ("iam", "list_users"), ("lambda", "list_functions"))

deployed = AWSLambdaExecutor()
region = deployed.region


def ask() -> dict[str, Any]:
    """The ARN of whoever asks, and the code of the answer to each forbidden request."""
    import boto3
    from botocore.exceptions import ClientError

    codes = []
    for service, operation in FORBIDDEN:
        try:
            getattr(boto3.client(service, region_name=region), operation)()
            codes.append("ok")
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])
    who = boto3.client("sts", region_name=region).get_caller_identity()["Arn"]
    return {"who": who, "codes": codes}


@ct.electron(executor=deployed)
def in_the_function() -> dict[str, Any]:
    return ask()


@ct.electron(executor="local")
def in_the_server() -> dict[str, Any]:
    return ask()


@ct.lattice
def both() -> Any:
    return {"function": in_the_function(), "server": in_the_server()}


if __name__ == "__main__":
    print(json.dumps({"dispatched": report(ct.dispatch(both)()), "script": ask()}))
