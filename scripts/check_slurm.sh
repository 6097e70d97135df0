#!/usr/bin/env bash
# Runs the demo's stages on a real Slurm cluster and compares the figures with those of a plain run:
#
#   scripts/check_slurm.sh                 a shortened demo, some minutes on two cores
#   CHECK_SLURM_FULL=1 scripts/check_slurm.sh      the whole demo
#
# Needs root and Debian's packages slurm-wlm and munge, which it installs where they are not there; elsewhere it says so and
# ends with 0. It starts a cluster of one node with two processors in a folder of its own (no systemd, nothing in /etc is
# changed), submits everything by scripts/slurm/submit.sh, kills a task of an array, preempts the training by a job of
# a partition of higher priority, and submits again what failed. RANKS=2 trains with two processes (BC_LAUNCH=mpirun or srun): then
# the plain run does so, too, by mpirun and without being stopped, and is compared with one process.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
bin=${BC_BIN:-${CARGO_TARGET_DIR:-$root/target}/release}

skip() {
    echo "skipped: $*"
    exit 0
}
[ "$(id -u)" = 0 ] || skip "scripts/check_slurm.sh starts Slurm's daemons, which needs root"
if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
    command -v apt-get >/dev/null || skip "no Slurm, and no apt-get to install it with"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge; } \
        >/dev/null 2>&1 || skip "Debian's slurm-wlm and munge cannot be installed here"
fi

