"""The errors an engineer sees.

``RolloutError``
    something was refused or went wrong; ``str()`` says what, ``hint`` what to type next.
``Refused``
    a rule said no and nothing was changed: wrong order, no evidence, somebody else's lock.
``Unproven``
    something was changed but what must be true afterwards could not be shown.
"""


class RolloutError(Exception):
    """What happened, with values, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Refused(RolloutError):
    """A rule said no; nothing was changed."""


class Unproven(RolloutError):
    """A change was made and its proof is missing."""
