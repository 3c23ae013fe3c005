#!/bin/bash
# Prints docs/config.md from the option tables of the binaries in $1.
set -euo pipefail
cat <<'EOF'
# Configuration

Every option can stand in a file (`--config=FILE`, lines `name = value`, `#`
comments) or on the command line (`--name=value`; `-` and `_` are the same in
names). Later wins: default, file, environment variable, command line. Unknown
names are fatal. `--check` reads everything and stops; `--help` explains.

This page is made by `make docs` from the tables in `<svc>_conf.c`; `make lint`
fails when an option is missing here. What `make run` reads from its environment
stands at the top of `supervisor/run.sh`; the directives of the nginx module are
in [directives.md](directives.md); `deployment.conf` is explained in
`supervisor/deployment.conf`.

EOF
for b in brain_svc vault_svc vault_keeper vault_bridge sandbox_svc sandbox_launcher bridge; do
    "$1/$b" --reference
    echo
done
