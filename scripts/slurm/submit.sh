#!/usr/bin/env bash
# Submits the stages of one configuration to Slurm, each after the one before it has succeeded:
#
#   scripts/slurm/submit.sh configs/mine.toml                          what is missing, and what failed before
#   scripts/slurm/submit.sh configs/mine.toml --site my-site.env       with the settings of your cluster
#   scripts/slurm/submit.sh configs/mine.toml --set train.epochs=200   arguments of the programs
#   scripts/slurm/submit.sh configs/mine.toml --until features         no further than that
#   scripts/slurm/submit.sh configs/mine.toml --from train             this stage and all after it, done or not
#   scripts/slurm/submit.sh configs/mine.toml --dry-run                prints what it would submit
#
# Stages: index verify features merge train embed eval. What is done is queried from the programs (verify and features, part by part)
# or read from notes in <[train] run>/slurm; waiting and running jobs are queried from Slurm. So the same command may be given at any time: it
# submits what is neither done nor in progress. Relative paths are relative to the current folder. Settings of the site: site.env.
set -euo pipefail
BC_ROOT=$(cd "$(dirname "$0")/../.." && pwd)
export BC_ROOT

usage() {
    sed -n '2,/^set /{s/^# \{0,1\}//;/^set /d;p}' "$0" >&2
    exit 2
}
config="" from="" until=eval dry="" arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        config=*) config=${1#config=} ;;
        --site)
            BC_SITE=$(realpath "${2:?--site needs a file}")
            export BC_SITE
            shift
            ;;
        --shards)
            export BC_SHARDS=${2:?--shards needs a number}
            shift
            ;;
        --from)
            from=${2:?--from needs a stage}
            shift
            ;;
        --until)
            until=${2:?--until needs a stage}
            shift
            ;;
        --set)
            arguments+=(--set "${2:?--set needs SECTION.KEY=VALUE}")
            shift
            ;;
        --dry-run) dry=yes ;;
        -*) usage ;;
        *) config=$1 ;;
    esac
    shift
done
[ -n "$config" ] || usage
stages=(index verify features merge train embed eval)
for stage in ${from:+"$from"} "$until"; do
    [[ " ${stages[*]} " == *" $stage "* ]] || usage
done
arguments=(--config "$config" "${arguments[@]}")

# shellcheck source=scripts/slurm/common.sh
. "$BC_ROOT/scripts/slurm/common.sh"
# Fails here, with the program's own message, and not in every job.
query bc-download-index --print-config "${arguments[@]}" >/dev/null

run=$(key train run "${arguments[@]}")
logs=$run/slurm/logs
# Jobs of this folder and these arguments are recognised by their names.
tag=$(printf '%s\n' "$PWD" "${arguments[@]}" | sha256sum | cut -c 1-8)

# Jobs of a stage that wait or run, a line each: number, index in its array (or N/A).
active() { squeue --me --noheader --array --name "bc-$1-$tag" --format '%F %K'; }

# The parts of an array stage that are not done, a number per line.
missing_parts() {
    if [ -n "$changed" ]; then
        seq "$BC_SHARDS"
        return
    fi
    case $1 in
        verify) query bc-download-index status --json --shards "$BC_SHARDS" "${arguments[@]}" >"$answer" 2>/dev/null || : >"$answer" ;;
        features) features_status "${arguments[@]}" >"$answer" ;;
        *) : >"$answer" ;;
    esac
    if [ ! -s "$answer" ]; then
        seq "$BC_SHARDS"
        return
    fi
    # One line per part: {"shard":3, ..., "pending":12, ...}
    sed -n 's/.*"shard": *\([0-9]*\),.*"pending": *[1-9].*/\1/p' "$answer"
}

is_array() { [ "$1" = verify ] || [ "$1" = features ] || [ "$1" = embed ]; }

