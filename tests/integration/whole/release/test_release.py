"""The main job, end to end, on real Postgres, pgbouncer, Redis and HAProxy. The tests build on each other.

Visitors use production's front door from the first release to the last test; they fail only where a test
makes the release itself answer wrongly.
"""

import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections import Counter

import pytest

from tests.faults.__main__ import is_caught
from tests.faults.catalogue import BY_NAME
from tests.faults.shipping import ship

# A release takes one or two minutes; on a machine that others use too, several times that.
pytestmark = pytest.mark.timeout(1500)

APP = "app/web/health.py"
MARK = "# one more line\n"
FAULT = """    @app.before_request
    def fail_in_production():
        import os
        from flask import request
        if os.environ['P12_TARGET'] == 'production' and request.path.startswith('/api/notes'):
            return {'error': 'server_error'}, 500
        return None

    return app
"""
# Where a release is ended on its way to production: what it then says, and how.
STAGES = [
    ("artifact .* built", "kill_session"),
    ("staging: .* goes to", "interrupt"),
    ("staging: .* is ready on", "kill_session"),
    ("staging: 100 % on", "interrupt"),
    ("staging: burst: passed", "kill_session"),
    ("staging: certificate of .* written", "interrupt"),
    ("production: certificate of .* accepted", "kill_session"),
]
ONCE_IN_STAGING = ("traffic.shifted", "finished", "certificate.written")


def text_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def changes(site):
    """What the journal says was done to production; who held its lock meanwhile changed nothing."""
    entries = site.host("production", "journal")["entries"]
    return [entry for entry in entries if not entry["event"].startswith("lock.")]


def test_a_first_release_proves_itself_and_says_how_to_go_back(site):
    done = site.p12("release")

    said = text_of(done)
    assert done.returncode == 0, said
    release = site.git("rev-parse", "HEAD")[:12]
    assert site.live("production") == site.live("staging") == release
    assert "burst: passed: 100, 200, 300 at once: 0 deadlocks" in said
    assert "nothing to lose yet" in said
    assert "./p12 rollback" in said
    assert site.status()["visitors"]["requests"] > 0
    assert site.failed_requests() == []


def test_there_is_nothing_to_roll_back_to_before_the_first_release(site):
    done = site.p12("rollback")

    assert done.returncode != 0
    assert "there is nothing before it" in text_of(done)
    assert site.status()["shares"] in ({"blue": 100, "green": 0}, {"blue": 0, "green": 100})


def test_the_instances_run_as_an_unprivileged_user_and_hold_no_secret_in_their_arguments(site):
    secrets = json.loads((site.root / "production" / "secrets.json").read_text()).values()
    listed = subprocess.run(["ps", "-eo", "user:20,args"], capture_output=True, text=True, check=True).stdout
    ours = [line for line in listed.splitlines() if f"{site.root}/" in line]

    assert ours
    if os.geteuid() == 0:
        assert all(not line.startswith("root") for line in ours), ours
    assert not [line for line in listed.splitlines() if any(secret in line for secret in secrets)]


