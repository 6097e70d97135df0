#!/usr/bin/env bash
# Reruns configs/covers-cpu.toml from notes to figures: renders 180 training and 100 validation songs (half an hour on two cores, once),
# then index, features, training, evaluation. docs/results.md says what comes of it.
#
#   just covers-cpu
#
# Expects the set in ../shared/covers, or where COVERS says, and for rendering Python with numpy (PYTHON), fluidsynth and ffmpeg.
set -euo pipefail
cd "$(dirname "$0")/.."
covers=${COVERS:-../shared/covers}
python=${PYTHON:-python3}

if [ ! -d "$covers" ]; then
    echo "error: there is no $covers; COVERS names the folder with pop909-trainval.tar.xz, splits.json and render_covers.py" >&2
    exit 1
fi
if [ ! -s data/covers/meta/list ]; then
    if ! "$python" -c 'import numpy' 2>/dev/null; then
        echo "error: $python has no numpy, with which songs are rendered; pip install numpy, or name another Python in PYTHON" >&2
        exit 1
    fi
    for program in fluidsynth ffmpeg; do
        if ! command -v "$program" >/dev/null; then
            echo "error: rendering songs needs $program, which is not installed" >&2
            exit 1
        fi
    done
    mkdir -p data/covers
    # The first 180 training songs and all validation songs.
    "$python" - "$covers/splits.json" >data/covers/ids.txt <<'END'
import json, sys
splits = json.load(open(sys.argv[1]))
print("\n".join(splits["train"][:180] + splits["val"]))
END
    "$python" "$covers/render_covers.py" --source "$covers/pop909-trainval.tar.xz" --splits "$covers/splits.json" \
        --ids @data/covers/ids.txt --max-seconds 60 --format ogg --out data/covers --jobs "$(nproc)"
fi
scripts/stages.sh index features train eval config=configs/covers-cpu.toml
echo "The report: file://$PWD/runs/covers-cpu/eval/report.html"
