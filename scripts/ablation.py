#!/usr/bin/env python3
"""The ablation of configs/ablation: trains and measures one network per row, then makes the table and its figure.

    scripts/ablation.py run                    all rows that are not done; a killed run continues
    scripts/ablation.py run --row base --row clews --jobs 1
    scripts/ablation.py compare                the row base re-evaluated with other settings, without training; `run` does it last
    scripts/ablation.py list                   the rows, and which are done
    scripts/ablation.py table                  the table of docs/results.md and docs/ablation.svg, from what was run

Works as notes and recordings to measure on are yours to put in place (or to link to) before:

    data/ablation/pop.tar.xz                   POP909's MIDI files, NNN/NNN.mid
    data/ablation/tunes.jsonl.xz               tunes as JSON lines (docs/notes-train.md, "Painting")
    data/ablation/splits.json                  {"train": [...], "val": [...]}: ids of POP909's works
    data/ablation/val/, data/ablation/real/    index.parquet and features/ of the recordings to measure on, all of split val:
        bc-download-index build --set index.source=folder --set 'index.shares=[0,1,0]' --set index.dataset_path=MUSIC \\
            --set index.output=data/ablation/real/index.parquet
        bc-features extract --set features.index=data/ablation/real/index.parquet --set features.output=data/ablation/real/features

Python 3.11 or later, no packages. The programs are taken from target/release, or from the folder in BYTECOVER_BIN.
"""
import argparse
import concurrent.futures
import html
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs/ablation"
DATA = pathlib.Path("data/ablation")
RUNS = pathlib.Path("runs/ablation")
SETS = ("val", "real")
BEGIN, END = "<!-- ablation: made by scripts/ablation.py table -->", "<!-- end of ablation -->"


def rows():
    """rows.toml, with the defaults of a row filled in."""
    plan = tomllib.loads((CONFIGS / "rows.toml").read_text())
    for row in plan["row"]:
        row.setdefault("seeds", [1])
        row.setdefault("set", [])
    return plan


def program(name):
    return str(pathlib.Path(os.environ.get("BYTECOVER_BIN", ROOT / "target/release")) / name)


def call(command, log):
    """Runs a program with its output in a log; an error names both."""
    with open(log, "a") as out:
        print("\n$ " + " ".join(command), file=out, flush=True)
        code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT).returncode
    if code:
        raise RuntimeError(f"{command[0]} ended with code {code}; see {log}")


