"""A module that the image lacks, and that travels with the electron."""


def triple(number: int) -> int:
    """Three times the number."""
    return 3 * number
