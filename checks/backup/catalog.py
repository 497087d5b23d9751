"""What a database is made of beside its rows: every object by its name, with a digest of what it is.

Read from the catalogs themselves, so that it does not rest on what a dump writes or leaves out.
"""

import hashlib
from typing import Any

from psycopg2 import sql

from checks.base.postgres import rows

# In an order that no database's collation changes.
SORTED = """(SELECT string_agg({0}, ',' ORDER BY {0} COLLATE "C") FROM unnest({1}) AS each)"""


def _owned(owner: str, acl: str = "", kind: str = "") -> str:
    said = f"{owner}::regrole"
    # A privilege that is not noted is the default one.
    held = f"coalesce({acl}, acldefault({kind}, {owner}))"
    return f"{said}, {SORTED.format('each::text', held)}" if acl else said


COLUMNS = f"""
(SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
   a.attidentity, a.attgenerated, a.attstorage,
   nullif(a.attcollation, 0)::regcollation, pg_get_expr(d.adbin, d.adrelid),
   {SORTED.format("each::text", "a.attacl")}), ';' ORDER BY a.attnum)
 FROM pg_attribute a LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
 WHERE a.attrelid = x.oid AND a.attnum > 0 AND NOT a.attisdropped)
"""  # noqa: S608
FLAGS = (
    "relkind, relpersistence, relrowsecurity, relforcerowsecurity, relispopulated, reloptions, relreplident"
)
EXPRESSIONS = ("polqual", "polwithcheck")
DOMAIN = "typtype, format_type(nullif(typbasetype, 0), typtypmod), typnotnull, typdefault"
# Kinds as acldefault takes them.
SCHEMA, TYPE, FUNCTION, WRAPPER, SERVER = "'n'", "'T'", "'f'", "'F'", "'S'"
LABELS = "(SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = x.oid)"
ROLES = SORTED.format("each::regrole::text", "x.polroles")
VIEW = "CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(x.oid) END"
CODE = "CASE WHEN prokind <> 'a' THEN pg_get_functiondef(x.oid) END"
OF_A_RELATION = "CASE relkind WHEN 'S' THEN 's'::\"char\" ELSE 'r' END"
# Each catalog: what is digested of an object in it, and which of them.
CATALOGS = {
    "pg_namespace": (_owned("nspowner", "nspacl", SCHEMA), "nspname = 'public' OR x.object >= 16384"),
    "pg_class": (
        f"{FLAGS}, {VIEW}, {COLUMNS}, {_owned('relowner', 'relacl', OF_A_RELATION)}",
        "relkind NOT IN ('i', 'I', 't')",
    ),
    "pg_index": ("pg_get_indexdef(indexrelid), indisclustered, indisreplident", ""),
    "pg_constraint": ("pg_get_constraintdef(x.oid)", "conparentid = 0 AND contype <> 't'"),
    "pg_trigger": ("pg_get_triggerdef(x.oid), tgenabled", "NOT tgisinternal AND tgparentid = 0"),
    "pg_rewrite": ("pg_get_ruledef(x.oid), ev_enabled", "rulename <> '_RETURN'"),
    "pg_policy": (
        f"polcmd, polpermissive, {ROLES}, {', '.join(f'pg_get_expr({e}, polrelid)' for e in EXPRESSIONS)}",
        "",
    ),
    "pg_statistic_ext": (f"pg_get_statisticsobjdef(x.oid), stxstattarget, {_owned('stxowner')}", ""),
    "pg_proc": (f"{CODE}, proargnames, {_owned('proowner', 'proacl', FUNCTION)}", ""),
    "pg_type": (
        f"{LABELS}, {DOMAIN}, {_owned('typowner', 'typacl', TYPE)}",
        "typtype IN ('d', 'e', 'r') OR typtype = 'b' AND typelem = 0",
    ),
    "pg_publication": (
        f"puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, {_owned('pubowner')}",
        "",
    ),
    "pg_publication_rel": ("''", ""),
    "pg_publication_namespace": ("''", ""),
    "pg_event_trigger": (f"evtevent, evtfoid::regproc, evtenabled, evttags, {_owned('evtowner')}", ""),
    "pg_default_acl": (SORTED.format("each::text", "defaclacl"), ""),
    "pg_extension": ("extnamespace::regnamespace", "true"),
    "pg_foreign_data_wrapper": (f"fdwoptions, {_owned('fdwowner', 'fdwacl', WRAPPER)}", ""),
    "pg_foreign_server": (f"srvoptions, {_owned('srvowner', 'srvacl', SERVER)}", ""),
    "pg_collation": (f"collcollate, collctype, {_owned('collowner')}", ""),
    **dict.fromkeys(("pg_cast", "pg_operator", "pg_opclass", "pg_opfamily", "pg_conversion"), ("''", "")),
    **dict.fromkeys(("pg_ts_config", "pg_ts_dict", "pg_transform", "pg_am", "pg_language"), ("''", "")),
}
MADE_BY_INITDB_TOO = ("pg_namespace", "pg_extension")
# What an extension made comes with it; what initdb made is there, and what is temporary is nobody's.
OBJECTS = """
SELECT o.type || ' ' || o.identity AS name, concat_ws('|', {of}) AS what
FROM (SELECT *, {oid} AS object FROM {catalog}) AS x,
  pg_identify_object('{catalog_of}'::regclass, x.object, 0) AS o
WHERE ({which}) AND x.object NOT IN (SELECT objid FROM pg_depend WHERE deptype = 'e'
                                     AND classid = '{catalog_of}'::regclass)
  AND o.identity !~ '\\mpg_(toast|temp_|toast_temp_)'
"""
COMMENTS = """
SELECT concat_ws(' ', 'comment on', o.type, o.identity) AS name, description AS what
FROM pg_description x, pg_identify_object(classoid, objoid, objsubid) AS o
WHERE (objoid >= 16384 OR (classoid = 'pg_namespace'::regclass AND objoid = to_regnamespace('public')))
  AND classoid <> 'pg_extension'::regclass
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.classid = classoid AND d.objid = objoid)
  AND o.identity !~ '\\mpg_(temp_|toast_temp_)'
"""
MAPPINGS = "SELECT 'user mapping ' || usename || ' on ' || srvname AS name, '' AS what FROM pg_user_mappings"
LARGE_OBJECTS = """
SELECT 'privileges on large objects' AS name,
       string_agg(concat_ws(' ', oid, lomowner::regrole, lomacl), ',' ORDER BY oid) AS what
FROM pg_largeobject_metadata HAVING count(*) > 0
"""


def read_objects(connection: Any) -> dict[str, str]:
    """Digest every object of the database, by its kind and name."""
    there = {found["relname"] for found in rows(connection, "SELECT relname FROM pg_class WHERE oid < 16384")}
    queries = [_query(catalog, *what) for catalog, what in CATALOGS.items() if catalog in there]
    rows(connection, "SET search_path = ''")
    try:
        found = [
            row
            for query in (*queries, COMMENTS, MAPPINGS, LARGE_OBJECTS)
            for row in rows(connection, sql.SQL(query))
        ]
    finally:
        rows(connection, "RESET search_path")
    return {row["name"]: hashlib.sha256(row["what"].encode()).hexdigest()[:12] for row in found}


def _query(catalog: str, of: str, which: str) -> str:
    index = catalog == "pg_index"
    return OBJECTS.format(
        of=of,
        oid="indexrelid" if index else "oid",
        catalog=catalog,
        catalog_of="pg_class" if index else catalog,
        which=which if catalog in MADE_BY_INITDB_TOO else f"x.object >= 16384 AND ({which or 'true'})",
    )
