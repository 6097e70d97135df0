#!/usr/bin/env bash
# Checks that need a GPU, in under nine minutes, with one report:
#
#     scripts/gpu_check.sh [REPORT=gpu-report.txt]
#     scripts/gpu_check.sh --pack FOLDER      builds, without a GPU, what a machine with a GPU but without Rust needs
#
# BYTECOVER_DEVICE (cuda:0) is tested. BYTECOVER_PYTHON with PyTorch for CUDA and ../shared/bench/torch_step.py give the
# comparison; without them it is left out, with a line. The libraries are those of LD_LIBRARY_PATH
# (scripts/cuda-toolkit.sh DEST --run, then LD_LIBRARY_PATH=DEST/lib), else those that this PyTorch has. Set
# BYTECOVER_BUILT=1 if the programs and tests are built already, or BYTECOVER_BUILT=FOLDER to a folder that was packed:
# building is not part of the nine minutes. Exit code 1 if a part failed, 2 if there is no GPU; the report says which.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
# All of the workspace, so that programs and tests share what is compiled.
features=bc-cuda/cuda,bc-nn/cuda,bc-train/cuda,bc-eval/cuda
# What is packed must start where there is no MPI.
if [ "${1:-}" != --pack ] && [ ! -d "${BYTECOVER_BUILT:-}" ] && command -v mpirun >/dev/null && command -v mpicc >/dev/null; then
    features+=,bc-train/mpi
fi
tests=(--workspace --features "$features" --test device)

if [ "${1:-}" = --pack ]; then
    folder=${2:?"usage: scripts/gpu_check.sh --pack FOLDER"}
    set -e
    mkdir -p "$folder"
    cargo build --release --workspace --bin bc-train --features "$features"
    strip -o "$folder/bc-train" "${CARGO_TARGET_DIR:-target}/release/bc-train"
    rm -f "$folder"/device-*
    # "  Executable tests/device.rs (target/release/deps/device-0123456789abcdef)"
    cargo test --release "${tests[@]}" --no-run 2>&1 | tee "$folder/.log" >&2
    sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$folder/.log" |
        while read -r test; do strip -o "$folder/${test##*/}" "$test"; done
    rm "$folder/.log"
    ls -l "$folder"
    exit
fi

report=$(realpath -m "${1:-gpu-report.txt}")
export BYTECOVER_DEVICE=${BYTECOVER_DEVICE:-cuda:0}
shared=${BYTECOVER_SHARED:-../shared}
python=${BYTECOVER_PYTHON:-python3}
work=$(mktemp -d)
sampler=
trap 'kill $sampler 2>/dev/null; rm -rf "$work"' EXIT
failed=0

if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
    echo "scripts/gpu_check.sh: no NVIDIA GPU here (nvidia-smi lists none); nothing was checked" | tee "$report" >&2
    exit 2
fi

built=${BYTECOVER_BUILT:-}
bin=${CARGO_TARGET_DIR:-target}/release
[ ! -d "$built" ] || bin=$(realpath "$built")
if [ -z "$built" ]; then
    cargo build --release --workspace --bin bc-train --features "$features" || exit 1
    cargo test --release "${tests[@]}" --no-run || exit 1
fi

# The libraries that PyTorch has, behind those of LD_LIBRARY_PATH; NCCL is searched without its number.
wheels=$("$python" -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)
if [ -n "$wheels" ]; then
    mkdir "$work/lib"
    [ ! -e "$wheels/nccl/lib/libnccl.so.2" ] || ln -s "$wheels/nccl/lib/libnccl.so.2" "$work/lib/libnccl.so"
    for folder in "$wheels"/*/lib "$work/lib"; do
        LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
    done
    export LD_LIBRARY_PATH
fi

# part NAME SECONDS COMMAND...: runs it with a limit, within the nine minutes; output, time and verdict go into the report.
part() {
    local name=$1 limit=$2 begun=$SECONDS code=0 left=$((530 - SECONDS))
    shift 2
    # A part that is not started leaves no output of the one before it.
    : >"$work/out"
    if [ $left -lt 10 ]; then
        failed=1
        echo "-- $name: not started, the nine minutes are over" | tee -a "$report"
        return
    fi
    [ "$limit" -le $left ] || limit=$left
    printf '\n## %s\n$ %s\n' "$name" "$*" >>"$report"
    timeout "$limit" "$@" >"$work/out" 2>&1 || code=$?
    tail -n "${LINES_OF_PART:-40}" "$work/out" >>"$report"
    local verdict=passed
    [ $code -eq 124 ] && verdict="not done in $limit s"
    [ $code -ne 0 ] && [ $code -ne 124 ] && verdict="FAILED with code $code"
    [ $code -ne 0 ] && failed=1
    printf -- '-- %s: %s (%s s)\n' "$name" "$verdict" $((SECONDS - begun)) | tee -a "$report"
}

{
    echo "# bytecover on a GPU, $(date -u +%Y-%m-%dT%H:%MZ), $(git rev-parse --short HEAD 2>/dev/null)"
    nvidia-smi --query-gpu=index,name,compute_cap,memory.total,driver_version,clocks.max.sm --format=csv
} >"$report"
SECONDS=0

# Correctness: every operator, then whole networks (outputs, losses, gradients, a step) on the device against the CPU.
if [ -d "$built" ]; then
    for test in "$bin"/device-*; do
        part "operators and networks against the CPU (${test##*/})" 210 "$test" --nocapture --test-threads 1
    done
