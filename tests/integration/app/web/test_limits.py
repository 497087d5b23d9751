"""Rate limits hold over all instances, survive a dead or hung Redis, and lift for a rehearsal only."""

import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from flask.testing import FlaskClient
from redis import Redis

from app.web.limit_pass import rehearsal_header
from app.web.limits import REDIS_TIMEOUT_SECONDS
from rollout.host.installed_servers import Servers
from tests.integration.app.instances import metric, slot
from tests.running import Cluster, redis_server, wait_for

MakeClient = Callable[..., FlaskClient]
# What an answer may take beyond the wait for Redis: twenty requests share two cores with everything else.
SLOW_MACHINE_SECONDS = 1.9
DEGRADED = "p12_limiter_degraded"
ONE = {"P12_LIMIT_CREATE": "1 per minute"}


def create(client: FlaskClient, address: str = "1.1.1.1", **headers: str) -> int:
    return client.post(
        "/api/notes", json={"text": "a"}, environ_base={"REMOTE_ADDR": address}, headers=headers
    ).status_code


def test_a_client_over_its_limit_is_told_in_json_when_to_come_back(
    postgres: Cluster, database: str, make_client: MakeClient
) -> None:
    client = make_client(postgres.url(database), **ONE)
    create(client)

    answer = client.post("/api/notes", json={"text": "a"}, environ_base={"REMOTE_ADDR": "1.1.1.1"})

    assert (answer.status_code, answer.get_json()) == (429, {"error": "rate_limited"})
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert create(client, "2.2.2.2") == 201


def test_views_are_limited_per_note_and_in_all(
    postgres: Cluster, database: str, make_client: MakeClient
) -> None:
    limits = {"P12_LIMIT_VIEW_NOTE": "2 per minute", "P12_LIMIT_VIEW": "5 per hour"}
    client = make_client(postgres.url(database), **limits)
    postgres.run("INSERT INTO notes (text) SELECT 'a' FROM generate_series(1, 3)", database)

    statuses = [client.post(f"/api/notes/{note}/view").status_code for note in (1, 1, 1, 2, 2, 3, 3)]

    assert statuses == [200, 200, 429, 200, 200, 200, 429]


def test_the_alias_has_a_limit_of_its_own(postgres: Cluster, database: str, make_client: MakeClient) -> None:
    client = make_client(postgres.url(database), P12_LIMIT_ALIAS="2 per minute")
    postgres.run("INSERT INTO notes (text) VALUES ('a')", database)

    assert [client.post("/api/view?id=1").status_code for _ in range(3)] == [200, 200, 429]
    assert client.post("/api/notes/1/view").status_code == 200


def test_health_and_internal_have_none(make_client: MakeClient) -> None:
    client = make_client("postgresql://127.0.0.1:1/none", **ONE)

    assert {client.get(path).status_code for path in ("/healthz", "/api/health", "/internal/flags") * 50} == {
        200
    }


def test_two_instances_count_together_in_redis(
    postgres: Cluster, database: str, make_client: MakeClient, redis: tuple[int, subprocess.Popen[bytes]]
) -> None:
    storage = {"FLASK_LIMITER_STORAGE_URI": f"redis://127.0.0.1:{redis[0]}/0", **ONE}
    first = make_client(postgres.url(database), **storage)
    assert create(first) == 201
    first.application.extensions["paste12"].close()

    second = make_client(postgres.url(database), **storage)

    assert create(second) == 429
    assert create(second, "2.2.2.2") == 201


def test_the_sixth_alias_view_in_a_minute_is_refused_whoever_answers_and_whatever_the_client_claims(
    postgres: Cluster, database: str, tmp_path: Path, redis: tuple[int, subprocess.Popen[bytes]]
) -> None:
    postgres.run("INSERT INTO notes (text) VALUES ('a')", database)
    as_in_production = {"P12_LIMIT_ALIAS": "", "P12_TRUSTED_HOPS": "1"}
    storage = {"FLASK_LIMITER_STORAGE_URI": f"redis://127.0.0.1:{redis[0]}/1"}

    with slot(postgres.url(database), tmp_path, {**as_in_production, **storage}) as running:
        statuses = [
            requests.post(
                f"{running.urls[number % 2]}/api/view?id=1",
                headers={"X-Forwarded-For": f"6.6.6.{number}, 7.7.7.7"},
                timeout=30,
            ).status_code
            for number in range(6)
        ]

    assert statuses == [200] * 5 + [429]


