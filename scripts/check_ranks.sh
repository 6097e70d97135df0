#!/usr/bin/env bash
# Several processes beside one: the differences of two and four ranks from one for both networks and all losses,
# processes beside threads to the last bit, a rank that is killed, SIGTERM, and a run of two ranks that one continues.
# Needs an MPI with mpirun and its headers, and libclang (Debian: libopenmpi-dev openmpi-bin libclang-dev).
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v mpirun >/dev/null || ! command -v mpicc >/dev/null; then
    echo "skipped: no MPI here (Debian: apt-get install libopenmpi-dev openmpi-bin libclang-dev)"
    exit 0
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! cargo test --release -p bc-train --features mpi --test ranks --test mpirun -- --nocapture --test-threads=1 >"$log" 2>&1; then
    cat "$log"
    exit 1
fi
grep -E "differ from one|the same bytes|all ended|SIGTERM at|^test result|^test .* ok|\.\.\. ok" "$log"
