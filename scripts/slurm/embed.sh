#!/usr/bin/env bash
# Slurm array: task i of BC_SHARDS embeds its part of the versions; the last to end puts them together.
# Submitted by submit.sh with the arguments of the programs (--config FILE, --set ...).
set -euo pipefail
. "$BC_ROOT/scripts/slurm/common.sh"
begin
run bc-eval embed "$@" --shard "$SLURM_ARRAY_TASK_ID/$BC_SHARDS" --threads "$SLURM_CPUS_PER_TASK"
