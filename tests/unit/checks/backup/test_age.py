"""What may be encrypted to: public keys, and nothing that should be secret."""

import pytest

from checks.backup.age import check_recipients
from checks.base.errors import Misused

PUBLIC = ("age1" + "q" * 58, "ssh-ed25519 AAAAC3Nza me@home", "ssh-rsa AAAA=")


@pytest.mark.parametrize(
    "key",
    ["", "age1", "someone@example", "AGE-SECRET-KEY-1HIDDEN", "-----BEGIN OPENSSH PRIVATE KEY-----HIDDEN"],
)
def test_one_that_is_no_public_key_among_public_ones_is_refused_and_a_private_key_is_never_shown(
    key: str,
) -> None:
    check_recipients(PUBLIC)

    with pytest.raises(Misused, match="public key") as refused:
        check_recipients([*PUBLIC, key])

    assert "HIDDEN" not in str(refused.value)
    assert not any(public in str(refused.value) for public in PUBLIC)
