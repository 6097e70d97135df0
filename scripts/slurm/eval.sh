#!/usr/bin/env bash
# Slurm job: what the array of embeddings left to do, figures, calibration and the report.
# Submitted by submit.sh with the arguments of the programs (--config FILE, --set ...).
set -euo pipefail
. "$BC_ROOT/scripts/slurm/common.sh"
begin
run bc-eval run "$@" --threads "$SLURM_CPUS_PER_TASK"
BC_STATUS=$(mktemp)
trap 'rm -f "$BC_STATUS"' EXIT
note_done embed "$@"
note_done eval "$@"
