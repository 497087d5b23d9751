#!/usr/bin/env bash
# Collect what a post-mortem of Paste12 needs, changing nothing: how the service answers, what Postgres is
# doing, the settings in force and the last 24 hours of logs.
#
#   REMOTE_BASE_URL=https://paste12.example DATABASE_URL=postgresql://… tools/collect_prod_evidence.sh
#
# Writes <base>/logs/<timestamp>/ with app_env.txt, http_health.txt, pg_diag.txt, app_last_24h.log,
# pg_last_24h.log and summary.txt; the directory is 0700 and its files 0600. Passwords, tokens and the
# literals of SQL are masked in all of them, and none is ever on a command line.
#
# REMOTE_BASE_URL   http:// or https:// address of the service
# DATABASE_URL      postgresql://, postgres:// or SQLAlchemy's postgresql+psycopg2://
# P12_EVIDENCE_OUT  base directory, ./p12-e2e-out
# P12_APP_UNIT      systemd units of the service, 'paste12* p12-*'; of Postgres: P12_PG_UNIT, 'postgresql*'
# P12_APP_LOG       log files of the service where there is no journal, separated by ':'; of Postgres: P12_PG_LOG
#
# Exits 0 when the service and the database could both be reached, 3 when one could not (what could be
# collected is there all the same), 2 for bad input, 1 when nothing could be written.
set -uo pipefail
umask 077
export LC_ALL=C.UTF-8

STATEMENT_TIMEOUT=5s
HTTP_TIMEOUT_SECONDS=10
PSQL_TIMEOUT_SECONDS=60
LOG_LINES=20000

