#!/usr/bin/env bash
# Runs one or more stages on one configuration, in the order given:
#
#   scripts/stages.sh index features train eval config=configs/covers-mini.toml
#   scripts/stages.sh features config=configs/demo.toml --threads 4
#
# `just` passes its arguments on to this script, because it accepts `name=value` only
# before the first recipe, but people write it after.
set -euo pipefail
cd "$(dirname "$0")/.."

config=configs/demo.toml
stages=()
rest=()
for word in "$@"; do
    case $word in
        config=*) config=${word#config=} ;;
        synth | index | features | train | eval) stages+=("$word") ;;
        *) rest+=("$word") ;;
    esac
done
if [ ${#stages[@]} -gt 1 ] && [ ${#rest[@]} -gt 0 ]; then
    echo "error: \`${rest[*]}\` cannot be meant for all of: ${stages[*]}; run the stages one by one" >&2
    exit 2
fi

bin=${CARGO_TARGET_DIR:-target}/release
for stage in "${stages[@]}"; do
    case $stage in
        synth) command=("$bin/bc-download-index" synth) ;;
        index) command=("$bin/bc-download-index" build) ;;
        features) command=("$bin/bc-features" extract) ;;
        train) command=("$bin/bc-train" train) ;;
        eval) command=("$bin/bc-eval" run) ;;
    esac
    printf '\n\033[1m%s\033[0m\n' "$(basename "${command[0]}") ${command[1]} --config $config ${rest[*]}"
    code=0
    "${command[@]}" --config "$config" "${rest[@]}" || code=$?
    # 3: done, but some files failed and are in a table; what follows uses the others.
    if [ $code -ne 0 ] && { [ $code -ne 3 ] || [ ${#stages[@]} -eq 1 ]; }; then
        exit $code
    fi
done