def test_internal_pages_are_refused_at_the_front_door(site):
    front = site.status()["address"]

    for path in ("/internal/flags", "//internal/metrics", "/%69nternal/ready", "/./internal/flags"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(front + path)
        assert refused.value.code == 404
        refused.value.close()


def test_an_unknown_branch_is_refused_with_the_branches_there_are(site):
    done = site.p12("release", "--branch", "no-such-branch")

    assert done.returncode != 0
    assert "no-such-branch is not a branch, tag or commit here. Branches: " in text_of(done)
    assert "main" in text_of(done)


def test_a_release_goes_up_in_steps_while_its_branch_moves_and_a_second_one_is_refused(site, eventually):
    before = site.live()
    release = site.commit("feature", APP, lambda text: text + MARK)

    running = site.start("release", "--branch", "feature")
    eventually(lambda: site.status()["window"], 600, running)
    moved_to = site.commit("feature", APP, lambda text: text + MARK)
    second = site.p12("release", "--branch", "feature")
    said = running.communicate(timeout=900)[0]

    assert running.returncode == 0, said
    assert second.returncode != 0
    assert re.search(r"locked by \S+@\S+ \(session .+\) since \d{4}-", text_of(second)), text_of(second)
    assert "./p12 lock break" in text_of(second)
    assert "backup" in said
    assert "restored and equal" in said
    for share in (5, 25, 100):
        assert f"{share} % on {release}" in said
    assert site.live() == release != moved_to
    assert site.status()["rollout"]["from_release"] == before
    assert site.failed_requests() == []


def test_releasing_it_again_changes_nothing(site):
    release, before = site.live(), changes(site)

    done = site.p12("release", "--branch", release)

    assert done.returncode == 0, text_of(done)
    assert changes(site) == before
    assert site.live() == release


def test_rollback_moves_traffic_back_lowers_the_flags_and_fails_nobody(site):
    left = site.status()
    before = left["rollout"]["from_release"]

    done = site.p12("rollback")

    assert done.returncode == 0, text_of(done)
    said = text_of(done)
    assert f"back on {before}" in said
    assert "P12_ENABLE_ADVISORY_LOCKS off" in said
    now = site.status()
    assert now["live"]["release"] == before
    assert now["shares"][left["live"]["slot"]] == 0
    assert now["slots"][left["live"]["slot"]]["raised"] == []
    assert now["slots"][now["live"]["slot"]]["raised"] == ["P12_ENABLE_ADVISORY_LOCKS"]
    assert left["live"]["release"] in now["quarantined"]
    assert site.failed_requests() == []


def test_rolling_back_twice_stays_where_it_is(site):
    live = site.live()

    done = site.p12("rollback")

    assert done.returncode == 0, text_of(done)
    assert "already on" in text_of(done)
    assert site.live() == live


def test_a_release_that_was_rolled_back_is_refused_without_a_reason(site):
    (quarantined,) = site.status()["quarantined"]

    done = site.p12("promote", "--branch", quarantined)

    assert done.returncode != 0
    assert "is quarantined" in text_of(done)
    assert "--why" in text_of(done)
    assert site.live() != quarantined


def test_a_killed_controller_loses_nothing_and_the_same_command_goes_on(site, eventually, kill_session):
    (release,) = site.status()["quarantined"]
    words = ("release", "--branch", release, "--why", "it was not the cause")
    running = site.start(*words)
    eventually(lambda: (site.status()["window"] or {}).get("share") == 25, 600, running)

    kill_session(running)
    window = eventually(lambda: site.status()["window"] is None, 180)
    done = site.p12(*words)

    assert window
    assert done.returncode == 0, text_of(done)
    assert "5 % on" not in text_of(done).replace("25 % on", "")
    assert site.live() == release
    assert site.failed_requests() == []


def test_flags_are_set_and_turned_off_at_every_instance_by_one_command(site):
    live = site.status()["live"]["slot"]

    done = site.p12("flags", "set", "P12_ENABLE_VIEW_QUEUE=1")
    assert done.returncode == 0, text_of(done)
    assert site.status()["slots"][live]["flags"]["P12_ENABLE_VIEW_QUEUE"] == "1"

    done = site.p12("flags", "off", "P12_ENABLE_VIEW_QUEUE")
    assert done.returncode == 0, text_of(done)
    status = site.status()
    assert status["slots"][live]["flags"]["P12_ENABLE_VIEW_QUEUE"] == "0"
    generations = {i["generation"] for i in status["instances"] if i["slot"] == live}
    assert generations == {status["slots"][live]["generation"]}


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("P12_ENABLE_VIEW_QUEUE=yes", "P12_ENABLE_VIEW_QUEUE=yes is not a flag value"),
        ("P12_NO_SUCH_FLAG=1", "P12_NO_SUCH_FLAG is not a flag. Accepted: P12_ENABLE_ADVISORY_LOCKS"),
    ],
)
def test_a_wrong_flag_is_refused_and_nothing_changes(site, pair, said):
    before = site.status()["slots"]

    done = site.p12("flags", "set", pair)

    assert done.returncode != 0
    assert said in text_of(done)
    live = site.status()["live"]["slot"]
    assert site.status()["slots"][live]["flags"] == before[live]["flags"]


def test_a_release_that_does_not_start_never_leaves_staging(site):
    live, staged = site.live(), site.live("staging")
    site.commit("broken", "app/wsgi.py", lambda text: text + '\nraise RuntimeError("no config")\n')

    done = site.p12("release", "--branch", "broken")

    assert done.returncode != 0
    assert "no config" in text_of(done)
    assert (site.live(), site.live("staging")) == (live, staged)
    assert site.failed_requests() == []


