#!/usr/bin/env bash
# Slurm job after the array of features: checks all of it, drops what is out of date, and says what there is.
# Submitted by submit.sh with the arguments of the programs (--config FILE, --set ...).
set -euo pipefail
. "$BC_ROOT/scripts/slurm/common.sh"
begin
run bc-features extract "$@" --threads "$SLURM_CPUS_PER_TASK"
run bc-features status "$@" --shards "$BC_SHARDS"
