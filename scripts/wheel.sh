#!/usr/bin/env bash
# Builds the wheel `bytecover` (crates/bc-python), installs it into a fresh environment and runs its tests there.
#
#     scripts/wheel.sh [FOLDER OF THE ENVIRONMENT]
#
# PYTHON names another interpreter than python3. Tests that compare with bc-features and bc-eval need target/release.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=${1:-$(mktemp -d)}
"${PYTHON:-python3}" -m venv --clear "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check 'maturin>=1.7,<2' pytest numpy
rm -f target/wheels/bytecover-*.whl
"$environment/bin/maturin" build --release --manifest-path crates/bc-python/Cargo.toml --out target/wheels
"$environment/bin/pip" install --quiet --disable-pip-version-check target/wheels/bytecover-*.whl
"$environment/bin/python" -m pytest -q crates/bc-python/tests
ls -l target/wheels/bytecover-*.whl
