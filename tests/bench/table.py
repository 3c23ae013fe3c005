#!/usr/bin/python3
"""Turns lines "figure NAME VALUE UNIT" into a page for people.

    table.py PART <figures >docs/benchmarks/PART.md

Fails when there is no figure, so that no empty page is written.
"""
import os
import platform
import re
import sys
import time

# What each figure says; a figure without an entry stands in the table as it is.
MEANING = {
    "brain.turn_own": "the brain's own time in a turn of the model's with one "
                      "provision and one execute: all but model, vault, "
                      "sandbox",
    "brain.turn_model": "what the (scripted) model took of it, three calls",
    "brain.turn_vault": "opening the workload for them, in the vault",
    "brain.turn_provision": "the sandbox",
    "brain.turn_execute": "`true` in it",
    "brain.turn_destroy": "its end",
    "brain.post_to_model": "from `POST` of a message to the model's request, "
                           "seen at its server",
    "brain.rss_begin_mb": "RSS before the sessions",
    "brain.rss_idle10k_mb": "RSS with 10,000 idle sessions",
    "brain.rss_waiting_mb": "RSS with 1,000 runs that wait for a streaming "
                            "model",
    "brain.waiting_each_kib": "what each of them takes",
    "brain.long_session_events": "events of each of four sessions",
    "brain.turn_late_vs_early": "a turn at their end beside one at their "
                                "beginning",
    "brain.rss_after_turns_ratio": "RSS after all turns beside that after a "
                                   "tenth of them",
    "brain.turns_per_s": "such turns a second",
    "api.stream_brain_kb": "what one of 5,000 event streams takes of the brain",
    "api.stream_nginx_kb": "and of nginx",
    "api.stream_delay": "from `POST` of a message until 100 listeners of its "
                        "session have it",
    "brain.append_per_s": "appends a second, four connections",
    "brain.append_vs_insert": "beside a bare `INSERT … unnest` of the same row",
    "brain.append_group_vs_single": "appends of 16 sessions in one transaction "
                                    "beside one transaction each",
    "vault.rules_gb_s": "the rule set, on text, one core",
    "vault.rules_corpus_mb": "C headers, libraries and documents that were "
                             "searched with it",
    "vault.rules_false_positives": "found there that is no credential",
    "vault.rules_noted": "found there by shapes that are only noted",
    "sandbox.provision": "`Provision` from a warm pool, over gRPC",
    "sandbox.execute_first": "`Execute` of a first `true` in a new sandbox",
    "sandbox.execute": "`Execute` of a second `true`",
    "sandbox.end_turn": "`EndTurn`: the sandbox is destroyed",
    "sandbox.rpc": "a call that does nothing, for the share of gRPC itself",
    "sandbox.warm": "`Provision` with a workspace of 10 MB and first `true` "
                    "together",
    "sandbox.staggered_warm": "the same, begun each 50 ms",
    "sandbox.burst100": "`Provision`, 100 at once from a pool of 110",
    "sandbox.execute_warm": "`Execute` of `true`, 20 ms after the one before",
    "sandbox.output_gb_s": "2 GB that one command prints, kept in a file and "
                           "sent to a client that throws it away",
    "sandbox.neighbour_vs_alone": "the worst of these: median of `Execute` "
                                  "beside a hog by that alone",
    "sandbox.cold_vs_bwrap": "cold `/bin/true` by that of bwrap, both without "
                             "limits",
    "sandbox.cold_vs_runc": "cold `/bin/true` by that of runc, both with "
                            "limits",
    "sandbox.idle_count": "sandboxes that idle at once, with limits",
    "sandbox.created_per_s": "while these were made, eight at a time",
    "sandbox.idle_kib": "what each takes of the machine's memory, all in",
    "brain.rss_start_mb": "RSS of brain_svc after start",
    "brain.rss_1000_mb": "RSS of brain_svc after 1,000 finished sessions, "
                         "each with one `true` in a sandbox",
    "brain.sessions_per_s": "such sessions a second, four at a time",
    "brain.turn_wall": "a runbook turn with one `true`: from before the POST "
                       "to `session.status_idle` on the event stream",
    "brain.turn": "the same less the command's own `wall_ms`",
    "api.get_rps": "`GET /v1/agents/{id}`: key checked, transcoded, read "
                   "from PostgreSQL",
    "api.proxy_pass_rps": "`proxy_pass` to a unix socket whose nginx answers "
                          "the same bytes",
    "api.get_vs_proxy_pass": "the first by the second; each is the median of "
                             "interleaved rounds",
    "api.health_rps": "`GET /healthz`: nginx alone",
    "vault.fdatasync_p50_us": "8 KiB written and fdatasync on this disk, "
                              "alone: median",
    "vault.fdatasync_p99_us": "the same: 99th percentile",
    "vault.commit_p50_us": "an INSERT of one row by PostgreSQL, one "
                           "connection, committed: median",
    "vault.commit_p99_us": "the same: 99th percentile",
    "vault.authorize_rounds_lost": "rounds of both in which the rate was too "
                                   "much, so that a decision failed",
    "vault.authorize_rps": "decisions asked for at a fixed rate, each with "
                           "its committed audit row",
    "vault.authorize_p50_us": "time of one, one tenant with one credential: "
                              "median",
    "vault.authorize_p99_us": "the same: 99th percentile",
    "vault.authorize_10k_p50_us": "the same with 100 tenants, sessions and "
                                  "audit chains, and 10,000 credentials: "
                                  "median",
    "vault.authorize_10k_p99_us": "the same: 99th percentile",
    "vault.authorize_10k_vs_one": "that median by the one above",
    "vault.authorize_vs_commit": "median of a decision by that of PostgreSQL's "
                                 "commit alone",
    "vault.verify_rows": "rows of the audit chain that was verified",
    "vault.verify_s": "`vault_svc audit verify` over them: wall time",
    "vault.verify_cpu_s": "its own processor time of that",
    "egress.swap_rps": "requests through egress with authorisation, audit "
                       "row, swap and scrub, 32 connections with TLS",
    "egress.plain_rps": "the same through a plain nginx TLS proxy that keeps "
                        "its connections to the host",
    "egress.plain_dial_rps": "the same through one that dials for each "
                             "request",
    "egress.mitmproxy_rps": "the same through mitmproxy, which only swaps",
    "egress.swap_vs_mitmproxy": "the first by that of mitmproxy",
    "egress.swap_one": "a request through egress, one connection",
    "egress.added": "what that takes longer than through plain nginx",
    "egress.scrub_mb_s": "download of 64 MB through egress, scrubbed",
    "egress.scrub_vs_plain": "that by plain nginx",
    "egress.scrub_bridge_mb_s": "the same by curl in a sandbox, through the "
    "bridge",
    "egress.scrub_bridge_vs_plain": "that by curl through plain nginx",
    "egress.rss_1gib_grown_kib": "growth of nginx during a download of 1 GiB",
    "egress.rss_slow_reader_kib": "growth of nginx for each of 100 readers that "
                                  "hardly read",
    "egress.authorize": "a decision with swap and audit row at 2,000 a second",
    "egress.swap_vs_nginx": "the first by the second",
    "egress.swap_vs_nginx_dial": "the first by the third",
}
TITLE = {"brain": "The brain", 
    "rules": "The rule set","sandbox": "Sandboxes", "platform": "The whole platform",
         "egress": "Egress",
         "vault": "The vault"}
