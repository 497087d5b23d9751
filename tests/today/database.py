"""The database of the Paste12 that runs today, as its owner has it: what it makes at each start, and rows.

Counters may be null and have no default; logs have their unique keys only once a request has made them; a
guard asks for a log row's note in a stray table, `note`, which today's service alone fills.
"""

TABLES = """
CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text NOT NULL,
    timestamp timestamp NOT NULL DEFAULT now(), expires_at timestamp, likes int, views int, reports int,
    author_fp varchar(64), deleted_at timestamp);
CREATE TABLE IF NOT EXISTS view_log (id serial PRIMARY KEY, note_id int NOT NULL,
    fingerprint varchar(128) NOT NULL, day text NOT NULL, created_at timestamp NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS like_log (id serial PRIMARY KEY, note_id int NOT NULL,
    fingerprint varchar(128) NOT NULL, created_at timestamp NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS report_log (id serial PRIMARY KEY, note_id int NOT NULL,
    fingerprint varchar(128) NOT NULL, reason text, created_at timestamp NOT NULL DEFAULT now());
"""
STRAYS = """
CREATE TABLE IF NOT EXISTS note (id int PRIMARY KEY, text text);
CREATE TABLE IF NOT EXISTS note_view (id serial PRIMARY KEY, note_id int);
"""
# What each request of today's service runs again, in its transaction.
UNIQUE_INDEXES = {
    "view_log": "CREATE UNIQUE INDEX IF NOT EXISTS uq_view_log ON view_log (note_id, fingerprint, day)",
    "like_log": "CREATE UNIQUE INDEX IF NOT EXISTS uq_like_log ON like_log (note_id, fingerprint)",
    "report_log": "CREATE UNIQUE INDEX IF NOT EXISTS uq_report_log ON report_log (note_id, fingerprint)",
}
PARENT_GUARD = """
CREATE OR REPLACE FUNCTION parent_note_guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT FROM note WHERE id = NEW.note_id)
    THEN RAISE EXCEPTION 'note % is not there', NEW.note_id; END IF; RETURN NEW; END $$;
"""
LOG_GUARD = """
CREATE OR REPLACE FUNCTION log_guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.fingerprint IS NULL OR NEW.fingerprint = '' THEN RETURN NULL; END IF; RETURN NEW; END $$;
"""


def trigger(name: str, table: str, function: str) -> str:
    """Make a trigger anew, as today's service does at each start."""
    return (
        f"DROP TRIGGER IF EXISTS {name} ON {table};"
        f"CREATE TRIGGER {name} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {function}();"
    )


LOG_TRIGGERS = LOG_GUARD + "".join(
    trigger(f"trg_{log}_guard", log, "log_guard") for log in ("view_log", "like_log", "report_log")
)
PARENT_TRIGGERS = PARENT_GUARD + trigger("trg_parent_note_guard", "view_log", "parent_note_guard")
AT_START = TABLES + STRAYS + LOG_TRIGGERS + PARENT_TRIGGERS
# Of 400 notes 17 expired within the last days, 9 long ago, and 3 were removed and did not expire.
ROWS = """
INSERT INTO notes (text, expires_at, likes, views, deleted_at)
SELECT 'note ' || n,
       timezone('utc', now()) + CASE WHEN n <= 17 THEN interval '-2 days'
                                     WHEN n <= 26 THEN interval '-90 days' ELSE interval '7 days' END,
       CASE WHEN n % 4 = 0 THEN NULL ELSE 0 END, CASE WHEN n % 3 = 0 THEN NULL ELSE n END,
       CASE WHEN n > 397 THEN timezone('utc', now()) END
FROM generate_series(1, 400) AS n;
INSERT INTO note (id, text) SELECT id, text FROM notes;
INSERT INTO view_log (note_id, fingerprint, day)
SELECT n, 'visitor', '2025-10-28' FROM generate_series(1, 400) n;
INSERT INTO like_log (note_id, fingerprint) SELECT n, 'visitor' FROM generate_series(1, 40) n;
"""
TODAY = AT_START + ROWS
