#!/usr/bin/env bash
# Slurm array: task i of BC_SHARDS opens and decodes its part of the files.
# Submitted by submit.sh with the arguments of the programs (--config FILE, --set ...).
set -euo pipefail
. "$BC_ROOT/scripts/slurm/common.sh"
begin
# By number, not `--shard slurm`: where single tasks are submitted again, the array has gaps.
run bc-download-index verify "$@" --shard "$SLURM_ARRAY_TASK_ID/$BC_SHARDS" --threads "$SLURM_CPUS_PER_TASK"