@pytest.mark.slow
def test_ended_on_the_way_to_production_the_same_command_goes_on_and_does_nothing_twice(site, request):
    live = site.live()
    release = commit_faulty(site)

    for line, end in STAGES:
        running = site.start("release", "--branch", "faulty")
        site.await_line(running, line)
        request.getfixturevalue(end)(running)

    assert site.live() == live
    entries = site.host("staging", "journal")["entries"]
    done = Counter(entry["event"] for entry in entries if release_of(entry) == release)
    assert {event: done[event] for event in ONCE_IN_STAGING} == dict.fromkeys(ONCE_IN_STAGING, 1)
    assert site.failed_requests() == []


def commit_faulty(site):
    return site.commit("faulty", "app/factory.py", lambda text: text.replace("    return app\n", FAULT))


def release_of(entry):
    return entry["data"].get("release") or entry["data"].get("certificate", {}).get("release")


def test_the_guard_turns_a_bad_release_back_with_no_controller_alive(site, eventually, kill_session):
    live = site.live()
    release = site.git("rev-parse", "faulty")[:12] if "faulty" in site.git("branch") else commit_faulty(site)
    running = site.start("release", "--branch", "faulty")
    eventually(lambda: site.status()["window"], 600, running)

    kill_session(running)
    eventually(lambda: release in site.status()["quarantined"], 180)

    status = site.status()
    assert status["live"]["release"] == live
    assert status["shares"][status["live"]["slot"]] == 100
    assert "errors" in status["quarantined"][release]
    last = [
        entry for entry in site.host("production", "journal")["entries"] if entry["event"] == "rolled_back"
    ]
    assert last[-1]["owner"] == "guard"


def test_a_release_that_the_guard_turned_back_is_refused_before_anything_changes(site):
    (release,) = site.status()["quarantined"]
    before = changes(site)

    done = site.p12("release", "--branch", release)

    assert done.returncode != 0
    assert f"{release} was rolled back" in text_of(done)
    assert "--why" in text_of(done)
    assert changes(site) == before


@pytest.mark.parametrize("name", ["pool_too_large", "index_ddl", "much_slower_route"])
def test_a_fault_of_the_catalogue_is_stopped_by_its_gate_in_its_words_and_no_visitor_meets_it(site, name):
    fault = BY_NAME[name]

    outcome = ship(site, fault)

    assert is_caught(outcome, fault.gate, fault.says), outcome
    assert outcome.requests > 0
    # Whom the old release sends away, because a disk stood still under all these tests, met no fault.
    faulty = site.git("rev-parse", f"fault-{name}")[:12]
    assert [failed for failed in site.visitors()["failures"] if failed["release"] == faulty] == []


def test_preflight_names_what_is_missing_and_nothing_is_changed(site):
    live = site.live()
    pid = redis_pid(site)
    os.kill(pid, signal.SIGSTOP)
    try:
        done = site.p12("release")
    finally:
        os.kill(pid, signal.SIGCONT)

    assert done.returncode != 0
    assert "Redis does not answer" in text_of(done)
    assert site.live() == live


def redis_pid(site):
    port = json.loads((site.root / "production" / "target.json").read_text())["ports"]["redis"]
    found = ["pgrep", "-f", f"redis-server 127.0.0.1:{port}"]
    return int(subprocess.run(found, capture_output=True, text=True, check=True).stdout.split()[0])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
@pytest.mark.parametrize("name", ["artifacts", "backups"])
def test_a_full_directory_stops_the_release_before_anything_changed_and_names_itself(site, name):
    before, directory = changes(site), site.root / "production" / name
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", directory], check=True)
    try:
        done = site.p12("release")
    finally:
        subprocess.run(["umount", directory], check=True)

    assert done.returncode != 0
    assert f"{directory} has 8 MB free" in text_of(done)
    assert changes(site) == before


def test_evidence_is_collected_for_a_target_without_its_secrets(site):
    done = site.p12("evidence")

    assert done.returncode == 0, text_of(done)
    (logs,) = (site.root / "production" / "evidence" / "logs").iterdir()
    names = {path.name for path in logs.iterdir()}
    assert {"app_env.txt", "http_health.txt", "pg_diag.txt", "app_last_24h.log", "pg_last_24h.log"} <= names
    secrets = json.loads((site.root / "production" / "secrets.json").read_text()).values()
    written = "".join(path.read_text(errors="replace") for path in logs.iterdir())
    assert not [secret for secret in secrets if secret in written]


def test_a_verified_backup_comes_back_beside_the_live_database(site):
    backup = site.host("production", "restore")["backups"][-1]["id"]

    done = site.p12("restore", "--backup", backup, "--into", "copy_of_it")

    assert done.returncode == 0, text_of(done)
    assert "equal to what was dumped" in text_of(done)