def test_a_redis_that_dies_leaves_limits_in_memory_until_it_is_back(
    servers: Servers, postgres: Cluster, database: str, make_client: MakeClient, scratch: Path
) -> None:
    with redis_server(servers, scratch / "first") as (port, _):
        storage = f"redis://127.0.0.1:{port}/0"
        client = make_client(postgres.url(database), FLASK_LIMITER_STORAGE_URI=storage, **ONE)
        assert (create(client), metric(client, DEGRADED)) == (201, 0)

    assert [create(client, "3.3.3.3"), create(client, "3.3.3.3")] == [201, 429]
    assert metric(client, DEGRADED) == 1

    with redis_server(servers, scratch / "second", port=port):
        wait_for(lambda: create(client, "4.4.4.4") and not metric(client, DEGRADED), "limits in Redis again")
        assert [create(client, "5.5.5.5"), create(client, "5.5.5.5")] == [201, 429]
        with Redis(port=port, decode_responses=True) as counted:
            assert [key for key in counted.scan_iter() if "5.5.5.5" in key]


def test_a_redis_that_hangs_delays_requests_no_longer_than_its_timeout_and_is_used_again_after(
    servers: Servers, postgres: Cluster, database: str, tmp_path: Path, scratch: Path
) -> None:
    with redis_server(servers, scratch / "hung_redis") as (port, process):
        environ = {
            "FLASK_LIMITER_STORAGE_URI": f"redis://127.0.0.1:{port}/0",
            "P12_LIMIT_LIST": "5 per minute",
        }
        with slot(postgres.url(database), tmp_path, environ, instances=1) as running:
            assert requests.get(f"{running.urls[0]}/api/notes", timeout=30).status_code == 200
            process.send_signal(signal.SIGSTOP)

            # It hangs until the end of this block: each answer shows that nothing waits for it.
            with ThreadPoolExecutor(6) as clients:
                answers = list(clients.map(lambda _: _timed_list(running.urls[0]), range(20)))
            # Those that found out together go free; from then on this process counts.
            assert {status for status, _ in answers} == {200, 429}
            assert max(seconds for _, seconds in answers) < REDIS_TIMEOUT_SECONDS + SLOW_MACHINE_SECONDS
            assert running.metric(DEGRADED) == 1

            process.send_signal(signal.SIGCONT)
            wait_for(lambda: _list(running.urls[0]) and not running.metric(DEGRADED), "limits in Redis again")
            assert running.metric("p12_http_requests_total", status="500") == 0


def _timed_list(url: str) -> tuple[int, float]:
    started = time.monotonic()
    return _list(url), time.monotonic() - started


def _list(url: str) -> int:
    return requests.get(f"{url}/api/notes", timeout=30).status_code


def test_a_rehearsal_passes_the_limits_and_a_forged_one_does_not(
    postgres: Cluster, database: str, make_client: MakeClient
) -> None:
    client = make_client(postgres.url(database), P12_REHEARSAL_SECRET="known", **ONE)
    soon = int(time.time()) + 60

    genuine = {"X-P12-Rehearsal": rehearsal_header("known", "dev", soon)}
    forged = {"X-P12-Rehearsal": rehearsal_header("guess", "dev", soon)}

    assert [create(client, **genuine) for _ in range(5)] == [201] * 5
    assert [create(client, **forged) for _ in range(2)] == [201, 429]


def test_a_rehearsal_lifts_nothing_but_limits(
    postgres: Cluster, database: str, make_client: MakeClient
) -> None:
    client = make_client(postgres.url(database), P12_REHEARSAL_SECRET="known", P12_READ_ONLY="1")
    header = {"X-P12-Rehearsal": rehearsal_header("known", "dev", int(time.time()) + 60)}

    assert create(client, **header) == 503
    assert client.get("/internal/flags", headers={"X-Forwarded-For": "1.1.1.1", **header}).status_code == 404
