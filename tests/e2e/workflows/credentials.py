"""Executors that find their credentials in each documented way; prints what became of each
electron, as JSON.

Usage: python credentials.py FUNCTION BUCKET REGION CREDENTIALS_FILE
"""

import json
import os
import sys

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from report import report_electrons

function_name, bucket, region, credentials_file = sys.argv[1:]

names = {"function_name": function_name, "s3_bucket_name": bucket}
in_file = {**names, "credentials_file": credentials_file}

# As in the public plugin's documentation.
EXECUTORS = {
    "environment": AWSLambdaExecutor(**names, region=region),
    "profile": AWSLambdaExecutor(
        **in_file,
        profile="scientist",
        region=region,
        execution_role="covalent-lambda-role",
        poll_freq=5,
        timeout=60,
    ),
    "profile_with_region": AWSLambdaExecutor(**in_file, profile="scientist"),
    "default_profile": AWSLambdaExecutor(**in_file, profile="default", region=region),
    "other_account": AWSLambdaExecutor(**in_file, profile="stranger", region=region),
    "no_such_profile": AWSLambdaExecutor(**in_file, profile="nobody", region=region),
    "no_such_file": AWSLambdaExecutor(
        **names,
        credentials_file=f"{credentials_file}-missing",
        profile="scientist",
        region=region,
    ),
}


def carry(data: bytes) -> tuple[int, str]:
    return len(data), os.environ["AWS_LAMBDA_FUNCTION_NAME"]


SIZES = {"environment": 5 * 1024 * 1024, "profile": 5 * 1024 * 1024}  # too large for a request


if __name__ == "__main__":
    electrons = {
        name: (ct.electron(carry, executor=executor), (os.urandom(SIZES.get(name, 1)),))
        for name, executor in EXECUTORS.items()
    }
    print(json.dumps(report_electrons(electrons)))