RUN = "sudo tests/bench/run.sh build/release"


def machine():
    model = "unknown"
    with open("/proc/cpuinfo") as f:
        m = re.search(r"model name\s*:\s*(.*)", f.read())
        if m:
            model = m.group(1)
    with open("/proc/meminfo") as f:
        kib = int(re.search(r"MemTotal:\s*(\d+)", f.read()).group(1))
    load = os.environ.get("LOAD_BEFORE", "unknown")
    return (f"{os.cpu_count()} × {model}, {kib / 2**20:.0f} GiB, "
            f"Linux {platform.release().split('-')[0]}, load average before "
            f"the run {load}")


def meaning(name):
    if name in MEANING:
        return MEANING[name]
    m = re.match(r"(.*)_(p50|p95|p99)_ms$", name)
    if m and m.group(1) in MEANING:
        return f"{MEANING[m.group(1)]}, {m.group(2)}"
    return ""


def main():
    part = sys.argv[1]
    rows = [line.split() for line in sys.stdin if line.startswith("figure ")]
    if not rows:
        sys.exit(f"table.py: {part} printed no figure")
    print(f"# {TITLE[part]}: measured\n")
    print(f"Repeat with `{RUN} {part}`.\n")
    print(f"{time.strftime('%Y-%m-%d', time.gmtime())}, {machine()}.\n")
    print("| Figure | Value | What |\n|---|---|---|")
    for _, name, value, unit in rows:
        print(f"| `{name}` | {value} {'' if unit == 'ratio' else unit} "
              f"| {meaning(name)} |".replace("  |", " |"))


main()
