#!/usr/bin/env bash
# Slurm job: lists and folders of audio become the index; the demo's songs are made first.
# Submitted by submit.sh with the arguments of the programs (--config FILE, --set ...).
set -euo pipefail
. "$BC_ROOT/scripts/slurm/common.sh"
begin
if [ "$(key index source "$@")" = synth ]; then
    run bc-download-index synth "$@" --threads "$SLURM_CPUS_PER_TASK"
fi
run bc-download-index build "$@"
note_done index "$@"
