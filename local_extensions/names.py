"""Names of the project, the region, the function and the bucket."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets

from .refusals import Given, refuse

# Other environments of samconfig.toml append at most "-prod" to every name.
LONGEST_SUFFIX = len("-prod")
FUNCTION_NAME_LIMIT = 64 - LONGEST_SUFFIX
BUCKET_NAME_LIMIT = 63 - LONGEST_SUFFIX
# CloudFormation derives role and repository names from the stack's: 128 would be its own limit.
PROJECT_NAME_LIMIT = 50
RANDOM_BYTES = 4

# https://docs.aws.amazon.com/general/latest/gr/rande.html; all other regions are in "aws".
OTHER_PARTITIONS = {
    "cn-": ("aws-cn", "amazonaws.com.cn"),
    "us-gov-": ("aws-us-gov", "amazonaws.com"),
    "us-iso-": ("aws-iso", "c2s.ic.gov"),
    "us-isob-": ("aws-iso-b", "sc2s.sgov.gov"),
    "us-isof-": ("aws-iso-f", "csp.hci.ic.gov"),
    "eu-isoe-": ("aws-iso-e", "cloud.adc-e.uk"),
    "eusc-": ("aws-eusc", "amazonaws.eu"),
}

RESERVED_BUCKET_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
RESERVED_BUCKET_SUFFIXES = ("-s3alias", "--ol-s3", "--x-s3", "--table-s3")

WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)


def check_project_name(value: str, _answers: Given) -> str:
    """Folder and, with hyphens for underscores, CloudFormation stack."""
    remedy = (
        f"use up to {PROJECT_NAME_LIMIT} letters, digits, hyphens and underscores, "
        "a letter first and a letter or digit last"
    )
    if not re.fullmatch(r"[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?", value):
        refuse("project_name", value, "cannot name a folder and a CloudFormation stack", remedy)
    if len(value) > PROJECT_NAME_LIMIT:
        refuse("project_name", value, f"has {len(value)} characters", remedy)
    if WINDOWS_DEVICES.fullmatch(value):
        refuse("project_name", value, "is a device on Windows, not a folder", "use another name")
    return value


def check_region(value: str, _answers: Given) -> str:
    """Any region with a name like AWS's: new ones come several times a year."""
    direction = "central|(?:north|south)(?:east|west)?|east|west"
    if not re.fullmatch(rf"[a-z]{{2,4}}(?:-[a-z]{{2,4}})?-(?:{direction})-[1-9][0-9]?", value):
        refuse("region", value, "is not the name of an AWS region", "use one such as us-east-1")
    return value


def partition(region: str) -> str:
    """What ARNs in this region start with, after ``arn:``."""
    return _partition_and_suffix(region)[0]


def dns_suffix(region: str) -> str:
    """What the names of AWS's services in this region end with."""
    return _partition_and_suffix(region)[1]


def _partition_and_suffix(region: str) -> tuple[str, str]:
    for prefix, names in OTHER_PARTITIONS.items():
        if region.startswith(prefix):
            return names
    return "aws", "amazonaws.com"


def check_function_name(value: str, _answers: Given) -> str:
    remedy = f"use 1 to {FUNCTION_NAME_LIMIT} letters, digits, hyphens and underscores"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        refuse("function_name", value, "is not a Lambda function name", remedy)
    if len(value) > FUNCTION_NAME_LIMIT:
        cause = f"has {len(value)} characters, and Lambda allows 64 with '-prod' appended"
        refuse("function_name", value, cause, remedy)
    return value


def check_bucket_name(value: str, _answers: Given) -> str:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, less dots."""
    remedy = (
        f"use 3 to {BUCKET_NAME_LIMIT} lower-case letters, digits and hyphens, "
        "a letter or digit first and last"
    )
    if _is_ip_address(value):
        refuse("bucket_name", value, "is an IP address", remedy)
    if "." in value:
        refuse("bucket_name", value, "has a dot, which breaks TLS to the bucket", remedy)
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", value):
        refuse("bucket_name", value, "is not an S3 bucket name", remedy)
    if not 3 <= len(value) <= BUCKET_NAME_LIMIT:
        cause = f"has {len(value)} characters, and S3 allows 3 to 63 with '-prod' appended"
        refuse("bucket_name", value, cause, remedy)
    if value.startswith(RESERVED_BUCKET_PREFIXES) or value.endswith(RESERVED_BUCKET_SUFFIXES):
        reserved = ", ".join((*RESERVED_BUCKET_PREFIXES, *RESERVED_BUCKET_SUFFIXES))
        cause = "starts or ends with letters reserved by S3"
        refuse("bucket_name", value, cause, f"use a name without {reserved}")
    return value


def _is_ip_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def unique_bucket_name(project_name: str) -> str:
    """A bucket name nobody else has: bucket names are shared by all AWS accounts."""
    return f"{_bucket_stem(project_name)}-{secrets.token_hex(RANDOM_BYTES)}"


def suffix(bucket: str, project_name: str) -> str:
    """The end of the project's other names, as unique as the bucket's.

    With the default answers alone, two projects in one account would otherwise be one stack. It
    follows from an answer, so that an update of the project keeps it.
    """
    digits = 2 * RANDOM_BYTES
    default = re.fullmatch(rf"(.*)-([0-9a-f]{{{digits}}})", bucket)
    if default and default[1] == _bucket_stem(project_name):
        return default[2]
    return hashlib.sha256(bucket.encode()).hexdigest()[:digits]


def _bucket_stem(project_name: str) -> str:
    room = BUCKET_NAME_LIMIT - 2 * RANDOM_BYTES - 1
    slug = re.sub(r"[^a-z0-9]+", "-", project_name.lower())
    if slug.startswith(RESERVED_BUCKET_PREFIXES):
        slug = f"covalent-{slug}"
    return slug[:room].strip("-")
