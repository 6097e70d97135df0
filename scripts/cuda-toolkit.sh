#!/usr/bin/env bash
# Installs the libraries that CUDA needs into one folder, from the wheels that PyTorch also uses:
#
#     scripts/cuda-toolkit.sh DEST          nvrtc alone (some 90 MB), by which kernels compile without a GPU
#     scripts/cuda-toolkit.sh DEST --run    cuBLAS, cuDNN and NCCL besides (some 1.3 GB), for a machine with a GPU
#
# The driver (libcuda.so.1) comes with the system; CUDA 13.0 needs driver 580 or newer. Afterwards
#
#     export LD_LIBRARY_PATH=DEST/lib
#
# Nothing is installed elsewhere, and a second run does nothing. Building needs none of this.
set -euo pipefail

destination=${1:?"usage: scripts/cuda-toolkit.sh DEST [--run]"}
kind=${2:-}
wheels=(nvidia-cuda-nvrtc==13.0.88)
if [ "$kind" = --run ]; then
    wheels+=(nvidia-cublas==13.1.0.3 'nvidia-cudnn-cu13>=9.13,<10' 'nvidia-nccl-cu13>=2.27,<3')
elif [ -n "$kind" ]; then
    echo "scripts/cuda-toolkit.sh: $kind is not known; usage: scripts/cuda-toolkit.sh DEST [--run]" >&2
    exit 2
fi

done_file=$destination/lib/.wheels
if [ "$(cat "$done_file" 2>/dev/null)" = "${wheels[*]}" ]; then
    echo "$destination/lib is ready"
    exit 0
fi
mkdir -p "$destination/lib"
work=$(mktemp -d "$destination/download.XXXXXX")
trap 'rm -rf "$work"' EXIT
"${BYTECOVER_PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary=:all: -d "$work" "${wheels[@]}"
for wheel in "$work"/*.whl; do
    "${BYTECOVER_PYTHON:-python3}" - "$wheel" "$destination/lib" <<'PYTHON'
import pathlib, sys, zipfile

wheel, to = sys.argv[1], pathlib.Path(sys.argv[2])
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        file = pathlib.PurePosixPath(name).name
        if ".so" in file and ".alt." not in file:
            (to / file).write_bytes(archive.read(name))
PYTHON
done
# The name under which it is searched.
[ ! -e "$destination/lib/libnccl.so.2" ] || ln -sf libnccl.so.2 "$destination/lib/libnccl.so"
echo "${wheels[*]}" >"$done_file"
echo "$destination/lib has:"
ls "$destination/lib"