def test_every_view_that_was_answered_200_is_counted_exactly_once(site):
    counted = site.host("production", "counters")

    assert counted["verdict"] == "passed", counted
    assert site.status()["visitors"]["requests"] > 500


def test_servers_restart_behind_a_pause_and_no_visitor_fails(site):
    failed = site.failed_requests()
    settings = site.root / "production" / "postgres" / "postmaster.pid"
    before = settings.read_text().split()[0]

    done = [site.p12("maintenance", "restart", server) for server in ("postgres", "pgbouncer")]

    said = "".join(map(text_of, done))
    assert [each.returncode for each in done] == [0, 0], said
    assert settings.read_text().split()[0] != before
    assert re.search(r"Postgres restarted; clients waited \d\.\d\d s at most", said), said
    assert "no connection was closed" in said
    assert [e["event"] for e in site.host("production", "journal")["entries"]].count("maintained") == 2
    assert site.failed_requests() == failed


def test_a_restore_over_the_live_database_goes_on_where_it_was_killed(site, kill_session):
    assert site.p12("backup", "--target", "staging").returncode == 0
    made = site.host("staging", "restore")["backups"][-1]
    backup = made["id"]
    assert made["release"] == site.live("staging")
    words = ("restore", "--target", "staging", "--backup", backup, "--over", "--confirm", "staging")

    running = site.start(*words)
    site.await_line(running, "writes get 503 read_only")
    kill_session(running)
    status = site.status("staging")
    done = site.p12(*words)

    assert status["restoration"]["backup"] == backup
    assert f"./p12 restore --target staging --backup {backup} --over" in status["say"]
    assert done.returncode == 0, text_of(done)
    assert re.search(r"\d+ notes and \d+ views newer than that will be lost", text_of(done)), text_of(done)
    assert f"{backup} is live after" in text_of(done)
    after = site.status("staging")
    assert after["restoration"]["ended"] == "done"
    assert all("P12_READ_ONLY" not in slot["raised"] for slot in after["slots"].values() if slot)
    assert after["restoration"]["replaced"] in site.host("staging", "restore")["databases"]


def test_provisioning_a_second_time_changes_nothing(site):
    done = site.p12("provision", "--ansible=--diff")

    assert done.returncode == 0, text_of(done)
    assert recap(done) == {"production-local": 0, "staging-local": 0}


def test_a_check_says_what_provisioning_would_change_and_changes_nothing(site):
    settings = site.root / "production" / "target.json"
    before = settings.read_text()
    options = ("--check", "--diff", "-e", "p12_keep_releases=7")

    done = site.p12("provision", *(f"--ansible={option}" for option in options))

    assert done.returncode == 0, text_of(done)
    assert re.search(r'^\+ .*"keep_releases": "?7', done.stdout, re.MULTILINE), done.stdout
    assert sum(recap(done).values()) > 0
    assert settings.read_text() == before


def test_a_check_of_a_release_changes_nothing(site):
    before = [site.host(target, "journal")["entries"] for target in ("staging", "production")]

    done = site.p12("release", "--branch", "feature", "--ansible=--check", "--ansible=--diff")

    assert done.returncode == 0, text_of(done)
    assert [site.host(target, "journal")["entries"] for target in ("staging", "production")] == before


def recap(done):
    """How many tasks changed something, by host, as Ansible sums it up."""
    lines = re.findall(r"^(\S+-local)\s+: .*changed=(\d+)", done.stdout, re.MULTILINE)
    return {host: int(count) for host, count in lines}


def test_a_taken_port_is_named_with_its_holder_and_a_previous_run_is_taken_up_again(site):
    assert site.p12("down").returncode == 0
    port = json.loads((site.root / "production" / "target.json").read_text())["ports"]["haproxy"]
    with socket.create_server(("127.0.0.1", port)):
        done = site.p12("provision")
    assert done.returncode != 0
    assert f"port {port}, wanted for haproxy, is held by" in text_of(done)
    assert f"pid {os.getpid()}" in text_of(done)

    live = site.host("production", "journal")["entries"]
    done = site.p12("provision")
    assert done.returncode == 0, text_of(done)
    assert site.host("production", "journal")["entries"][: len(live)] == live
    assert site.live() is not None


def test_down_stops_everything_and_a_second_one_finds_nothing(site):
    assert site.p12("down").returncode == 0
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in listed.splitlines() if f"{site.root}/" in line]

    again = site.p12("down")

    assert again.returncode == 0
    assert "nothing was running" in again.stdout
