#!/usr/bin/env bash
# Checks the CUDA code on a machine without a GPU (`just cuda-check`): types and lints with the feature `cuda`, then every
# kernel compiled by nvrtc for sm_80, sm_90 and sm_120.
#
#     scripts/cuda_check.sh [TOOLKIT]
#
# TOOLKIT is a folder of scripts/cuda-toolkit.sh, which fills it if it is empty (needs pip; some 90 MB; by default in the
# user's folder of caches). Without pip and without nvrtc on the machine the kernels are not compiled, and a line says so.
set -euo pipefail
cd "$(dirname "$0")/.."
toolkit=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/bytecover/cuda-toolkit}

# The whole workspace, so that what other lints have compiled serves this one too.
features=bc-cuda/cuda,bc-train/emulated,bc-train/cuda,bc-eval/cuda
cargo clippy --release --workspace --features "$features" --all-targets -- -D warnings

if ! "${BYTECOVER_PYTHON:-python3}" -m pip --version >/dev/null 2>&1 && [ ! -e "$toolkit/lib/.wheels" ]; then
    echo "skipped: the kernels are not compiled by nvrtc (no pip to fetch it with: set BYTECOVER_PYTHON)"
elif ! scripts/cuda-toolkit.sh "$toolkit" >/dev/null; then
    echo "skipped: the kernels are not compiled by nvrtc (scripts/cuda-toolkit.sh could not fetch it)"
else
    export LD_LIBRARY_PATH=$toolkit/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    cargo run --quiet --release -p bc-cuda --features cuda --bin bc-cuda-kernels
fi
