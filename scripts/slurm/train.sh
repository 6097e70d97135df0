#!/usr/bin/env bash
# Slurm job: trains by one or several processes on any number of nodes. With one process it needs neither srun nor MPI.
# Submitted by submit.sh with the arguments of the programs (--config FILE, --set ...).
set -euo pipefail
. "$BC_ROOT/scripts/slurm/common.sh"
begin
ranks=$((BC_NODES * BC_RANKS_PER_NODE))
words=(train "$@" --threads "$SLURM_CPUS_PER_TASK")
if [ "$ranks" -eq 1 ]; then
    run bc-train "${words[@]}"
else
    # For collectives that find each other by address, as NCCL does.
    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    export MASTER_ADDR MASTER_PORT=$((29500 + SLURM_JOB_ID % 1000))
    launch_args=()
    read -r -a launch_args <<<"$BC_LAUNCH_ARGS"
    program bc-train "${words[@]}"
    case $BC_LAUNCH in
        # A process that ends with an error ends the others. SIGTERM to the launcher goes on to all of them.
        srun) launch=(srun --ntasks="$ranks" --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1) ;;
        mpirun)
            # On SIGTERM Open MPI kills after a second unless told otherwise, before anything is saved. A rank that dies ends the
            # others within twice as long.
            export OMPI_MCA_odls_base_sigkill_timeout=${OMPI_MCA_odls_base_sigkill_timeout:-10}
            export PRTE_MCA_odls_base_sigkill_timeout=${PRTE_MCA_odls_base_sigkill_timeout:-10}
            launch=(mpirun -n "$ranks" --bind-to none)
            ;;
        *)
            log "BC_LAUNCH is \`$BC_LAUNCH\`, but must be srun or mpirun"
            exit 2
            ;;
    esac
    run_line "${launch[@]}" "${launch_args[@]}" "${line[@]}"
fi
note_done train "$@"
