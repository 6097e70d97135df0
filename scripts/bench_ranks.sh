#!/usr/bin/env bash
# Measures the time of a training step with one, two and four ranks on this machine, on random features: one row per number of ranks, for ByteCover
# (width 16) and the compact network, by mpirun. The batch is the same for all, so that two ranks have half of it each.
#
#   cargo build --release -p bc-train --features mpi && scripts/bench_ranks.sh
#
# Figures of a machine with fewer cores than ranks, or with other work on it, mean little, except for what is summed.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(realpath "${BC_BIN:-${CARGO_TARGET_DIR:-target}/release}")
if ! command -v mpirun >/dev/null; then
    echo "skipped: no mpirun here"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Ranks that wait leave the core to others, where there are fewer cores than ranks.
export OMPI_MCA_mpi_yield_when_idle=1
common=(--set train.debug=true --set train.device=cpu --set train.cliques_per_batch=8 --set train.versions_per_clique=2
    --set "train.lengths_s=[20]" --set "train.max_steps=${STEPS:-12}" --threads 1)
# shellcheck disable=SC2034  # read by name below
bytecover=(--set model.width=16 --set "model.blocks=[3,4,6,3]" --set model.variant=plain)
# shellcheck disable=SC2034
compact=(--set model.kind=ring --set model.width=16 --set "model.blocks=[1,2,2,1]" --set model.projection=256 --set model.scale=log-centred)

# The median of the steps' seconds, from the crops in a second; the first step is left out.
median_ms() {
    sed -n 's/.*"kind":"step".*"samples_per_s":\([^,]*\),.*/\1/p' "$1/metrics.jsonl" | tail -n +2 | sort -g |
        awk '{ rates[NR] = $1 } END { printf "%.0f", 1000 * 16 / rates[int((NR + 1) / 2)] }'
}

echo "| network | ranks | step, median | summed in a step | |"
echo "|---|---|---|---|---|"
for network in bytecover compact; do
    declare -n settings=$network
    for ranks in 1 2 4; do
        run=$folder/$network-$ranks
        mpirun -n "$ranks" --oversubscribe --bind-to none "$bin/bc-train" train "${common[@]}" "${settings[@]}" --set "train.run=$run" \
            >"$run.log" 2>&1 || { cat "$run.log"; exit 1; }
        summed=$(sed -n 's/.* ranks: \([0-9.]* MiB\) of gradients summed in each step in \([0-9]*\) buckets, \(.*\) ms, \(.*\) % of it.*/\1 | \3 ms of sums in \2 buckets, \4 % during the backward pass/p' "$run.log")
        echo "| $network | $ranks | $(median_ms "$run") ms | ${summed:-0 | } |"
    done
done
