"""Write down the SQL of a release's migrations, without a database and without the release's own say.

A program of its own, ``python -I -B render.py TREE``: it runs the migrations below ``TREE`` with the Alembic
beside it and prints one JSON object, ``{"head": …, "revisions": [{"revision", "file", "sql"}, …]}`` or
``{"error": …}``. The release's ``env.py`` is not asked, so it can leave nothing out.
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import Script, ScriptDirectory

# Newest first; older releases keep theirs at the root of the service.
PLACES = ("app/store/migrations", "app/migrations")


def main(tree: Path) -> dict[str, Any]:
    """Return the head and, in order, the SQL of each revision.

    :raises LookupError: there are no migrations, or no single head.
    """
    place = next((tree / place for place in PLACES if (tree / place / "versions").is_dir()), None)
    if place is None:
        raise LookupError(f"there are no migrations: looked for {' and '.join(PLACES)}")
    sys.path.insert(0, str(tree))
    configuration = Config()
    configuration.set_main_option("script_location", str(place))
    configuration.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(configuration)
    heads = scripts.get_heads()
    if len(heads) != 1:
        raise LookupError(f"there must be one head, and there are {len(heads)}: {', '.join(heads)}")
    revisions = [
        {
            "revision": script.revision,
            "file": str(Path(script.path).relative_to(tree.resolve())),
            "sql": _sql(configuration, scripts, script),
        }
        for script in reversed(list(scripts.walk_revisions()))
    ]
    return {"head": heads[0], "revisions": revisions}


def _sql(configuration: Config, scripts: ScriptDirectory, script: Script) -> str:
    output = io.StringIO()
    before = str(script.down_revision or "base")
    with EnvironmentContext(
        configuration,
        scripts,
        fn=lambda at, _: scripts._upgrade_revs(script.revision, at),
        as_sql=True,
        starting_rev=before,
        destination_rev=script.revision,
    ) as environment:
        environment.configure(dialect_name="postgresql", literal_binds=True, output_buffer=output)
        environment.run_migrations()
    return output.getvalue()


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        try:
            answer = main(Path(sys.argv[1]))
        except Exception as error:  # a migration may do anything; whoever asked gets an answer
            answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer))
    sys.exit("error" in answer)
