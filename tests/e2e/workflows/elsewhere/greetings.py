"""A module from another folder than the script's."""


def hello(name: str) -> str:
    return f"Hello, {name}"
