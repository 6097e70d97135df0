#!/usr/bin/env bash
# Makes the pages of docs/reference that the programs themselves print: one per program, and the configuration.
# A test compares them; run this after changing arguments, help texts or keys.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${CARGO_TARGET_DIR:-target}/release
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
for program in bc-download-index bc-features bc-train bc-eval bc-search; do
    "$bin/$program" documents "$made"
    cp "$made/$program.md" "docs/reference/$program.md"
done
{
    printf '# Configuration\n\nEvery key with its default and a comment, as `bc-train config` prints them; each program reads the sections it needs.\n'
    printf 'Made by `scripts/reference.sh`.\n\n```toml\n'
    "$bin/bc-train" config
    printf '```\n'
} >docs/reference/configuration.md