work=$(mktemp -d)
daemons=()
tear_down() {
    code=$?
    scancel --me 2>/dev/null || true
    for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ $code -ne 0 ]; then
        echo "FAILED; the end of every log:"
        tail -n 15 "$work"/*.log "$work"/slurm/runs/demo/slurm/logs/* 2>/dev/null || true
    fi
    if [ -z "${CHECK_SLURM_KEEP:-}" ]; then rm -rf "$work"; else echo "kept: $work"; fi
}
trap tear_down EXIT

# One node of two processors, without systemd and control groups; two partitions, of which jobs of `urgent` preempt others.
start_cluster() {
    local node
    node=$(hostname -s)
    mkdir -p "$work"/{state,spool,munge}
    chmod 0711 "$work"
    dd if=/dev/urandom of="$work/munge/key" bs=128 count=1 status=none
    chmod 0700 "$work/munge"
    chmod 0400 "$work/munge/key"
    # The socket's folder must let others in; the key's must not.
    mkdir "$work/socket"
    chmod 0755 "$work/socket"
    cat >"$work/slurm.conf" <<CONF
ClusterName=check
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/socket/munge
CryptoType=crypto/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmctldDebug=info
SlurmdDebug=info
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=$node MaxTime=INFINITE State=UP PriorityTier=10
CONF
    export SLURM_CONF=$work/slurm.conf
    # As root, since the key and the socket belong to this script.
    munged --force --foreground --socket="$work/socket/munge" --key-file="$work/munge/key" --pid-file="$work/munge/pid" \
        --seed-file="$work/munge/seed" >"$work/munge.log" 2>&1 &
    daemons+=($!)
    for _ in $(seq 50); do [ -S "$work/socket/munge" ] && break; sleep 0.2; done
    slurmctld -D -f "$SLURM_CONF" >/dev/null 2>&1 &
    daemons+=($!)
    slurmd -D -f "$SLURM_CONF" -N "$node" >/dev/null 2>&1 &
    daemons+=($!)
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --partition main --format %T 2>/dev/null)" = idle ] && return
        sleep 0.3
    done
    echo "the cluster does not come up" >&2
    sinfo >&2 || true
    return 1
}

# A shortened demo: fewer works, fewer epochs.
settings=()
if [ -z "${CHECK_SLURM_FULL:-}" ]; then
    settings=(--set synth.cliques=72 --set synth.val_cliques=10 --set synth.test_cliques=10 --set train.epochs=4
        --set train.checkpoint_every_steps=2 --set train.warmup_steps=2)
fi

plain_run() {
    # An earlier plain run, to save time while this script is being changed.
    if [ -n "${CHECK_SLURM_PLAIN:-}" ]; then
        cp -r "$CHECK_SLURM_PLAIN" "$work/plain"
        return
    fi
    mkdir -p "$work/plain"
    ln -s "$root/configs" "$work/plain/configs"
    cd "$work/plain"
    local stage train="bc-train train --threads 2"
    if [ "$BC_RANKS_PER_NODE" -gt 1 ]; then train="bc-train train --threads 1"; fi
    for stage in "bc-download-index synth --threads 2" "bc-download-index build" "bc-download-index verify --threads 2" \
        "bc-features extract --threads 2" "$train" "bc-eval run --threads 2"; do
        local launch=()
        if [ "$stage" = "$train" ] && [ "$BC_RANKS_PER_NODE" -gt 1 ]; then
            "$bin/"bc-train train --threads 2 --config configs/demo.toml "${settings[@]}" --set train.run=runs/one >>"$work/plain.log" 2>&1
            launch=(mpirun -n "$BC_RANKS_PER_NODE" --bind-to none)
        fi
        # shellcheck disable=SC2086
        "${launch[@]}" "$bin/"$stage --config configs/demo.toml "${settings[@]}" >>"$work/plain.log" 2>&1
    done
    cd "$root"
}

export BC_BIN=$bin BC_SHARDS=4 BC_CPUS=1 BC_ONE_CPUS=2 BC_TRAIN_CPUS=2 BC_TIME=60 BC_ONE_TIME=60 BC_TRAIN_TIME=60
export BC_RANKS_PER_NODE=${RANKS:-1} BC_LAUNCH=${BC_LAUNCH:-mpirun}
if [ "$BC_RANKS_PER_NODE" -gt 1 ]; then export BC_TRAIN_CPUS=1; fi
# Debian's mpirun refuses root, and finds its processes by itself on one machine.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1

submit() { (cd "$work/slurm" && "$root/scripts/slurm/submit.sh" configs/demo.toml "${settings[@]}"); }

# Jobs of a stage in some state, a number per line: 12 or 12_3.
jobs_of() { squeue --me --noheader --array --states "$2" --format '%i %j' | awk -v stage="bc-$1-" 'index($2, stage) == 1 { print $1 }'; }

# Waits until a command succeeds, while there are jobs at all.
wait_until() {
    for _ in $(seq 3000); do
        if "$@"; then return 0; fi
        if [ -z "$(squeue --me --noheader)" ]; then return 1; fi
        sleep 0.1
    done
    return 1
}
wait_for_all() {
    while [ -n "$(squeue --me --noheader)" ]; do sleep 0.5; done
}
is_running() { [ -n "$(jobs_of "$1" RUNNING)" ]; }
has_checkpoint() { compgen -G "$work/slurm/runs/demo/checkpoints/step-*" >/dev/null; }

echo "== a plain run ($SECONDS s)"
plain_run
echo "== the cluster ($SECONDS s)"
start_cluster
sinfo
mkdir -p "$work/slurm"
ln -s "$root/configs" "$work/slurm/configs"

echo "== submitted; a task of the array of features is killed ($SECONDS s)"
submit
if wait_until is_running features; then
    victim=$(jobs_of features RUNNING | head -n 1)
    scancel --signal=KILL --full "$victim"
    echo "killed features $victim"
fi
wait_for_all
echo "what ran: $(cd "$work/slurm/runs/demo/slurm/logs" && printf '%s ' *.log)"
[ ! -e "$work/slurm/runs/demo/best.safetensors" ] || { echo "the training began although a task had failed"; exit 1; }

echo "== the same command again; the training is preempted ($SECONDS s)"
submit | tee "$work/again.log"
grep -q '^features  submitted as [0-9]*, parts [1-4]$' "$work/again.log" || { echo "not one part alone"; exit 1; }
grep -q '^index     done$' "$work/again.log"
submit | tee "$work/third.log"
if grep submitted "$work/third.log"; then echo "submitted twice"; exit 1; fi
wait_until has_checkpoint
sbatch --parsable --partition urgent --ntasks 1 --cpus-per-task 2 --output "$work/urgent.log" --wrap "sleep 3"
log=$work/slurm/runs/demo/slurm/logs/train.log
has_ended() { grep -q "ended with" "$log"; }
wait_until has_ended
# Before it starts again: the last step of its record, and that of its newest checkpoint.
run=$work/slurm/runs/demo
recorded=$(sed -n 's/.*"kind":"step","step":\([0-9]*\),.*/\1/p' "$run/metrics.jsonl" | tail -n 1)
saved=$(find "$run/checkpoints" -maxdepth 1 -name 'step-*' | sort | tail -n 1 | sed 's/.*step-0*//')
echo "ended after step ${recorded:-0}, saved after step ${saved:-0}"
wait_for_all
grep -E "start [0-9]|interrupted|ended with" "$log"
grep -q "start 2" "$log" || { echo "the training was not preempted"; exit 1; }
if [ "$BC_RANKS_PER_NODE" -gt 1 ] && [ "$BC_LAUNCH" = mpirun ]; then
    # mpirun does not always print what its ranks say once it was told to end.
    { [ -n "$saved" ] && [ "$saved" = "$recorded" ]; } || { echo "the training did not save when it was preempted"; exit 1; }