def write(path, text):
    """Writes under a temporary name and renames, so that an existing file is always complete."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text)
    temporary.replace(path)


def settings(values):
    return [word for value in values for word in ("--set", value)]


def stored(plan, name, threads):
    """Paints a stored set of versions, if it does not exist; returns the settings to train on it."""
    out = DATA / f"stored-{name}"
    if not (out / "painted.done").exists():
        wanted = plan["stored"][name]
        out.mkdir(parents=True, exist_ok=True)
        command = [program("bc-features"), "paint", "--config", str(CONFIGS / "base.toml"), "--threads", str(threads)]
        command += ["--source", str(DATA / "pop.tar.xz"), "--splits", str(DATA / "splits.json"), "--out", str(out)]
        command += ["--versions", str(wanted["versions"]), "--val-versions", "0", "--seconds", str(wanted["seconds"])]
        call(command + settings(["features.pool=20"]), out / "log.txt")
        (out / "painted.done").touch()
    changes = [f"features.index={out}/index.parquet", f"features.output={out}/features", "features.pool=20"]
    return changes


def fewer_works(count):
    """splits.json with the first `count` songs to train on."""
    path = DATA / f"splits-{count}.json"
    splits = json.loads((DATA / "splits.json").read_text())
    splits["train"] = splits["train"][:count]
    write(path, json.dumps(splits))
    return [f"paint.splits={path}"]


def training(plan, row, threads):
    """The configuration of a row, and its changes."""
    changes = list(row["set"])
    if "stored" in row:
        changes = stored(plan, row["stored"], threads) + changes
        if "config" not in row:
            own = ["train.data=features", "train.source_shares=[]", "train.batches_per_pass=0"]
            changes = own + ["train.epochs=1000", "train.max_steps=200"] + changes
    if "works" in row:
        changes += fewer_works(row["works"])
    return str(ROOT / row["config"] if "config" in row else CONFIGS / "base.toml"), changes


def network_of(folder, row):
    best, last = folder / "best.safetensors", folder / "last.safetensors"
    return best if row.get("best") or not last.exists() else last


def measure(network, out, changes, threads, log):
    """Figures of a network on each set of recordings, by bc-eval."""
    found = {}
    for name in SETS:
        folder = out / name
        command = [program("bc-eval"), "run", "--config", str(CONFIGS / "base.toml"), "--threads", str(threads)]
        values = [f"eval.checkpoint={network}", f"eval.output={folder}", 'eval.splits=["val"]']
        values += [f"features.index={DATA}/{name}/index.parquet", f"features.output={DATA}/{name}/features"]
        call(command + settings(values + changes), log)
        metrics = json.loads((folder / "metrics.json").read_text())
        first = metrics["splits"]["val"]
        whole = metrics.get("whole_tracks", {}).get("val", first)
        found[name] = {"whole": figures(whole), "first": figures(first)}
    return found


def figures(metrics):
    interval = metrics["intervals"]["mAP"]
    return {
        "map": metrics["mAP"],
        "low": interval["low"],
        "high": interval["high"],
        "hit_at_1": metrics["hit@1"],
        "mr1": metrics["MR1"],
        "queries": metrics["queries"],
        "chance": metrics["chance"]["mAP"],
    }


def steps_of(folder):
    """The number of training steps, by the last line of the record."""
    kinds = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {"steps": max((entry["step"] for entry in kinds if entry.get("kind") == "step"), default=0)}


def run_row(plan, row, seed, threads):
    """One row with one seed: trained, measured, its result written last."""
    folder = RUNS / f"{row['name']}-{seed}"
    result = folder / "result.json"
    if result.exists():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    log = RUNS / f"{row['name']}-{seed}.txt"
    began = time.time()
    config, changes = training(plan, row, threads)
    command = [program("bc-train"), "train", "--config", config, "--threads", str(threads)]
    fixed = [f"train.run={folder}/train", f"train.seed={seed}", "train.save_last=true", "train.workers=1"]
    call(command + settings(changes + fixed), log)
    trained = time.time()
    network = network_of(folder / "train", row)
    found = measure(network, folder / "eval", [], threads, log)
    shutil.copy(network, folder / "network.safetensors")
    found |= steps_of(folder / "train")
    found |= {"row": row["name"], "seed": seed, "changes": changes, "train_s": trained - began}
    write(result, json.dumps(found, indent=1))
    return found


def run_comparisons(plan, threads):
    """The finished networks of the row base, evaluated with other comparisons."""
    for seed in (1, 2):
        network = RUNS / f"base-{seed}/network.safetensors"
        for comparison in plan["compare"]:
            folder = RUNS / f"compare-{comparison['name']}-{seed}"
            if not network.exists() or (folder / "result.json").exists():
                continue
            # The windows exist already: bc-eval makes only what is missing.
            shutil.copytree(RUNS / f"base-{seed}/eval", folder, dirs_exist_ok=True)
            found = measure(network, folder, comparison["set"], threads, folder / "log.txt")
            write(folder / "result.json", json.dumps(found | {"row": comparison["name"], "seed": seed}, indent=1))


def run(arguments):
    plan = rows()
    todo = [row for row in plan["row"] if not arguments.row or row["name"] in arguments.row]
    unknown = set(arguments.row or []) - {row["name"] for row in todo}
    if unknown:
        sys.exit(f"no such row in {CONFIGS / 'rows.toml'}: {', '.join(sorted(unknown))}")
    missing = [path for path in ("pop.tar.xz", "tunes.jsonl.xz", "splits.json", "val", "real") if not (DATA / path).exists()]
    if missing:
        sys.exit(f"{DATA} lacks {', '.join(missing)}: scripts/ablation.py --help says what belongs there")
    RUNS.mkdir(parents=True, exist_ok=True)
    for name in {row["stored"] for row in todo if "stored" in row}:
        stored(plan, name, arguments.jobs * arguments.threads)
    # All first seeds come before all second ones only within a row: a table that is cut short has whole rows.
    work = [(row, seed) for row in todo for seed in row["seeds"]]
    failed = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        started = {pool.submit(run_row, plan, row, seed, arguments.threads): (row, seed) for row, seed in work}
        for future in concurrent.futures.as_completed(started):
            row, seed = started[future]
            try:
                found = future.result()
            except (RuntimeError, OSError, KeyError, ValueError) as error:
                failed.append(row["name"])
                print(f"{row['name']} {seed}: {error}", file=sys.stderr, flush=True)
                continue
            if found:
                val, real = (found[name]["whole"]["map"] for name in SETS)
                print(f"{row['name']} {seed}: rendered {val:.3f}, real {real:.3f}, {found['train_s']:.0f} s", flush=True)
    if not arguments.row:
        run_comparisons(plan, arguments.threads)
    sys.exit(1 if failed else 0)


def done(row):
    """Results of a row, by seed."""
    paths = [RUNS / f"{row['name']}-{seed}/result.json" for seed in row["seeds"]]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def show(_):
    for row in rows()["row"]:
        print(f"{len(done(row))} of {len(row['seeds'])}  {row['name']:24} {row['group']}: {row['title']}")


def grouped(plan):
    """The rows with what was run of each, groups in the order in which they first come."""
    groups = list(dict.fromkeys(row["group"] for row in plan["row"]))
    return [(row, done(row)) for group in groups for row in plan["row"] if row["group"] == group]


def percent(entry):
    """mAP with its interval."""
    return f"{entry['map']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})"


def line(cells):
    return "| " + " | ".join(cells) + " |"


def table_text(plan):
    """The table in Markdown: one line for each row and seed that was run, then those that were not."""
    head = ["what", "change", "seed", "rendered, windows", "rendered, whole", "real, windows", "real, whole", "training"]
    lines = [line(head), line(["---"] * len(head))]
    missing = []
    for row, found in grouped(plan):
        if len(found) < len(row["seeds"]):
            missing.append(row["name"])
        for result in found:
            val, real = result["val"], result["real"]
            cells = [row["group"], row["title"], str(result["seed"]), percent(val["first"]), percent(val["whole"])]
            cells += [percent(real["first"]), percent(real["whole"]), f"{result['steps']} steps"]
            lines.append(line(cells))
    text = "\n".join(lines) + "\n"
    if missing:
        text += "\nNot run (or not with all seeds): " + ", ".join(missing) + ".\n"
    return text + comparison_text(plan)


def comparison_text(plan):
    """The networks of the row base, re-evaluated with other settings, in Markdown."""
    lines = [line(["comparison", "seed", "rendered", "real"]), line(["---"] * 4)]
    for comparison in plan["compare"]:
        for path in sorted(RUNS.glob(f"compare-{comparison['name']}-?/result.json")):
            found = json.loads(path.read_text())
            cells = [comparison["title"], str(found["seed"])] + [percent(found[name]["first"]) for name in SETS]
            lines.append(line(cells))
    return "\nThe same networks of the first row, re-evaluated with other settings (no training):\n\n" + "\n".join(lines) + "\n"


def figure(plan):
    """The table as SVG: for each row a point with its interval by windows, and a ring for whole recordings."""
    entries = [(row, result) for row, found in grouped(plan) for result in found]
    base = [result for row, result in entries if row["name"] == "base"]
    left, panel, gap, step, top = 470, 330, 40, 19, 62
    height = top + step * len(entries) + 46
    width = left + 2 * panel + gap + 20
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
    ]

    def words(x, y, text, extra=""):
        out.append(f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{html.escape(text)}</text>')

    for number, (name, title) in enumerate(zip(SETS, ("rendered pop songs (100 works)", "real anthems (18 works)"))):
        begin = left + number * (panel + gap)
        words(begin, 22, "mAP, " + title, 'font-weight="bold"')
        words(begin, 40, "point: windows, with 95 % interval; ring: whole recordings", 'fill="#666" font-size="11"')
        for tenth in range(0, 11, 2):
            x = begin + panel * tenth / 10
            out.append(f'<line x1="{x}" x2="{x}" y1="{top - 12}" y2="{height - 34}" stroke="#ddd"/>')
            words(x, height - 18, f"{tenth / 10:.1f}", 'text-anchor="middle" fill="#666"')
        for result in base[:1]:
            x = begin + panel * result[name]["first"]["map"]
            out.append(f'<line x1="{x}" x2="{x}" y1="{top - 12}" y2="{height - 34}" stroke="#888" stroke-dasharray="3 3"/>')
        for index, (row, result) in enumerate(entries):
            y = top + step * index
            first, whole = result[name]["first"], result[name]["whole"]
            colour = "#1b6ca8" if row["name"] != "base" else "#c0392b"
            low, high = (begin + panel * first[end] for end in ("low", "high"))
            out.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{colour}"/>')
            out.append(f'<circle cx="{begin + panel * first["map"]:.1f}" cy="{y}" r="3.5" fill="{colour}"/>')
            out.append(
                f'<circle cx="{begin + panel * whole["map"]:.1f}" cy="{y}" r="3.5" fill="none" stroke="{colour}"/>'
            )
    for index, (row, result) in enumerate(entries):
        y = top + step * index + 4
        name = f"{row['group']}: {row['name']}" if row["name"] != row["group"] else row["name"]
        words(left - 14, y, name + (f", seed {result['seed']}" if len(row["seeds"]) > 1 else ""), 'text-anchor="end"')
    return "\n".join(out) + "\n</svg>\n"


def table(arguments):
    plan = rows()
    text = table_text(plan)
    page = arguments.page
    if page.exists() and BEGIN in page.read_text():
        old = page.read_text()
        write(page, old[: old.index(BEGIN)] + BEGIN + "\n" + text + old[old.index(END) :])
        write(arguments.figure, figure(plan))
        print(f"{page} and {arguments.figure}")
    else:
        print(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run", help="train and measure what is not done")
    command.add_argument("--row", action="append", help="only this row; may be given several times")
    command.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1)), help="rows at once")
    command.add_argument("--threads", type=int, default=1, help="threads of each")
    command.set_defaults(work=run)
    command = commands.add_parser("compare", help="only re-evaluate the networks of the row base with other settings")
    command.add_argument("--threads", type=int, default=1)
    command.set_defaults(work=lambda arguments: run_comparisons(rows(), arguments.threads))
    commands.add_parser("list", help="the rows, and which are done").set_defaults(work=show)
    command = commands.add_parser("table", help="make the table and its figure from what was run")
    command.add_argument("--page", type=pathlib.Path, default=ROOT / "docs/results.md")
    command.add_argument("--figure", type=pathlib.Path, default=ROOT / "docs/ablation.svg")
    command.set_defaults(work=table)
    arguments = parser.parse_args()
    arguments.work(arguments)


if __name__ == "__main__":
    main()
