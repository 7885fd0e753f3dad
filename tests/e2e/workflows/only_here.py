"""A module that the image lacks."""


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number