main() {
    private=$(mktemp -d) || exit 1
    trap 'rm -rf -- "$private"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    : >"$private/secrets"
    read_base_url
    read_database_url
    make_directory
    collect_environment
    collect_health
    collect_database
    collect_log app "${P12_APP_LOG:-}" "${P12_APP_UNIT:-paste12* p12-*}"
    collect_log pg "${P12_PG_LOG:-}" "${P12_PG_UNIT:-postgresql*}"
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

# Split DATABASE_URL as SQLAlchemy does, into the PG* variables of libpq in $pg and the password in $password.
read_database_url() {
    local rest host query='' option
    local accepted='Use postgresql://user:password@host:5432/database; in user and password write @ as %40 and : as %3A.'
    database_url=${DATABASE_URL:-}
    password='' encoded_password=''
    pg=(PGAPPNAME=p12-evidence PGCONNECT_TIMEOUT=5)
    [ -n "$database_url" ] || refuse "DATABASE_URL is not set. $accepted"
    [[ $database_url =~ ^(postgres|postgresql)(\+[a-z0-9_]+)?://(.*)$ ]] ||
        refuse "DATABASE_URL=$(showable "$database_url") is not the address of a Postgres database. $accepted"
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
        refuse "DATABASE_URL names the host $(showable "$host"), which is not host, host:port or [address]:port. $accepted"
    while IFS= read -r -d '&' option; do set_option "${option%%=*}" "${option#*=}"; done <<<"$query&"
    password=$(decode "$encoded_password")
    keep_secret "$password"
    keep_secret "$encoded_password"
    unset DATABASE_URL PGPASSWORD PGSERVICE PGOPTIONS PGPASSFILE
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

collect_environment() {
    local unit pid sources='of this shell'
    {
        printf '# the environment of this shell\n'
        { env -0 && printf 'DATABASE_URL=%s\0' "$database_url"; } | settings
        for unit in $(running_units); do
            pid=$(systemctl show --property MainPID --value "$unit")
            if [ -r "/proc/$pid/environ" ]; then
                sources+=", of $unit"
                printf '\n# the environment of %s (pid %s)\n' "$unit" "$pid"
                settings <"/proc/$pid/environ"
            fi
        done
    } >"$private/environment"
    mask <"$private/environment" >"$out/app_env.txt"
    collected app_env.txt "$sources"
}

running_units() {
    local units
    command -v systemctl >/dev/null || return 0
    read -r -a units <<<"${P12_APP_UNIT:-paste12* p12-*}"
    systemctl list-units --type=service --state=running --plain --no-legend "${units[@]}" 2>/dev/null | awk '{ print $1 }'
}

collect_health() {
    local said outcome=collected
    if ! command -v python3 >/dev/null; then
        unreachable http_health.txt 'python3 is not installed'
        return
    fi
    said=$(probe 2>&1 >"$private/health") || outcome=unreachable
    mask <"$private/health" >"$out/http_health.txt"
    "$outcome" http_health.txt "$said"
}

# Ask for each health page; the answers go to stdout, a line on all of them to stderr. Fails when one gave none.
probe() {
    BASE_URL=$base_url TIMEOUT_SECONDS=$HTTP_TIMEOUT_SECONDS python3 -I -c '
import base64, http.client, os, sys, time, urllib.error, urllib.parse, urllib.request

parts = urllib.parse.urlsplit(os.environ["BASE_URL"])
user, _, host = parts.netloc.rpartition("@")
headers = {"User-Agent": "p12-evidence"}
if user:
    headers["Authorization"] = "Basic " + base64.b64encode(urllib.parse.unquote(user).encode()).decode()
said, failed = [], False
for path in ("/api/health", "/api/health/db", "/healthz"):
    url = parts._replace(netloc=host, path=parts.path + path, query="", fragment="").geturl()
    started = time.monotonic()
    try:
        request = urllib.request.Request(url, headers=headers)
        try:
            answer = urllib.request.urlopen(request, timeout=float(os.environ["TIMEOUT_SECONDS"]))
        except urllib.error.HTTPError as error:
            answer = error
        body = answer.read(65536).decode("utf-8", "replace")
        ms = (time.monotonic() - started) * 1000
        said.append(f"{path} {answer.status} in {ms:.0f} ms")
        print(f"== GET {url}\n{answer.status} {answer.reason} in {ms:.1f} ms\n{answer.headers}{body}\n")
    except (OSError, ValueError, http.client.HTTPException) as error:
        failed = True
        reason = getattr(error, "reason", error)
        said.append(f"{path} no answer: {reason}")
        print(f"== GET {url}\nno answer in {time.monotonic() - started:.1f} s: {reason}\n")
print("; ".join(said), file=sys.stderr)
sys.exit(failed)'
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
    printf '%s\n' '\pset format aligned' '\pset tuples_only off'
    section 'server' 'SELECT version(), pg_postmaster_start_time() AS started, now(), pg_is_in_recovery() AS standby'
    section 'max_connections and timeouts' "SELECT name, setting, unit FROM pg_settings WHERE name IN
        ('max_connections', 'superuser_reserved_connections', 'deadlock_timeout', 'lock_timeout',
         'statement_timeout', 'idle_in_transaction_session_timeout', 'log_lock_waits') ORDER BY name"
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

# --- logs: $1 is app or pg, $2 its log files if there are any, $3 the units of the journal

collect_log() {
    local name=$1_last_24h.log source files lines why
    if [ -n "$2" ]; then
        source=$2
        IFS=: read -r -a files <<<"$2"
        tail -n "$LOG_LINES" -- "${files[@]}" >"$private/log" 2>"$private/why"
    elif command -v journalctl >/dev/null; then
        source="the journal of $3"
        from_journal "$3" >"$private/log" 2>"$private/why"
    else
        absent "$name" "journalctl is not here; name a log file in P12_${1^^}_LOG"
        return
    fi
    last_day <"$private/log" | if [ "$1" = pg ]; then mask_sql; else cat; fi | mask >"$private/masked"
    lines=$(grep -c -v -e '^==> .* <==$' -e '^$' "$private/masked")
    why=$(paste -s -d ';' "$private/why")
    if [ "$lines" = 0 ]; then
        absent "$name" "$source has no line of the last 24 h${why:+ ($why)}; name another source in P12_${1^^}_UNIT or P12_${1^^}_LOG"
        return
    fi
    cp -- "$private/masked" "$out/$name"
    collected "$name" "$lines lines of $source${why:+ ($why)}"
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
