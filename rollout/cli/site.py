"""Commands that are named to be typed work on the site that they are about."""

import re
import shlex
from pathlib import Path

INVENTORIES = Path(__file__).resolve().parents[2] / "inventories"
LOCAL = INVENTORIES / "local"

# A verb that takes a site, with its second and third word, and no site named.
COMMAND = re.compile(
    r"\./p12 (maintenance restart [a-z]+|(maintenance|flags|lock)( [a-z]+)?"
    r"|(?!(check|test|completion|replay|host)\b)[a-z]+)(?![\w-])(?![^;,\n]* (-i|--inventory)\b)"
)


def site_name(inventory: Path) -> str:
    """What to type after ``-i`` for an inventory, empty for the one that is meant without it."""
    inventory = inventory.resolve()
    if inventory == LOCAL:
        return ""
    return inventory.name if inventory.parent == INVENTORIES else str(inventory)


def on_site(text: str, site: str) -> str:
    """Text whose commands name the site, where without ``-i`` they would work on another."""
    return COMMAND.sub(lambda found: f"{found[0]} -i {shlex.quote(site)}", text) if site else text