else
    part "operators and networks against the CPU" 210 \
        cargo test --release "${tests[@]}" -- --nocapture --test-threads 1
fi

# Speed: a step and a forward pass, beside PyTorch eager in bf16 and channels-last.
floor() {
    "$python" - "$1" "$2" "$3" <<'PY'
import subprocess, sys

batch, frames, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
# The network's forward pass is 5.04 GFLOP a sample at 84 x 215 (see docs/PERFORMANCE.md), a step three times that.
flops = 3 * 5.04e9 * batch * frames / 215
# What a step reads and writes. Convolutions have 4.9 million outputs a sample at 84 x 215, and our operators pass over
# as many values 15.9 times, in bf16: 156 MB. Of each of 41.6 million weights: the copy in bf16 is read three times and
# written once, its gradient written and read in bf16 and added in 32 bits, cleared, squared, and Adam's 28 bytes.
moved = 156e6 * batch * frames / 215 + 60 * 41.6e6
# Dense bf16 peaks in TFLOP/s, and memory in GB/s, as NVIDIA has them.
peaks = {"H100": (989, 3350), "H200": (989, 4800), "A100": (312, 2039), "L40": (362, 864), "RTX 4090": (165, 1008),
         "RTX 5090": (210, 1792), "B200": (2250, 8000)}
name = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True).stdout
peak = next((peak for key, peak in peaks.items() if key in name), None)
print(f"floor: {flops / 1e12:.2f} TFLOP and some {moved / 1e9:.1f} GB a step; {flops / seconds / 1e12:.0f} TFLOP/s reached", end="")
if peak:
    least = flops / peak[0] / 1e12
    print(f"; convolutions alone {least * 1e3:.1f} ms at {peak[0]} TFLOP/s: {100 * least / seconds:.0f} %; "
          f"memory alone {moved / peak[1] / 1e6:.1f} ms at {peak[1]} GB/s")
else:
    print(f"; the peak of {name.strip()} is not in this script's table")
PY
}
has_torch=
if [ -f "$shared/bench/torch_step.py" ] && "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    has_torch=1
else
    echo "skipped: PyTorch beside it (BYTECOVER_PYTHON with PyTorch for CUDA, $shared/bench/torch_step.py)" | tee -a "$report"
fi
for batch in 32 128; do
    for frames in 215 430; do
        # What the device has in use while it runs: cuDNN's workspace and the driver's own memory too.
        nvidia-smi --query-gpu=memory.used,clocks.sm,power.draw,utilization.gpu --format=csv,noheader,nounits -lms 250 \
            >"$work/smi" 2>/dev/null &
        sampler=$!
        part "bench: batch $batch, $frames frames" 45 "$bin/bc-train" bench --device "$BYTECOVER_DEVICE" --precision bf16 \
            --batch $batch --frames $frames --steps 30 --json
        kill $sampler 2>/dev/null
        wait $sampler 2>/dev/null
        sort -n "$work/smi" | tail -1 |
            sed 's/^/at most, while it ran (MiB in use, MHz, W, % of the time busy): /' | tee -a "$report"
        seconds=$(grep -o '"train_s": *[0-9.e-]*' "$work/out" | grep -o '[0-9.e-]*$')
        if [ -n "$seconds" ] && command -v "$python" >/dev/null; then
            floor $batch $frames "$seconds" | tee -a "$report"
        fi
        if [ -n "$has_torch" ]; then
            part "PyTorch: batch $batch, $frames frames" 45 env -C "$shared/bench" "$python" torch_step.py --device cuda \
                --amp bf16 --channels-last --batch $batch --frames $frames --steps 30
        fi
    done
done

