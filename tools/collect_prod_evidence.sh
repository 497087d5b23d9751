#!/usr/bin/env bash
# Collect what a post-mortem of Paste12 needs, changing nothing: how the service answers, what Postgres is
# doing, the settings and flags in force and the last 24 hours of logs; with a first reading of it in words.
# Needs bash, curl and psql.
#
#   REMOTE_BASE_URL=https://paste12.example DATABASE_URL=postgresql://… tools/collect_prod_evidence.sh
#
# Writes <base>/logs/<timestamp>/ with app_env.txt, http_health.txt, pg_diag.txt, app_last_24h.log,
# pg_last_24h.log and summary.txt, and where they can be asked app_metrics.txt, pgbouncer.txt and haproxy.txt;
# the directory is 0700 and its files 0600. Passwords, tokens and the literals of SQL are masked in all of
# them, and none is ever on a command line.
#
# REMOTE_BASE_URL   http:// or https:// address of the service
# DATABASE_URL      postgresql://, postgres:// or SQLAlchemy's postgresql+psycopg2://
# P12_EVIDENCE_OUT  base directory, ./p12-e2e-out
# P12_APP_UNIT      systemd units of the service, 'paste12* p12-*'; of Postgres: P12_PG_UNIT, 'postgresql*'
# P12_APP_LOG       log files of the service, separated by ':'; of Postgres: P12_PG_LOG. Else the journal, else
#                   what /var/log has
# P12_APP_PROCESS   what the command lines of the service's processes match, 'gunicorn|app[.]worker'
# P12_APP_TARGET    only processes of this P12_TARGET
# P12_PGBOUNCER_URL address of pgbouncer's console, postgresql://user:password@host:6432/pgbouncer
# P12_HAPROXY_SOCKET path of HAProxy's stats socket
#
# Exits 0 when the service and the database could both be reached, 3 when one could not (what could be
# collected is there all the same), 2 for bad input, 1 when nothing could be written.
set -uo pipefail
umask 077
export LC_ALL=C.UTF-8

STATEMENT_TIMEOUT=5s
# reset_val is what a session begins with; what this script sets for itself is not among it.
TIMEOUTS="SELECT name, reset_val AS setting, unit, source FROM pg_settings WHERE name IN
    ('max_connections', 'superuser_reserved_connections', 'deadlock_timeout', 'lock_timeout', 'statement_timeout',
     'idle_in_transaction_session_timeout', 'idle_session_timeout', 'log_lock_waits') ORDER BY name;"
HTTP_TIMEOUT_SECONDS=10
PSQL_TIMEOUT_SECONDS=60
LOG_LINES=20000

main() {
    private=$(mktemp -d) || exit 1
    trap 'rm -rf -- "$private"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    : >"$private/secrets"
    : >"$private/readings"
    : >"$private/urls"
    read_base_url
    pgbouncer_url=${P12_PGBOUNCER_URL:-}
    if [ -n "$pgbouncer_url" ]; then (read_url P12_PGBOUNCER_URL "$pgbouncer_url") || exit 2; fi
    database_url=${DATABASE_URL:-}
    read_url DATABASE_URL "$database_url"
    env -0 | settings >/dev/null # Masked below, whatever this shell knows.
    unset DATABASE_URL P12_PGBOUNCER_URL
    make_directory
    collect_environment
    collect_health
    collect_database
    collect_pgbouncer
    collect_haproxy
    collect_log app "${P12_APP_LOG:-}" "${P12_APP_UNIT:-paste12* p12-*}"
    collect_log pg "${P12_PG_LOG:-}" "${P12_PG_UNIT:-postgresql*}"
    read_aloud
    printf '%s\n' "$out"
    exit "$status"
}

refuse() { stop 2 "$*"; }
stop() {
    printf '%s\n' "$2" >&2
    exit "$1"
}

status=0
note() { printf '%s\n' "$1" | mask | tee -a "$out/summary.txt"; }
collected() { note "$(printf 'collected  %-16s  %s' "$1" "$2")"; }
absent() { note "$(printf 'missing    %-16s  %s' "$1" "$2")"; }
unreachable() {
    absent "$1" "$2"
    status=3
}

