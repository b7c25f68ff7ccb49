"""How to get what is not installed."""


def bring(extra: str) -> str:
    """What to type for an extra of the package, which is on no index."""
    return f"pip install -e '.[{extra}]' in rrm's checkout brings it"