# A run continues where another device stopped. Random features, and a narrow network that the CPU trains in seconds.
for pair in "cpu $BYTECOVER_DEVICE" "$BYTECOVER_DEVICE cpu"; do
    read -r first second <<<"$pair"
    rm -rf "$work/resume"
    # shellcheck disable=SC2016 # the inner shell expands them
    part "a run begun on $first continues on $second" 45 bash -c '
        set -e
        bin=$1 run=$2 first=$3 second=$4
        arguments=(--set train.debug=true --set model.width=16 --set train.run="$run" --set train.checkpoint_every_steps=1)
        "$bin/bc-train" "${arguments[@]}" --set train.epochs=1 --set train.device="$first"
        "$bin/bc-train" "${arguments[@]}" --set train.epochs=2 --resume --set train.device="$second"
    ' _ "$bin" "$work/resume" "$first" "$second"
done

# Two ranks on two GPUs, connected by NCCL: their networks are the same at every checkpoint, and the last line says that
# gradients went between the GPUs.
if [[ $features == *mpi* ]] && [ "$(nvidia-smi -L | grep -c '^GPU')" -ge 2 ]; then
    for deterministic in true false; do
        # shellcheck disable=SC2016 # the inner shell expands them
        part "two ranks on two GPUs, deterministic=$deterministic" 60 bash -c '
            set -e
            mpirun -n 2 --oversubscribe --allow-run-as-root "$1/bc-train" --set train.debug=true --set train.epochs=2 --fresh \
                --set train.run="$2" --set train.checkpoint_every_steps=1 --set train.device=cuda --set "train.deterministic=$3" 2>&1 |
                tee "$2.log"
            grep -q "between the GPUs" "$2.log"
        ' _ "$bin" "$work/ranks-$deterministic" "$deterministic"
    done
else
    echo "skipped: two ranks (two GPUs, an MPI with its headers, and programs that are built here)" | tee -a "$report"
fi

# Training: the demo in 32 bits and in bf16, to the same validation mAP within its spread (some 0.02).
if ls data/demo/features/part-*.parquet >/dev/null 2>&1; then
    for precision in f32 bf16; do
        part "the demo in $precision" 90 "$bin/bc-train" --config configs/demo.toml --fresh \
            --set "train.run=$work/demo-$precision" --set "train.device=$BYTECOVER_DEVICE" --set "train.precision=$precision"
        grep -o 'validation mAP [0-9.]*' "$work/out" | tail -1 >>"$report"
    done
else
    echo "skipped: the demo (scripts/stages.sh synth index features config=configs/demo.toml makes its features)" |
        tee -a "$report"
fi

# Where the time goes, if a profiler is installed.
if command -v nsys >/dev/null; then
    LINES_OF_PART=60 part "profile" 60 nsys profile --stats=true --force-overwrite=true -o "$work/profile" \
        "$bin/bc-train" bench --device "$BYTECOVER_DEVICE" --precision bf16 --batch 32 --frames 215 --steps 10
elif command -v ncu >/dev/null; then
    # Our own kernels alone: how long each takes in all, and how much of memory it moves.
    part "profile" 60 ncu --log-file "$work/ncu.csv" --csv --page raw --print-units base --clock-control none \
        --metrics gpu__time_duration.sum,dram__bytes.sum \
        --kernel-name 'regex:^(norm|max_|gem|weights|adam|squares|to_|from_|add_|average|sum_)' \
        "$bin/bc-train" bench --device "$BYTECOVER_DEVICE" --precision bf16 --batch 32 --frames 215 --steps 1
    "$python" - "$work/ncu.csv" <<'PY' | tee -a "$report"
import collections, csv, sys

lines = [line for line in open(sys.argv[1]) if line.startswith('"')]
kernels = collections.defaultdict(lambda: [0, 0.0, 0.0])
for row in csv.DictReader(lines):
    if row["ID"]:
        number = lambda name: float(row[name].replace(",", ""))
        for place, value in enumerate((1, number("gpu__time_duration.sum") * 1e-3, number("dram__bytes.sum"))):
            kernels[row["Kernel Name"].split("(")[0]][place] += value
for name, (count, micros, moved) in sorted(kernels.items(), key=lambda item: -item[1][1]):
    print(f"{micros:9.0f} us  {count:5} times  {moved / micros / 1e3 if micros else 0:6.0f} GB/s  {name}")
PY
else
    echo "skipped: a profile (neither nsys nor ncu is installed)" | tee -a "$report"
fi

printf '\n# %s s in all: %s\n' "$SECONDS" "$([ $failed -eq 0 ] && echo passed || echo FAILED)" | tee -a "$report"
echo "the report: $report"
exit $failed