# --- input

read_base_url() {
    base_url=${REMOTE_BASE_URL:-}
    [[ $base_url =~ ^https?://[^/[:space:]]+(/[^[:space:]]*)?$ ]] ||
        refuse "REMOTE_BASE_URL=$(showable "$base_url") is not the address of a service." \
            'Use http:// or https:// and a host, such as https://paste12.example.'
    base_url=${base_url%/}
    if [[ $base_url =~ ://([^/@]*:)?([^/@]*)@ ]]; then keep_secret "${BASH_REMATCH[2]}"; fi
}

# Split a database's address $2, of the setting $1, as SQLAlchemy does, into the PG* variables of libpq in $pg
# and the password in $password.
read_url() {
    local rest host query='' option
    local accepted='Use postgresql://user:password@host:5432/database; in user and password write @ as %40 and : as %3A.'
    password='' encoded_password=''
    pg=(PGAPPNAME=p12-evidence PGCONNECT_TIMEOUT=5)
    [ -n "$2" ] || refuse "$1 is not set. $accepted"
    [[ $2 =~ ^(postgres|postgresql)(\+[a-z0-9_]+)?://(.*)$ ]] ||
        refuse "$1=$(showable "$2") is not the address of a Postgres database. $accepted"
    rest=${BASH_REMATCH[3]}
    if [[ $rest =~ ^([^:/@]*)(:([^@]*))?@(.*)$ ]]; then
        rest=${BASH_REMATCH[4]}
        encoded_password=${BASH_REMATCH[3]}
        set_pg PGUSER "${BASH_REMATCH[1]}"
    fi
    if [[ $rest == *\?* ]]; then query=${rest#*\?} rest=${rest%%\?*}; fi
    host=${rest%%/*}
    if [[ $rest == */* ]]; then set_pg PGDATABASE "${rest#*/}"; fi
    set_hosts "$host" ||
        refuse "$1 names the host $(showable "$host"), which is not host, host:port or [address]:port. $accepted"
    while IFS= read -r -d '&' option; do set_option "${option%%=*}" "${option#*=}"; done <<<"$query&"
    password=$(decode "$encoded_password")
    keep_secret "$password"
    keep_secret "$encoded_password"
    unset PGPASSWORD PGSERVICE PGOPTIONS PGPASSFILE
}

set_pg() { if [ -n "$2" ]; then pg+=("$1=$(decode "$2")"); fi; }

set_hosts() {
    local one hosts='' ports='' list
    IFS=, read -r -a list <<<"$1"
    for one in "${list[@]}"; do
        [[ $one =~ ^(\[([0-9a-fA-F:.%]+)\]|([^]:[]*))(:([0-9]*))?$ ]] || return 1
        hosts+=",${BASH_REMATCH[2]}${BASH_REMATCH[3]}"
        ports+=",${BASH_REMATCH[5]}"
    done
    set_pg PGHOST "${hosts#,}"
    if [[ $ports == *[0-9]* ]]; then set_pg PGPORT "${ports#,}"; fi
}

set_option() {
    local name
    case $1 in
        host | port | user | sslmode | sslrootcert | sslcert | sslkey | sslcrl | gssencmode | \
            target_session_attrs | channel_binding)
            name=${1//_/}
            set_pg "PG${name^^}" "$2"
            ;;
        dbname) set_pg PGDATABASE "$2" ;;
        password) encoded_password=$2 ;;
    esac
}

# Percent-decoding. A backslash is data, and a % that begins no code stays.
decode() {
    printf '%b' "$(sed 's/\\/\\\\/g; s/%\([0-9a-fA-F][0-9a-fA-F]\)/\\x\1/g' <<<"$1")"
}

# --- masking

# Show an address that may hold a password, in whatever form it was given.
showable() {
    local shown=$1 scheme=''
    if [[ $shown =~ ^([A-Za-z0-9+_-]+://)(.*)$ ]]; then scheme=${BASH_REMATCH[1]} shown=${BASH_REMATCH[2]}; fi
    if [[ $shown == *@* ]]; then shown="***@${shown##*@}"; fi
    printf '%s%s\n' "$scheme" "$shown" | sed -E 's/(password|passwd)=.*/\1=***/I'
}

is_secret_name() { [[ $1 == *@(SECRET|PASSW|TOKEN|KEY|SALT|CREDENTIAL|HEADERS)* || $1 == *_PASS ]]; }
is_kept_name() {
    [[ $1 == @(P12|FLASK|RATELIMIT|OTEL|GUNICORN)_* || $1 == *@(DATABASE_URL|REDIS)* || $1 == PG* ||
        $1 == @(PUBLIC_BASE_URL|REMOTE_BASE_URL|REPORT_THRESHOLD|FP_SALT|WEB_CONCURRENCY) ]]
}

# Remember a value that is to be masked wherever it turns up. What also names a user, host or database is
# no secret, and masking a very short one would blot out everything.
keep_secret() {
    local known
    [ "${#1}" -ge 4 ] || return 0
    for known in "${pg[@]-}"; do [ "${known#*=}" != "$1" ] || return 0; done
    printf '%s\n' "$1" >>"$private/secrets"
}

# Mask the known secrets, then what looks like one: in addresses, after a telling name, in telling headers.
mask() {
    awk '
        FILENAME == ARGV[1] { secret[++secrets] = $0; next }
        {
            for (i = 1; i <= secrets; i++) {
                done = ""
                while ((at = index($0, secret[i])) > 0) {
                    done = done substr($0, 1, at - 1) "***"
                    $0 = substr($0, at + length(secret[i]))
                }
                $0 = done $0
            }
            print
        }' "$private/secrets" - |
        sed -E \
            -e 's#://[^/@[:space:]]*@#://***@#g' \
            -e "s/((password|passwd|secret|token|api_?key|salt|signature|rehearsal|credential)[a-z0-9_-]*[\"']?[[:space:]]*[=:][[:space:]]*[\"']?)[^[:space:]\"'&,;]+/\\1***/Ig" \
            -e 's#(basic|bearer)[[:space:]]+[A-Za-z0-9+/=._~-]{8,}#\1 ***#Ig' \
            -e "s/((authorization|cookie)[\"']?[[:space:]]*[=:][[:space:]]*).*/\\1***/I"
}

# Mask the literals of SQL in a server log: in statements with their continuation lines, and the key of a row.
mask_sql() {
    awk -v quote="'" '
        /^[^\t]/ { sql = 0 }
        /STATEMENT:|QUERY:|CONTEXT:|statement:|execute [^:]*:|Process [0-9]+: / { sql = 1; inside = 0 }
        { gsub(/Key \([^)]*\)=\(.*\)/, "Key (…)=(?)") }
        sql {
            # An escaped quote: where the literal ends is uncertain, so the rest of the statement goes.
            if (index($0, "\\" quote)) $0 = substr($0, 1, index($0, quote))
            parts = split($0, part, quote)
            line = inside ? "" : part[1]
            for (i = 2; i <= parts; i++) {
                inside = !inside
                line = line (inside ? quote "?" quote : part[i])
            }
            $0 = line
        }
        { print }'
}

# SQL that shows the query in column $1 without the values in it, in one line of at most 200 characters. Where
# quoting is hard to follow (escapes, comments, dollar quotes, a query cut short) the rest is left out.
masked() {
    sed "s/@query/$1/g" <<'SQL'
left(regexp_replace(regexp_replace(
    CASE WHEN @query ~ E'\\\\|--|/[*]|[$][A-Za-z_]*[$]|"[^"]*\'' OR length(replace(@query, '''', '')) % 2 <> length(@query) % 2
    THEN regexp_replace(@query, E'(\'|--|/[*]|[$][A-Za-z_]*[$]|"[^"]*\').*', '…')
    ELSE regexp_replace(@query, '''[^'']*''', '''?''', 'g') END,
    '(?<![$\w])\d+(\.\d+)?', '?', 'g'), '\s+', ' ', 'g'), 200)
SQL
}

# --- collecting

make_directory() {
    local base=${P12_EVIDENCE_OUT:-./p12-e2e-out}/logs stamp try=1
    stamp=$(date -u +%Y%m%dT%H%M%SZ)
    out=$base/$stamp
    mkdir -p -- "$base" 2>/dev/null
    until mkdir -- "$out" 2>"$private/why"; do
        [ -d "$out" ] || stop 1 "$(cat "$private/why"). Name a directory to write to in P12_EVIDENCE_OUT."
        out=$base/$stamp-$((++try))
    done
    note "evidence of $stamp from $base_url"
}

# Print NAME=value of the settings in a NUL-separated environment; secrets are masked by name, and remembered.
settings() {
    local name value
    while IFS='=' read -r name value; do
        is_kept_name "$name" || continue
        if is_secret_name "$name"; then
            keep_secret "$value"
            value='***'
        elif [[ $value == *@* ]]; then
            value=$(showable "$value")
        fi
        printf '%s=%s\n' "$name" "$value"
    done < <(tr '\n\0' ' \n' | sort)
}

# The settings of each process of the service, as it was started, and the flags and metrics that it tells of.
collect_environment() {
    local pid count=0
    : >"$private/environment"
    : >"$private/metrics"
    for pid in $(service_processes); do
        cp -- "/proc/$pid/environ" "$private/environ" 2>/dev/null || continue
        [ -s "$private/environ" ] || continue
        is_of_target || continue
        count=$((count + 1))
        {
            printf '%s# in force in pid %s: %s\n' "${printed:+$'\n'}" "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c 1-160)"
            settings <"$private/environ"
            tell_of_instance "$(value_of P12_BIND)"
        } >>"$private/environment"
        local printed=yes
        value_of DATABASE_URL >>"$private/urls"
    done
    if [ "$count" = 0 ]; then
        printf '# no process of the service was found here, or none that %s may look into\n' "$(id -un)" >"$out/app_env.txt"
        absent app_env.txt "no process here that $(id -un) may look into matches ${P12_APP_PROCESS:-gunicorn|app[.]worker}"
        return
    fi
    mask <"$private/environment" >"$out/app_env.txt"
    collected app_env.txt "settings and flags in force of $count processes"
    if [ -s "$private/metrics" ]; then
        mask <"$private/metrics" >"$out/app_metrics.txt"
        collected app_metrics.txt 'limiter, pool, view queue and retries of each instance'
    fi
}

# The processes of the service, those alone that nobody of them started: a worker process has its master's settings.
service_processes() {
    local pid parent all
    all=" $(grep -lzE -e "${P12_APP_PROCESS:-gunicorn|app[.]worker}" /proc/[0-9]*/cmdline 2>/dev/null | tr -dc '0-9\n' | tr '\n' ' ')"
    for pid in $all; do
        parent=$(awk '/^PPid:/ { print $2 }' "/proc/$pid/status" 2>/dev/null)
        [[ $all == *" $parent "* || $pid == "$$" ]] || printf '%s\n' "$pid"
    done
}

value_of() { tr '\n\0' ' \n' <"$private/environ" | sed -n "s/^$1=//p"; }
is_of_target() { [ -z "${P12_APP_TARGET:-}" ] || [ "$(value_of P12_TARGET)" = "$P12_APP_TARGET" ]; }

tell_of_instance() {
    local page said
    [ -n "$1" ] || return 0
    for page in flags ready; do
        said=$(curl -sS --noproxy '*' --max-time 5 "http://$1/internal/$page" 2>&1)
        printf '/internal/%s of %s: %s\n' "$page" "$1" "$said"
    done
    said=$(curl -sS --noproxy '*' --max-time 5 "http://$1/internal/metrics" 2>/dev/null | grep -v -e '^#' -e '_bucket{') || return 0
    printf '== %s\n%s\n\n' "$1" "$said" >>"$private/metrics"
    if grep -q '^p12_limiter_degraded.* 1\(\.0\)\?$' <<<"$said"; then
        reading "rate limits of $1 are counted in that process alone: its Redis is away"
    fi
}

reading() { printf '%s\n' "$1" >>"$private/readings"; }

# What there is to see at first sight, below everything else.
read_aloud() {
    local line
    [ -s "$private/readings" ] || reading 'at first sight nothing stands out of what could be asked'
    while IFS= read -r line; do note "reading    $line"; done <"$private/readings"
}

collect_health() {
    local outcome=collected path said=''
    if ! command -v curl >/dev/null; then
        unreachable http_health.txt 'curl is not installed. Type: sudo apt-get install curl'
        return
    fi
    : >"$private/health"
    for path in /api/health /api/health/db /healthz; do
        probe "$path" || outcome=unreachable
        said+="${said:+; }$path $(cat "$private/probed")"
    done
    mask <"$private/health" >"$out/http_health.txt"
    "$outcome" http_health.txt "$said"
}

# Ask for a health page: its answer goes to health, a word on it to probed. Fails when there was none. The address
# may hold a password, so curl reads it from a file.
probe() {
    local code seconds quoted=${base_url//\\/\\\\}
    printf 'url = "%s%s"\n' "${quoted//\"/\\\"}" "$1" >"$private/curl"
    if ! curl -sS --globoff --max-time "$HTTP_TIMEOUT_SECONDS" --user-agent p12-evidence --dump-header "$private/head" \
        --output "$private/body" --write-out '%{http_code} %{time_total}' --config "$private/curl" \
        >"$private/probed" 2>"$private/why"; then
        printf 'no answer: %s' "$(sed 's/^curl: ([0-9]*) //' "$private/why" | paste -s -d ' ')" >"$private/probed"
        printf '== GET %s%s\n%s\n\n' "$base_url" "$1" "$(cat "$private/probed")" >>"$private/health"
        return 1
    fi
    read -r code seconds <"$private/probed"
    seconds=$(awk -v s="$seconds" 'BEGIN { printf "%.0f", s * 1000 }')
    printf '%s in %s ms' "$code" "$seconds" >"$private/probed"
    {
        printf '== GET %s%s\n' "$base_url" "$1"
        tr -d '\r' <"$private/head" | sed -E "1s#^HTTP/[0-9.]+ (.*)#\1 in $seconds ms#"
        head -c 65536 "$private/body"
        printf '\n\n'
    } >>"$private/health"
}

find_psql() {
    command -v psql && return
    find /usr/lib/postgresql -path '*/bin/psql' 2>/dev/null | sort -V | tail -n 1 | grep .
}

collect_database() {
    local psql ended=0 why errors outcome=unreachable
    if ! psql=$(find_psql); then
        unreachable pg_diag.txt 'psql is not installed. Type: sudo apt-get install postgresql-client'
        return
    fi
    diagnostics | ask_database "$psql" >"$private/diag" 2>&1 || ended=$?
    mask <"$private/diag" >"$out/pg_diag.txt"
    why=$(grep -E '^psql: |FATAL:|server closed' "$out/pg_diag.txt" | tail -n 1)
    errors=$(grep -c '^psql:<stdin>:.*ERROR:' "$out/pg_diag.txt")
    case $ended:$errors in
        124:*) why="no end after $PSQL_TIMEOUT_SECONDS s; what came until then is kept" ;;
        0:0) outcome=collected why=$(sed -n 's/^summary: //p' "$out/pg_diag.txt") ;;
        0:*) why="queries that failed: $errors; the file says why" ;;
        *) why=${why:-psql ended with status $ended} ;;
    esac
    "$outcome" pg_diag.txt "$why"
    sed -n 's/^reading: //p' "$out/pg_diag.txt" >>"$private/readings"
    service_timeouts "$psql"
}

# The timeouts as the service's own connections have them, which role, database and pooler may have changed.
service_timeouts() {
    local url
    sort -u "$private/urls" | while IFS= read -r url; do
        printf '\n== timeouts of the service, as %s gives them\n' "$(showable "$url")"
        (read_url 'DATABASE_URL of the service' "$url" && printf '%s\n' "$TIMEOUTS" | ask_database "$1") 2>&1
    done | mask >>"$out/pg_diag.txt"
}

# Run psql on stdin. The password goes through a file that only this user can read, for as long as this runs.
ask_database() (
    export "${pg[@]}"
    if [ -n "$password" ]; then
        export PGPASSFILE=$private/pgpass
        password=${password//\\/\\\\}
        printf '*:*:*:*:%s\n' "${password//:/\\:}" >"$PGPASSFILE"
    fi
    timeout "$PSQL_TIMEOUT_SECONDS" "$1" --no-psqlrc --quiet --no-password --pset pager=off --pset null=- --file -
)

# One read-only transaction a section: so the timeout holds through a transaction pooler, and leaks nowhere.
section() {
    printf '%s\n' "\\echo '== $1'" 'BEGIN READ ONLY;' "SET LOCAL statement_timeout = '$STATEMENT_TIMEOUT';" \
        "$2;" 'COMMIT;'
}

diagnostics() {
    printf '%s\n' '\pset format unaligned' '\pset tuples_only on'
    section 'now' "SELECT format('summary: %s of %s connections, %s locks waiting, %s deadlocks since %s',
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
        current_setting('max_connections'), (SELECT count(*) FROM pg_locks WHERE NOT granted), deadlocks,
        coalesce(stats_reset::text, 'the beginning')) FROM pg_stat_database WHERE datname = current_database()"
    section 'first reading' "$(first_reading)"
    printf '%s\n' '\pset format aligned' '\pset tuples_only off'
    section 'server' 'SELECT version(), pg_postmaster_start_time() AS started, now(), pg_is_in_recovery() AS standby'
    section 'max_connections and timeouts, as this role has them' "${TIMEOUTS%;}"
    section 'settings of roles and databases' "SELECT coalesce(rolname, 'every role') AS role,
        coalesce(datname, 'every database') AS database, setconfig FROM pg_db_role_setting s
        LEFT JOIN pg_roles r ON r.oid = setrole LEFT JOIN pg_database d ON d.oid = setdatabase"
    section 'connections by state' "SELECT datname, usename, application_name, state, count(*)
        FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1, 2, 3, 4 ORDER BY count(*) DESC"
    section 'pg_stat_activity' "SELECT pid, datname, usename, application_name, client_addr, state, wait_event_type,
        wait_event, now() - xact_start AS transaction_age, now() - query_start AS query_age, $(masked query) AS query
        FROM pg_stat_activity WHERE pid <> pg_backend_pid() ORDER BY xact_start NULLS LAST LIMIT 500"
    section 'pg_locks not granted, and who blocks them' "SELECT w.pid, w.locktype, w.mode, w.relation::regclass,
        w.transactionid, now() - a.query_start AS waiting, $(masked a.query) AS query, blocker.pid AS blocked_by,
        b.state AS blocker_state, now() - b.xact_start AS blocker_transaction_age, $(masked b.query) AS blocker_query
        FROM pg_locks w JOIN pg_stat_activity a ON a.pid = w.pid
        LEFT JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS blocker(pid) ON true
        LEFT JOIN pg_stat_activity b ON b.pid = blocker.pid WHERE NOT w.granted ORDER BY waiting DESC LIMIT 500"
    printf '%s\n' '\pset expanded on'
    section 'pg_stat_database' 'SELECT * FROM pg_stat_database WHERE datname IS NOT NULL ORDER BY datname'
}

# SQL that says in words who waits for what, who holds it, and what else stands out.
first_reading() {
    cat <<'SQL'
WITH waiting AS (
    SELECT w.pid, CASE WHEN w.relation IS NOT NULL AND w.locktype <> 'tuple' THEN w.relation::regclass::text
        WHEN w.locktype = 'tuple' THEN 'a row of ' || w.relation::regclass
        WHEN w.locktype = 'advisory' THEN 'an advisory lock'
        ELSE coalesce((SELECT 'a row of ' || t.relation::regclass FROM pg_locks t
            WHERE t.pid = w.pid AND t.locktype = 'tuple' AND t.granted LIMIT 1), 'a transaction to end') END AS object
    FROM pg_locks w WHERE NOT w.granted
), blocked AS (
    SELECT DISTINCT w.object, blocker.pid FROM waiting w, unnest(pg_blocking_pids(w.pid)) AS blocker(pid)
    WHERE blocker.pid NOT IN (SELECT pid FROM waiting)
), counted AS (SELECT object, count(DISTINCT pid) AS sessions FROM waiting GROUP BY object)
SELECT format('reading: %s %s for %s%s', sessions, CASE sessions WHEN 1 THEN 'session waits' ELSE 'sessions wait' END,
    object, coalesce(format('; pid %s holds it, %s, for %s s', holder.pid, CASE
        WHEN state = 'active' THEN 'running ' || coalesce(substring(upper(query) FROM
            '^\s*((?:(?:CREATE|ALTER|DROP|REFRESH)\s+(?:UNIQUE\s+|MATERIALIZED\s+)?)?[A-Z]+)'), 'something')
        WHEN state LIKE 'idle in transaction%' THEN 'idle in its transaction' ELSE coalesce(state, 'unseen') END,
        round(extract(epoch FROM clock_timestamp() - xact_start))), '; who holds it is not to be seen'))
FROM counted LEFT JOIN LATERAL (SELECT a.* FROM blocked b JOIN pg_stat_activity a ON a.pid = b.pid
    WHERE b.object = counted.object ORDER BY a.xact_start LIMIT 1) AS holder ON true
UNION ALL SELECT format('reading: pid %s (%s) has been idle in its transaction for %s s', pid, application_name,
    round(extract(epoch FROM clock_timestamp() - state_change)))
FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND clock_timestamp() - state_change > interval '60 s'
UNION ALL SELECT format('reading: %s of %s connections are taken', taken, most) FROM (SELECT count(*) AS taken,
    current_setting('max_connections')::int AS most FROM pg_stat_activity WHERE backend_type = 'client backend') c
WHERE taken >= 0.8 * most
UNION ALL SELECT format('reading: the oldest queued view has waited for %s s: no worker counts', age) FROM (
    SELECT round(((xpath('/table/row/age/text()', query_to_xml('SELECT coalesce(max(extract(epoch FROM
        clock_timestamp() - queued_at)), 0) AS age FROM ' || q, false, false, '')))[1])::text::numeric) AS age
    FROM to_regclass('view_queue') AS q WHERE q IS NOT NULL AND has_table_privilege(q, 'SELECT')) v WHERE age > 60
SQL
}

# --- pgbouncer and HAProxy

collect_pgbouncer() {
    local psql
    [ -n "$pgbouncer_url" ] || return 0
    psql=$(find_psql) || return 0
    if ! console 'SHOW POOLS;' >"$private/pools" 2>"$private/why"; then
        absent pgbouncer.txt "$(mask <"$private/why" | tail -n 1)"
        return
    fi
    {
        printf '== SHOW POOLS\n' && cat "$private/pools"
        printf '\n== SHOW STATS\n' && console 'SHOW STATS;'
        printf '\n== SHOW CLIENTS, summed\n' && console 'SHOW CLIENTS;' | awk -F '|' '
            NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
            NF > 1 { count[$column["user"] "|" $column["database"] "|" $column["state"] "|" $column["addr"]]++ }
            END { print "clients|user|database|state|addr"; for (key in count) print count[key] "|" key }'
    } 2>&1 | mask >"$out/pgbouncer.txt"
    awk -F '|' '
        NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
        NF > 1 { waiting += $column["cl_waiting"]; if ($column["maxwait"] > most) most = $column["maxwait"] }
        END { if (waiting) printf "%d clients wait in pgbouncer, the longest for %d s\n", waiting, most }' \
        "$private/pools" >>"$private/readings"
    collected pgbouncer.txt 'pools, statistics and clients'
}

console() (
    read_url P12_PGBOUNCER_URL "$pgbouncer_url"
    printf '%s\n' '\pset format unaligned' '\pset footer off' "$1" | ask_database "$psql"
)

# curl is the one client of a Unix socket that is everywhere.
ask_haproxy() {
    printf '%s\n' "$1" | curl -sS --max-time 5 --unix-socket "$P12_HAPROXY_SOCKET" telnet://haproxy
}

collect_haproxy() {
    [ -n "${P12_HAPROXY_SOCKET:-}" ] || return 0
    if ! ask_haproxy 'show stat' >"$private/stat" 2>"$private/why" || ! [ -s "$private/stat" ]; then
        absent haproxy.txt "$P12_HAPROXY_SOCKET does not answer: $(tail -n 1 "$private/why")"
        return
    fi
    {
        printf '== show info\n' && ask_haproxy 'show info'
        printf '\n== show stat\n' && cat "$private/stat"
    } 2>&1 | mask >"$out/haproxy.txt"
    awk -F ',' '
        NR == 1 { for (i = 1; i <= NF; i++) { sub(/^# /, "", $i); column[$i] = i }; next }
        NF > 1 && $column["svname"] == "BACKEND" && $column["qcur"] > 0 { print $column["qcur"] " requests wait in HAProxy" }
        NF > 1 && $column["status"] ~ /^DOWN/ && $column["svname"] != "BACKEND" { print "HAProxy sees " $column["svname"] " down" }' \
        "$private/stat" >>"$private/readings"
    collected haproxy.txt 'info and statistics'
}

# --- logs: $1 is app or pg, $2 its log files if there are any, $3 the units of the journal

collect_log() {
    local name=$1_last_24h.log source why=''
    : >"$private/log"
    if [ -n "$2" ]; then
        from_files "${2//:/$'\n'}"
    elif command -v journalctl >/dev/null; then
        source="the journal of $3"
        from_journal "$3" >"$private/log" 2>"$private/why"
        why=$(paste -s -d ';' "$private/why")
    fi
    [ -n "$2" ] || [ -s "$private/log" ] || from_files "$(usual_logs "$1")"
    if [ -z "${source:-}" ]; then
        absent "$name" "journalctl is not here; name a log file in P12_${1^^}_LOG"
        return
    fi
    last_day <"$private/log" | if [ "$1" = pg ]; then mask_sql; else cat; fi | mask >"$private/masked"
    lines=$(grep -c -v -e '^==> .* <==$' -e '^$' "$private/masked")
    if [ "$lines" = 0 ]; then
        absent "$name" "$source has no line of the last 24 h${why:+ ($why)}; name another source in P12_${1^^}_UNIT or P12_${1^^}_LOG"
        return
    fi
    cp -- "$private/masked" "$out/$name"
    collected "$name" "$lines lines of $source${why:+ ($why)}"
}

# Take the ends of log files, a path a line: sets source, and why with those that cannot be read.
from_files() {
    local file files=()
    while IFS= read -r file; do
        if [ -r "$file" ] && [ ! -d "$file" ]; then files+=("$file"); elif [ -e "$file" ]; then
            why+="${why:+; }$file: Permission denied"
        elif [ -n "$file" ]; then why+="${why:+; }$file: No such file or directory"; fi
    done <<<"$1"
    [ -n "$1" ] && source=${1//$'\n'/:}
    if [ "${#files[@]}" != 0 ]; then tail -n "$LOG_LINES" -- "${files[@]}" >"$private/log" 2>/dev/null; fi
}

# Where logs are on hosts without a journal, or whose services write to files.
usual_logs() {
    if [ "$1" = pg ]; then
        find /var/log/postgresql -name '*.log' -mtime -2 2>/dev/null
    else
        find /var/log -maxdepth 2 \( -path '*paste12*.log' -o -path '*paste12*/*.log' -o -path '*gunicorn*.log' \) \
            -mtime -2 2>/dev/null
    fi
}

from_journal() {
    local unit units wanted=()
    read -r -a units <<<"$1"
    for unit in "${units[@]}"; do wanted+=(--unit "$unit"); done
    timeout 60 journalctl --quiet --no-pager --output short-iso --since '24 hours ago' --lines "$LOG_LINES" "${wanted[@]}"
}

# Drop the lines older than 24 hours, going by the times that lines begin with, in UTC or local time.
last_day() {
    local since here
    since=$(date -u -d '24 hours ago' '+%Y-%m-%d %H:%M:%S')
    here=$(date -d '24 hours ago' '+%Y-%m-%d %H:%M:%S')
    if [[ $here < $since ]]; then since=$here; fi
    awk -v since="$since" '
        BEGIN { kept = 1 }
        /^==> .* <==$/ { kept = 1 }
        match($0, /^\[?[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:[0-9][0-9]:[0-9][0-9]/) {
            at = substr($0, RSTART, RLENGTH)
            sub(/^\[/, "", at)
            sub(/T/, " ", at)
            kept = at >= since
        }
        kept { print }'
}

main
