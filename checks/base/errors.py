"""What can go wrong with a check itself, as opposed to what it finds.

``CannotMeasure``: the world did not answer, so the verdict is unknown (exit 4).
``Misused``: the check was asked for something it cannot do (exit 2).
Both messages say what happened, with values, and then what to do; neither ever holds a secret.
"""


class CannotMeasure(Exception):
    """The target, the database or a file did not give what was to be measured."""


class Misused(Exception):
    """An option or a setting is missing or wrong."""


def error_text(error: Exception) -> str:
    """An exception in few words, for a report."""
    return f"{type(error).__name__}: {error}"[:200]
