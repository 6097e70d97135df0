#!/usr/bin/env python3
"""Shows that TensorBoard reads a run's events, and that they equal metrics.jsonl.

    scripts/check_tensorboard.py [BC-TRAIN=target/release/bc-train]

Trains a small network on random features in two parts (the second resumes the first), reads
the events with TensorBoard's own reader, and compares every scalar of every step with
metrics.jsonl. Prints one line per scalar; exits with 1 if one differs. Needs tensorboard.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

project = Path(__file__).resolve().parent.parent
binary = Path(sys.argv[1] if len(sys.argv) > 1 else project / "target/release/bc-train").resolve()

with tempfile.TemporaryDirectory() as folder:
    run = Path(folder) / "run"
    settings = ["train.debug=true", f"train.run={run}", "model.width=2", "model.blocks=[1,1,1,1]"]
    settings += ["model.variant=plain", "train.lengths_s=[10,20]", "train.cliques_per_batch=4", "train.epochs=2"]
    for steps, flags in ((30, []), (50, ["--resume"])):
        overrides = [part for text in [*settings, f"train.max_steps={steps}"] for part in ("--set", text)]
        subprocess.run([binary, "train", *overrides, *flags], check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    found = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    counts = {tag: len(events.Scalars(tag)) for tag in found}

failed = not found
for tag, values in sorted(found.items()):
    kind, _, name = tag.partition("/")
    recorded = {
        line["step"]: line[name]
        for line in lines
        if name in line and line["kind"] == ("validation" if kind == "validation" else "step")
    }
    # Events hold 32 bits.
    worst = max((abs(values[s] - recorded[s]) / max(abs(recorded[s]), 1e-30) for s in values if s in recorded), default=0.0)
    good = bool(recorded) and set(values) == set(recorded) and counts[tag] == len(recorded) and worst < 1e-6
    failed |= not good
    print(f"{'ok    ' if good else 'FAILED'} {tag}: {counts[tag]} points for {len(recorded)} lines, differs by {worst:.0e}")
sys.exit(failed)
