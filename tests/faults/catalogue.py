"""Small faulty variants of the service, each of which some gate must stop before all visitors have it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.store.schema import HEAD

IN_PRODUCTION = "os.environ['P12_TARGET'] == 'production'"


@dataclass(frozen=True)
class Edit:
    """A piece of a file, found exactly once, and what replaces it; a new file has nothing before."""

    path: str
    before: str
    after: str


@dataclass(frozen=True)
class Fault:
    """A fault: what is wrong, the edits that make it so, and the gate that is expected to stop it.

    ``options`` are further words of ``p12 release``, for a fault that lies in settings. ``says`` is a regular
    expression for what the gate then names.
    """

    name: str
    what: str
    gate: str
    says: str
    edits: tuple[Edit, ...] = ()
    options: tuple[str, ...] = ()


def apply(fault: Fault, checkout: Path) -> None:
    """Make a checkout faulty; raises ValueError for an edit that no longer fits the source."""
    for edit in fault.edits:
        file = checkout / edit.path
        if not edit.before:
            file.write_text(edit.after)
            continue
        text = file.read_text()
        if text.count(edit.before) != 1:
            raise ValueError(
                f"{fault.name}: {edit.path} holds {edit.before!r} {text.count(edit.before)} times"
            )
        file.write_text(text.replace(edit.before, edit.after))


def fail_some(ratio: float) -> tuple[Edit, ...]:
    """Answer a share of production's requests with an error."""
    return (
        Edit(
            "app/factory.py",
            "    return app\n",
            f"""    import os
    import random

    @app.before_request
    def fail_some():
        from flask import request
        wanted = {IN_PRODUCTION} and request.path.startswith('/api/notes')
        return ({{'error': 'server_error'}}, 500) if wanted and random.random() < {ratio} else None

    return app
""",
        ),
    )


def in_production(body: str) -> tuple[Edit, ...]:
    """Have production's requests for notes pass through ``body`` first: ``answer()`` of a ``request``.

    What it returns is the answer, unless that is nothing.
    """
    indented = "\n".join(f"        {line}" for line in body.strip().splitlines())
    return (
        Edit(
            "app/factory.py",
            "    return app\n",
            f"""    import os
    import random
    import threading
    import time
    from flask import Response, request

    first = []
    room = threading.Lock()
    seen = {{}}

    @app.before_request
    def answer():
        if not ({IN_PRODUCTION} and request.path.startswith('/api/notes')):
            return None
        first.append(time.monotonic()) if not first else None
{indented}
        return None

    return app
""",
        ),
    )


def migrating(sql: str) -> Edit:
    """One more migration; without a database it writes nothing down, so every rule lets it pass."""
    return Edit(
        "app/store/migrations/versions/9001_more.py",
        "",
        f"""from alembic import context, op

revision, down_revision = "9001", "{HEAD}"


def upgrade():
    if not context.is_offline_mode():
        op.execute({sql!r})
""",
    )


def naming(columns: str, values: str) -> tuple[Edit, ...]:
    """A new note written with more columns."""
    return (
        Edit("app/notes.py", "reports, author_fp)\nSELECT", f"reports, author_fp, {columns})\nSELECT"),
        Edit("app/notes.py", "%(author)s\nFROM", f"%(author)s, {values}\nFROM"),
    )


RUN_VIEW = """\
    views, is_first = _run(
        service, "view", SET_LOCK_TIMEOUT + VIEW_BY[arm], note_id, arm, fingerprint=fingerprint
    )
"""
COUNT_BY_FINGERPRINT = (
    "    views = count_view(here, flags_in_force(), note_id, fingerprint(request, here.settings))\n"
)
LOG_VIEW = (
    "INSERT INTO view_log (note_id, fingerprint, day, created_at) "
    "SELECT id, %(fingerprint)s, to_char(timezone('utc', now()), 'YYYY-MM-DD'), timezone('utc', now()) "
    "FROM notes WHERE id = %(note_id)s ON CONFLICT (note_id, fingerprint, day) DO NOTHING RETURNING note_id"
)
FLAGS_OF_NO_FILE = "        if self._path is None:\n            return self._loaded.flags\n"
COUNT_VIEW = 'COUNT_VIEW = "SELECT views, is_first FROM p12_count_view_2(%(note_id)s, %(fingerprint)s)"\n'

