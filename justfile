# bytecover: cover song identification, from a list of songs to a search over recordings.

# The experiment; every stage reads its own section of it.
config := "configs/demo.toml"

# List the recipes.
default:
    @just --list --unsorted

# Compile the programs: the four stages and bc-search.
build:
    cargo build --release --workspace --bins

# Stage 1: lists and folders of audio become one index; `bc-download-index verify` checks the audio (just index config=configs/….toml).
index *args: build
    @scripts/stages.sh index config={{config}} {{args}}

# Stage 2: the index's audio becomes constant-Q features.
features *args: build
    @scripts/stages.sh features config={{config}} {{args}}

# Stage 3: features become a trained network.
train *args: build
    @scripts/stages.sh train config={{config}} {{args}}

# Stage 4: embeddings, metrics and a report on the held-out cliques.
eval *args: build
    @scripts/stages.sh eval config={{config}} {{args}}

# The whole pipeline on synthetic covers: minutes on two cores, no GPU, no download.
demo: build
    @scripts/stages.sh synth index features train eval config=configs/demo.toml
    @echo "The report: file://{{justfile_directory()}}/runs/demo/eval/report.html"

# The network further trained on 180 rendered songs: 20 to 26 minutes of one core, after rendering (../shared/covers).
covers-cpu: build
    @scripts/covers_cpu.sh

# The ablation of configs/ablation, rows that are done are skipped; then its table and figure in docs/results.md.
ablation *args: build
    scripts/ablation.py run {{args}}
    scripts/ablation.py table

# Lints, then unit, property and integration tests.
test: lint
    cargo build --release --workspace --bins
    cargo test --release --workspace

# Submit what is missing of a configuration to Slurm (just cluster config=configs/….toml --site my-site.env).
cluster *args:
    @scripts/slurm/submit.sh config={{config}} {{args}}

# Formatting and lints, warnings denied.
lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings

# Criterion benches; docs/PERFORMANCE.md says how to run the Python peers beside them.
bench *args:
    cargo bench --workspace {{args}}

# bc-train and bc-eval for NVIDIA GPUs (docs/how-to/cuda.md): no CUDA is needed to build, and they start without one.
build-cuda:
    cargo build --release -p bc-train -p bc-eval --features bc-train/cuda,bc-eval/cuda

# Types and lints of the CUDA code, and every kernel compiled by nvrtc for sm_80, sm_90, sm_120; needs no GPU.
cuda-check *args:
    scripts/cuda_check.sh {{args}}

# What only a GPU can show, in under nine minutes, into gpu-report.txt.
gpu-check *args:
    scripts/gpu_check.sh {{args}}

# What continuous integration runs.
ci:
    bash .ci/run

# Remove what the demo made.
clean-demo:
    rm -rf data/demo runs/demo

# The Python module as a wheel in target/wheels, tested in a fresh environment (needs Python 3.9 or later).
wheel:
    scripts/wheel.sh
