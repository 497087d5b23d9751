"""What is taken as the front door's certificate, and in which words the rest is refused."""

import time
from pathlib import Path

import pytest

from rollout.errors import Refused
from rollout.target import pem
from tests.certificates import certificate

GOOD, KEY = certificate(days=30)
OTHER, OTHER_KEY = certificate()
PAST, PAST_KEY = certificate(days=-1)


def test_a_chain_with_its_key_is_taken_without_what_stands_between() -> None:
    assert pem.checked(b"Bag; attributes\n" + GOOD + b"\n\n" + OTHER + KEY, "it") == GOOD + OTHER + KEY


def test_it_is_known_until_when_it_holds() -> None:
    made, _ = certificate(days=30)

    assert pem.expiry(made) == pytest.approx(time.time() + 30 * 86400, abs=900)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"", "no certificate"),
        (KEY, "no certificate"),
        (GOOD, "without its private key"),
        (GOOD + OTHER_KEY, "key is not that of its first certificate"),
        (PAST + PAST_KEY, "expired on"),
        (GOOD.replace(b"M", b"N") + KEY, "cannot be used"),
        (GOOD + OTHER * 40 + KEY, "limit 16000"),
    ],
)
def test_what_could_not_serve_is_refused_in_words(given: bytes, said: str) -> None:
    with pytest.raises(Refused, match=said):
        pem.checked(given, "/etc/front.pem")


def test_a_file_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(GOOD * 2000)
    for path, said in ((tmp_path / "gone", "not there"), (tmp_path, "no file"), (tmp_path / "large", "more")):
        with pytest.raises(Refused, match=said):
            pem.read(path)
