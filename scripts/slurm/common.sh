# shellcheck shell=bash
# Shared by submit.sh and the jobs: settings of the site, keys of a configuration, how a program is run so that
# Slurm's signals reach it, and when a stage counts as done. Sourced, not run; BC_ROOT is this repository's folder.

# shellcheck source=scripts/slurm/site.env
. "${BC_SITE:-$BC_ROOT/scripts/slurm/site.env}"
BC_BIN=${BC_BIN:-$BC_ROOT/target/release}

log() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2; }

# The command line of a program, word by word into the array `line`.
program() {
    local wrap
    read -r -a wrap <<<"$BC_WRAP"
    line=("${wrap[@]}" "$BC_BIN/$1" "${@:2}")
}

# Runs a program and waits for it: for queries, not for work.
query() {
    local line
    program "$@"
    "${line[@]}"
}

# Prints sections of the resolved configuration: `sections "index synth" ARGUMENTS...`.
sections() {
    query bc-download-index --print-config "${@:2}" |
        awk -v names=" $1 " '/^\[/ { inside = index(names, " " substr($1, 2, length($1) - 2) " ") } inside && !/^#/'
}

# Prints one key of the resolved configuration without quotes: `key train run ARGUMENTS...`.
key() {
    sections "$1" "${@:3}" | awk -F ' = ' -v name="$2" '$1 == name { gsub(/^"|"$/, "", $2); print $2; exit }'
}

# The output of `bc-features status` as JSON; empty where there is no index yet. It reads the index and all parts, so it is kept in
# the file that BC_STATUS names, if it names one.
features_status() {
    if [ -s "${BC_STATUS:-}" ]; then
        cat "$BC_STATUS"
    else
        { query bc-features status --json --shards "$BC_SHARDS" "$@" 2>/dev/null || true; } | tee "${BC_STATUS:-/dev/null}"
    fi
}

# One text value of such JSON.
json_text() { sed -n "s/^ *\"$1\": *\"\([^\"]*\)\".*/\1/p" | head -n 1; }

# Names, sizes and times of the lists that an index is made from, without the files that stages write next to them.
lists() {
    local output
    output=$(basename "$(key index output "$@")" .parquet)
    find -L "$(key index meta "$@")" -maxdepth 1 -type f ! -name '.*' ! -name "$output.*" ! -name coverage.md ! -name '*.png' \
        -printf '%f %s %T@\n' 2>/dev/null | sort || true
}

# Prints what a stage's result depends on, as a hash. A stage is done if its note holds the same.
identity() {
    local stage=$1 checkpoint
    shift
    {
        case $stage in
            index)
                sections "index synth" "$@"
                lists "$@"
                ;;
            train)
                sections "model train augment paint" "$@"
                features_status "$@" | json_text content
                ;;
            embed | eval)
                sections "model eval" "$@"
                features_status "$@" | json_text content
                checkpoint=$(key eval checkpoint "$@")
                sha256sum "${checkpoint:-$(key train run "$@")/best.safetensors}" 2>/dev/null | cut -c 1-64 || true
                if [ "$stage" = eval ]; then
                    stat -c '%s %Y' "$(key eval output "$@")/embeddings.parquet" 2>/dev/null || true
                fi
                ;;
        esac
    } | sha256sum | cut -c 1-64
}

# The file in which a stage notes that it is done.
note_of() { printf '%s/slurm/%s.done\n' "$(key train run "${@:2}")" "$1"; }

is_done() { [ "$(cat "$(note_of "$@")" 2>/dev/null)" = "$(identity "$@")" ]; }

note_done() {
    local note
    note=$(note_of "$@")
    mkdir -p "$(dirname "$note")"
    identity "$@" >"$note.tmp"
    mv "$note.tmp" "$note"
}

# Begins a job: runs the site's commands, then logs where it runs.
begin() {
    eval "$BC_SETUP"
    log "$SLURM_JOB_NAME, job ${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID} on $(hostname), start $((${SLURM_RESTART_COUNT:-0} + 1))"
}

# Runs a program of a job and ends the job if it fails. Slurm's SIGTERM (scancel, preemption, requeue)
# is waited for until the program has saved; Slurm itself queues the job again where it is to. SIGUSR1 says that the job's
# time is nearly over: the program saves, and the job queues itself again.
run() {
    local line
    program "$@"
    run_line "${line[@]}"
}

# Passes SIGTERM on to a program; if that is mpirun, to the ranks that it started on this node, which agree with all others
# to stop. Slurm signals mpirun itself, too, and a second signal within five seconds makes it kill all ranks at once.
stop() {
    case $2 in
        # Not the processes by which it reaches other nodes: it would lose their ranks.
        mpirun)
            ps -o pid=,comm= --ppid "$1" | awk '$2 !~ /^(srun|ssh|orted|prted)$/ { print $1 }' | xargs -r kill -TERM 2>/dev/null || true
            ;;
        *) kill -TERM "$1" 2>/dev/null || true ;;
    esac
}

# Runs a whole command line like `run`.
run_line() {
    local child code=0 time_over=""
    log "$*"
    "$@" &
    child=$!
    # shellcheck disable=SC2064  # the program's name now
    trap "stop \"\$child\" '$1'" TERM INT
    # shellcheck disable=SC2064
    trap "time_over=yes; stop \"\$child\" '$1'" USR1
    while :; do
        code=0
        wait "$child" || code=$?
        kill -0 "$child" 2>/dev/null || break
    done
    trap - TERM INT USR1
    case $code in
        0) ;;
        3) log "done, with failures that are in a table; what follows uses the others" ;;
        *)
            if [ -n "$time_over" ]; then
                queue_again
            fi
            log "ended with $code"
            exit "$code"
            ;;
    esac
}

queue_again() {
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$BC_MOST_RESTARTS" ]; then
        log "time is over, and this job has been started $BC_MOST_RESTARTS times (BC_MOST_RESTARTS): not queued again"
        return
    fi
    log "time is over; what is done is saved, and the job is queued again"
    scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
    # Slurm ends this script once it has queued the job.
    sleep 60
}
