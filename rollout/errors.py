"""The errors an engineer sees, each with the exit status that the command ends with.

``RolloutError``
    something was refused or went wrong; ``str()`` says what, ``hint`` what to type next. 1.
``Refused``
    a rule said no and nothing was changed: wrong order, no evidence, somebody else's lock. 5.
``Failed``
    what a release must pass said no: it goes no further, and what had traffic is turned back. 3.
``Undecided``
    what a release must pass could not tell, or somebody else goes on with it: a person decides. 4.
``Unproven``
    something was changed but what must be true afterwards could not be shown. 4.
"""

from typing import ClassVar


class RolloutError(Exception):
    """What happened, with values, and what to do about it."""

    status: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Refused(RolloutError):
    """A rule said no; nothing was changed."""

    status = 5


class Failed(Refused):
    """A check said no; the release goes no further."""

    status = 3


class Undecided(Refused):
    """A check could not tell; a person decides."""

    status = 4


class Unproven(RolloutError):
    """A change was made and its proof is missing."""

    status = 4
