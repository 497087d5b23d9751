"""What stops the first migration, before it changes anything: few and quick questions."""

from collections.abc import Callable, Iterator

from sqlalchemy import Connection

from app.store.migrations.adoption import rows, server, strangers
from app.store.migrations.adoption.obstacle import AdoptionError, Obstacle, Weight

Finder = Callable[[Connection], Iterator[Obstacle]]

STOPPING: tuple[Finder, ...] = (
    server.of_server,
    server.of_owners,
    server.of_rights,
    strangers.not_ours,
    rows.in_the_way_of_migrations,
)


def obstacles(connection: Connection) -> list[AdoptionError]:
    """Return everything that stops the first migration; changes nothing."""
    return [
        AdoptionError(obstacle.error, obstacle.hint)
        for find in STOPPING
        for obstacle in find(connection)
        if obstacle.weight is Weight.STOPS
    ]