else
    grep -q "interrupted: stopped after step" "$log" || { echo "the training did not save when it was preempted"; exit 1; }
fi

echo "== when all is done, nothing is submitted ($SECONDS s)"
submit | tee "$work/last.log"
if grep submitted "$work/last.log"; then echo "submitted although done"; exit 1; fi

echo "== figures ($SECONDS s)"
compared=0
compare() {
    cmp "$3" "$4" || exit 1
    echo "the same, byte for byte: $1 ($2 bytes)"
    compared=$((compared + 1))
}
# For the network, the bytes after the header, whose keys have another order each time.
tensors() { tail -c "+$(($(od -A n -t u8 -N 8 "$1") + 9))" "$1"; }
for run in plain slurm; do tensors "$work/$run/runs/demo/best.safetensors" >"$work/$run.tensors"; done
compare "the network's tensors" "$(stat -c %s "$work/plain.tensors")" "$work/plain.tensors" "$work/slurm.tensors"
for file in embeddings.parquet metrics.json calibration.json; do
    compare "$file" "$(stat -c %s "$work/plain/runs/demo/eval/$file")" "$work/plain/runs/demo/eval/$file" "$work/slurm/runs/demo/eval/$file"
done
echo "$compared of 4 files are the same ($SECONDS s)"
# The difference of the losses of two processes and of one in the first twenty steps. Rounding is 1e-7; a hardest negative that is
# decided by a hair is more (docs/how-to/several-devices.md).
losses() { grep '"kind":"step"' "$1/metrics.jsonl" | head -n 20 | sed 's/.*"loss":\([^,]*\),.*/\1/'; }
if [ -d "$work/plain/runs/one" ]; then
    paste <(losses "$work/plain/runs/one") <(losses "$work/slurm/runs/demo") | awk '
        { difference = $1 - $2; if (difference < 0) difference = -difference; if (difference > max) max = difference }
        END {
            printf "%d steps of one process and of those under Slurm: losses differ by at most %.1e\n", NR, max
            exit !(NR >= 10 && max < 5e-3)
        }' || exit 1
fi
for run in plain slurm; do
    printf '%-6s ' "$run"
    tr -d ' \n' <"$work/$run/runs/demo/eval/metrics.json" | grep -o '"test":{"queries":[0-9]*,"mAP":[0-9.]*' | head -n 1
done