CATALOGUE = (
    Fault(
        "index_ddl",
        "an index is made sure of in every view: the incident",
        "burst",
        "deadlocks",
        (
            Edit(
                "app/counting.py",
                'COUNT_VIEW = "SELECT',
                'COUNT_VIEW = "CREATE UNIQUE INDEX IF NOT EXISTS view_log_once ON view_log '
                "(note_id, fingerprint, day);\\nSELECT",
            ),
        ),
    ),
    Fault(
        "lost_update",
        "views are read, added to and written back",
        "burst",
        "lost_views|miscounted|counter",
        (
            Edit(
                "app/counting.py",
                RUN_VIEW,
                f"""    bound = {{"note_id": note_id, "fingerprint": fingerprint}}
    is_first = service.database.one({LOG_VIEW!r}, bound) is not None
    seen = service.database.one("SELECT views FROM notes WHERE id = %(note_id)s", bound)
    if seen is None:
        raise NotFoundError
    views = seen[0] + is_first
    service.database.one(
        "UPDATE notes SET views = %(views)s WHERE id = %(note_id)s RETURNING id", {{**bound, "views": views}}
    )
""",
            ),
        ),
    ),
    Fault(
        "unconditional_update",
        "a view is counted whether it is the visitor's first or not",
        "burst",
        "extra_views|miscounted|counter",
        (
            Edit(
                "app/counting.py",
                COUNT_VIEW,
                f'''COUNT_VIEW = """
WITH logged AS ({LOG_VIEW}),
counted AS (UPDATE notes SET views = views + 1 WHERE id = %(note_id)s RETURNING views)
SELECT views, EXISTS (SELECT FROM logged) FROM counted
"""
''',
            ),
        ),
    ),
    Fault(
        "swallowed_lock_timeout",
        "a lock that is not had at once becomes a 500",
        "burst",
        "server_errors",
        (
            Edit(
                "app/counting.py",
                "SET LOCAL lock_timeout = %(lock_timeout_ms)s;",
                "SET LOCAL lock_timeout = 1;",
            ),
            Edit("app/store/retry.py", '    "55P03": "lock not available in time",\n', ""),
        ),
    ),
    Fault(
        "errors_half_percent",
        "0.5 % of production's answers are errors",
        "window",
        "errors",
        fail_some(0.005),
    ),
    Fault(
        "errors_one_percent", "1 % of production's answers are errors", "window", "errors", fail_some(0.01)
    ),
    Fault(
        "errors_two_percent", "2 % of production's answers are errors", "window", "errors", fail_some(0.02)
    ),
    Fault(
        "busy_under_burst",
        "more than two requests at once are sent away",
        "burst",
        "busy_ratio",
        (
            Edit(
                "app/factory.py",
                "    return app\n",
                """    import threading
    from flask import g, request
    from app.errors import BusyError

    room = threading.BoundedSemaphore(2)

    @app.before_request
    def send_away():
        if request.path.startswith('/api/notes'):
            g.inside = room.acquire(blocking=False)
            if not g.inside:
                raise BusyError

    @app.teardown_request
    def leave(_):
        if g.pop('inside', False):
            room.release()

    return app
""",
            ),
        ),
    ),
    Fault(
        "slow_route",
        "a view takes half as long again in production",
        "window",
        "slow|latency",
        (
            Edit(
                "app/web/api.py",
                COUNT_BY_FINGERPRINT,
                f"""    import os
    import time

    began = time.perf_counter()
    views = count_view(here, flags_in_force(), note_id, fingerprint(request, here.settings))
    if {IN_PRODUCTION}:
        time.sleep(0.5 * (time.perf_counter() - began))
""",
            ),
        ),
    ),
    Fault(
        "much_slower_route",
        "a view takes 50 ms longer in production",
        "window",
        "slow|latency",
        (
            Edit(
                "app/web/api.py",
                COUNT_BY_FINGERPRINT,
                f"""    import os
    import time

    if {IN_PRODUCTION}:
        time.sleep(0.05)
    views = count_view(here, flags_in_force(), note_id, fingerprint(request, here.settings))
""",
            ),
        ),
    ),
    Fault(
        "slow_list",
        "a list, one request in seventeen, takes 60 ms longer in production",
        "window",
        "slow|latency",
        in_production("""
if request.method == 'GET' and request.path == '/api/notes':
    time.sleep(0.06)
"""),
    ),
    Fault(
        "slow_tail",
        "five of a hundred of production's answers take 300 ms longer",
        "window",
        "slow|latency|p99",
        in_production("""
if random.random() < 0.05:
    time.sleep(0.3)
"""),
    ),
    Fault(
        "redirect_loop",
        "reading a note sends a visitor to that note, in production",
        "window",
        "redirects",
        in_production("""
if request.method == 'GET' and request.path != '/api/notes':
    return Response(status=302, headers={'Location': request.url})
"""),
    ),
    Fault(
        "lost_route",
        "the list of notes is not found in production",
        "window",
        "404s",
        in_production("""
if request.method == 'GET' and request.path == '/api/notes':
    return {'error': 'not_found'}, 404
"""),
    ),
    Fault(
        "limited_too_early",
        "all visitors of an instance share a limit of 10 requests a second, in production",
        "window",
        "429s",
        in_production("""
with room:
    second = int(time.monotonic())
    seen[second] = seen.get(second, 0) + 1
    if seen[second] > 10:
        return {'error': 'rate_limited'}, 429, {'Retry-After': '1'}
"""),
    ),
    Fault(
        "wrong_body",
        "one view in twenty is answered with 200 and an error, in production",
        "window",
        "wrong bodies",
        in_production("""
if request.path.endswith('/view') and random.random() < 0.05:
    return {'ok': False, 'error': 'db_busy'}
"""),
    ),
    Fault(
        "never_answered",
        "one of a hundred of production's requests is not answered before its visitor gives up",
        "window",
        "given up before an answer|errors|503s|slow|latency",
        in_production("""
if random.random() < 0.01:
    time.sleep(30)
"""),
    ),
    Fault(
        "cut_short",
        "one of twenty of production's lists and notes ends in the middle",
        "window",
        "errors",
        in_production("""
if request.method == 'GET' and random.random() < 0.05:
    half = {'Content-Length': '1000', 'Content-Type': 'application/json', 'Connection': 'close'}
    return Response(iter([b'[{']), headers=half)
"""),
    ),
    Fault(
        "late_errors",
        "from 25 seconds after its first request on, 5 % of production's answers are errors",
        "window",
        "errors",
        in_production("""
if time.monotonic() - first[0] > 25 and random.random() < 0.05:
    return {'error': 'server_error'}, 500
"""),
    ),
    Fault(
        "shared_lock",
        "one view in a hundred keeps the log of views to itself for two seconds, in production",
        "window",
        "both slots suffered|went away|slow answers|503s",
        in_production("""
if request.path.endswith('/view') and random.random() < 0.01:
    from app.service import service
    service().database.one("LOCK TABLE view_log IN EXCLUSIVE MODE; SELECT pg_sleep(2)", {})
"""),
    ),
    Fault(
        "stale_flags",
        "one instance never reads its flags again",
        "slot",
        "flag|generation",
        (
            Edit(
                "app/live_flags.py",
                FLAGS_OF_NO_FILE,
                """        second = "-2." in os.environ.get("P12_INSTANCE", "")
        if self._path is None or (second and self._loaded.key is not None):
            return self._loaded.flags
""",
            ),
        ),
    ),
    Fault(
        "pool_too_large",
        "each instance may open 100 connections and 8 more",
        "preflight",
        "connections|budget",
        options=("--ansible=-e", "--ansible=p12_db_pool_size=100"),
    ),
    Fault(
        "leaked_connections",
        "one view in twenty keeps its connection",
        "burst",
        "busy_ratio|p99_ms|connections",
        (
            Edit(
                "app/counting.py",
                RUN_VIEW,
                f"""    import random

    if random.random() < 0.05:
        KEPT.append(service.database.engine.connect())
{RUN_VIEW}""",
            ),
            Edit("app/counting.py", "LONGEST_REASON = 500\n", "LONGEST_REASON = 500\nKEPT = []\n"),
        ),
    ),
    Fault(
        "memory_leak",
        "every view keeps 400 kB in production",
        "window",
        "resident_mb",
        (
            Edit(
                "app/counting.py",
                RUN_VIEW,
                f"""    import os

    if {IN_PRODUCTION}:
        KEPT.append(b"x" * 400_000)
{RUN_VIEW}""",
            ),
            Edit("app/counting.py", "LONGEST_REASON = 500\n", "LONGEST_REASON = 500\nKEPT = []\n"),
        ),
    ),
    Fault(
        "starts_and_dies",
        "in production a process ends 20 seconds after its start",
        "window",
        "dead_instances|restarts|errors",
        (
            Edit(
                "app/factory.py",
                "    return app\n",
                f"""    import os
    import threading

    if {IN_PRODUCTION}:
        timer = threading.Timer(20, os._exit, (1,))
        timer.daemon = True
        timer.start()
    return app
""",
            ),
        ),
    ),
    Fault(
        "default_unknown_to_the_old",
        "a new default, which only the new release knows how to avoid",
        "way back",
        "no way back .*old goes on: .*404",
        (
            migrating("ALTER TABLE notes ALTER COLUMN deleted_at SET DEFAULT timezone('utc', now())"),
            *naming("deleted_at", "NULL"),
        ),
    ),
    Fault(
        "check_that_the_old_fails",
        "a check constraint that only the new release's notes satisfy",
        "way back",
        "no way back .*old goes on: POST /api/notes answers 500",
        (
            migrating(
                "ALTER TABLE notes ADD COLUMN kind text; "
                "ALTER TABLE notes ADD CONSTRAINT kinded CHECK (kind IS NOT NULL) NOT VALID"
            ),
            *naming("kind", "'plain'"),
        ),
    ),
    Fault(
        "trigger_that_raises",
        "a trigger that refuses the old release's notes",
        "way back",
        "no way back .*old goes on: POST /api/notes answers 500",
        (
            migrating(
                "ALTER TABLE notes ADD COLUMN kind text; "
                "CREATE FUNCTION kinded() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN IF NEW.kind IS NULL THEN RAISE 'no kind'; END IF; RETURN NEW; END $$; "
                "CREATE TRIGGER kinded BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION kinded()"
            ),
            *naming("kind", "'plain'"),
        ),
    ),
    Fault(
        "renamed_value",
        "days are written in another form, so the old release counts a visitor twice",
        "way back",
        "no way back .*old goes on: .*counted twice",
        (
            migrating(
                "DO $$ DECLARE counter text; body text; BEGIN FOREACH counter IN ARRAY "
                "ARRAY['p12_count_view', 'p12_queue_view'] LOOP "
                "body := pg_get_functiondef((counter || '_2')::regproc); "
                "EXECUTE replace(replace(body, counter || '_2', counter || '_9'), 'YYYY-MM-DD', 'YYYYMMDD'); "
                "END LOOP; UPDATE view_log SET day = replace(day, '-', ''); END $$"
            ),
            Edit("app/counting.py", "p12_count_view_2(", "p12_count_view_9("),
            Edit("app/counting.py", "p12_queue_view_2(", "p12_queue_view_9("),
        ),
    ),
    Fault(
        "view_in_a_tables_place",
        "a view, its columns in another order, in the place of a table that the old release writes",
        "way back",
        "no way back .*old goes on: .*like answers 500",
        (
            migrating(
                "ALTER TABLE like_log RENAME TO likes_kept; "
                "CREATE VIEW like_log AS SELECT DISTINCT created_at, fingerprint, note_id FROM likes_kept"
            ),
            Edit("app/counting.py", "INSERT INTO like_log (", "INSERT INTO likes_kept ("),
        ),
    ),
)
BY_NAME: Mapping[str, Fault] = {fault.name: fault for fault in CATALOGUE}