# Submits a stage, for an array with the parts named; prints the job's number.
submit() {
    local stage=$1 parts=$2 dependency=$3
    local words=(--parsable --job-name "bc-$stage-$tag" --comment "bytecover $stage $config" --chdir "$PWD"
        --requeue --open-mode append --kill-on-invalid-dep yes --signal "B:USR1@$BC_NOTICE")
    local extra=() cpus=$BC_ONE_CPUS memory=$BC_ONE_MEM time=$BC_ONE_TIME
    if is_array "$stage"; then
        cpus=$BC_CPUS memory=$BC_MEM time=$BC_TIME
        words+=(--array "$parts${BC_AT_ONCE:+%$BC_AT_ONCE}" --output "$logs/$stage-%a.log")
    else
        words+=(--output "$logs/$stage.log")
    fi
    if [ "$stage" = train ]; then
        cpus=$BC_TRAIN_CPUS memory=$BC_TRAIN_MEM time=$BC_TRAIN_TIME
        words+=(--nodes "$BC_NODES" --ntasks-per-node "$BC_RANKS_PER_NODE")
        if [ "$BC_GPUS_PER_NODE" != 0 ]; then words+=(--gpus-per-node "$BC_GPUS_PER_NODE"); fi
    fi
    words+=(--cpus-per-task "$cpus" --time "$time")
    if [ -n "$memory" ]; then words+=(--mem "$memory"); fi
    if [ -n "$dependency" ]; then words+=(--dependency "afterok:$dependency"); fi
    if [ -n "$BC_PARTITION" ]; then words+=(--partition "$BC_PARTITION"); fi
    if [ -n "$BC_ACCOUNT" ]; then words+=(--account "$BC_ACCOUNT"); fi
    if [ -n "$BC_QOS" ]; then words+=(--qos "$BC_QOS"); fi
    read -r -a extra <<<"$BC_EXTRA"
    words+=("${extra[@]}" "$BC_ROOT/scripts/slurm/$stage.sh" "${arguments[@]}")
    if [ -n "$dry" ]; then
        printf 'sbatch %s\n' "${words[*]}" >&2
        echo "<$stage>"
    else
        # Of clusters in a federation, `number;cluster`.
        sbatch "${words[@]}" | cut -d ';' -f 1
    fi
}

[ -n "$dry" ] || mkdir -p "$logs"
answer=$(mktemp)
BC_STATUS=$(mktemp)
trap 'rm -f "$answer" "$BC_STATUS"' EXIT
# What the next stage waits for, and whether anything before it is new.
before="" changed=""
for stage in "${stages[@]}"; do
    if [ "$stage" = "$from" ]; then changed=yes; fi
    at_work=$(active "$stage")
    numbers=$(cut -d ' ' -f 1 <<<"$at_work" | sort -u | paste -sd : -)
    parts=""
    if is_array "$stage"; then
        if [ "$stage" != embed ] || [ -n "$changed" ] || ! is_done embed "${arguments[@]}"; then
            parts=$(missing_parts "$stage" | grep -vxFf <(cut -s -d ' ' -f 2 <<<"$at_work" | sed 's/^$/-/') | paste -sd , - || true)
        fi
        needed=$parts
    elif [ -n "$at_work" ]; then
        needed=""
    elif [ "$stage" = merge ]; then
        needed=$changed
    elif [ -n "$changed" ] || ! is_done "$stage" "${arguments[@]}"; then
        needed=yes
    else
        needed=""
    fi
    if [ -n "$needed" ]; then
        number=$(submit "$stage" "$parts" "$before")
        numbers=${numbers:+$numbers:}$number
        printf '%-9s submitted as %s%s\n' "$stage" "$number" "${parts:+, parts $parts}"
    elif [ -n "$at_work" ]; then
        printf '%-9s waits or runs as %s\n' "$stage" "$numbers"
    else
        printf '%-9s done\n' "$stage"
    fi
    if [ -n "$numbers" ]; then
        before=$numbers
        changed=yes
    fi
    if [ "$stage" = "$until" ]; then break; fi
done
echo "Logs: $logs"
