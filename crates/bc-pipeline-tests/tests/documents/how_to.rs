//! The commands of README and of the how-to pages, run page by page in one folder, as a reader with a small collection
//! would run them.

use std::collections::BTreeSet;
use std::path::Path;

use bc_pipeline_tests::Scratch;

use crate::pages::{blocks, pages, root};
use crate::shell::Shell;

/// The pages in the order in which a reader needs them: what one makes, the next takes.
const ORDER: [&str; 14] = [
    "README.md",
    "docs/how-to/own-audio.md",
    "docs/how-to/search-and-calibrate.md",
    "docs/how-to/serve.md",
    "docs/how-to/evaluate.md",
    "docs/how-to/export.md",
    "docs/how-to/train.md",
    "docs/how-to/resume.md",
    "docs/how-to/paint.md",
    "docs/how-to/import-shs100k.md",
    "docs/how-to/cluster.md",
    "docs/how-to/several-devices.md",
    "docs/how-to/cuda.md",
    "CONTRIBUTING.md",
];

/// Beginnings of commands that are not run here, with the reason and what runs them instead.
const NOT_RUN: [(&str, &str); 27] = [
    ("cargo ", "this test is built by it"),
    ("just test", "runs this test"),
    ("export PATH=", "the shell has it"),
    ("apt-get ", "changes the machine"),
    ("bc-search serve ", "does not end; crates/bc-search/tests/serve.rs asks a server"),
    ("curl ", "asks that server"),
    ("cp scripts/slurm/", "Slurm: scripts/check_slurm.sh"),
    ("scripts/slurm/", "Slurm: scripts/check_slurm.sh"),
    ("sbatch ", "Slurm: scripts/check_slurm.sh"),
    ("srun ", "Slurm and MPI: scripts/check_slurm.sh, scripts/check_ranks.sh"),
    ("mpirun ", "MPI: scripts/check_ranks.sh"),
    ("bc-train --config configs/bytecover.toml", "data of SHS100K; crates/bc-train/tests/recipes.rs"),
    ("bc-train --config configs/painted.toml", "notes of POP909; crates/bc-train/tests/painted.rs"),
    ("bc-features paint --source SONGS", "notes of POP909; crates/bc-features/tests/paint.rs"),
    ("bc-download-index download", "yt-dlp; crates/bc-download-index/tests/download.rs"),
    ("scripts/hpcp.py", "other people's chroma"),
    ("bc-eval embed --npy data/hpcp", "other people's chroma; crates/bc-eval/tests/arrays.rs"),
    ("bc-eval metrics --npy data/hpcp", "other people's chroma; crates/bc-eval/tests/arrays.rs"),
    ("bc-search ann build", "the feature `ann`; crates/bc-search/tests/ann.rs"),
    (
        "bc-search search song.mp3 --index songs.index --network configs/networks/default --ann",
        "the feature `ann`; crates/bc-search/tests/ann.rs",
    ),
    ("bc-search add s3://", "an object store; scripts/check_s3.py"),
    ("just build-cuda", "compiles for minutes"),
    ("just cuda-check", "compiles for minutes; .ci/run"),
    ("scripts/cuda-toolkit.sh", "fetches a gigabyte; `just cuda-check` fetches a part of it"),
    ("export LD_LIBRARY_PATH=", "libraries that are not there"),
    ("bc-eval embed --config configs/bytecover.toml --device cuda", "a GPU; scripts/gpu_check.sh"),
    ("scripts/gpu_check.sh", "a GPU"),
];

/// Text of a page, and the shorter run that replaces it in the test.
const SMALLER: [(&str, &str); 2] =
    [("train.epochs=200", "train.epochs=3"), ("--versions 8 ", "--versions 2 ")];

/// The lines of a page's `sh` blocks, comments left out.
fn commands(page: &str) -> Vec<String> {
    let lines = blocks(page, "sh").into_iter().flat_map(str::lines);
    let lines = lines.filter(|line| !line.starts_with('#'));
    let lines = lines.map(|line| line.split(" #").next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn commands_of_readme_and_how_to_pages_succeed() {
    let pages = pages();
    let with_commands = pages.iter().filter(|(_, page)| !blocks(page, "sh").is_empty());
    let with_commands = with_commands.map(|(path, _)| path.strip_prefix(root()).unwrap());
    let with_commands: BTreeSet<&Path> =
        with_commands.filter(|path| *path != Path::new("docs/tutorial.md")).collect();
    assert_eq!(with_commands, ORDER.map(Path::new).into(), "pages with commands, and those that are run");

    let scratch = Scratch::default();
    let shell = Shell::new(&scratch);
    collect(&scratch, &shell);
    let mut run = 0;
    for name in ORDER {
        if name == "docs/how-to/paint.md" && !bc_testing::has_program("xz", "--version") {
            continue;
        }
        prepare(name, &scratch, &shell);
        for command in commands(&pages[&root().join(name)]) {
            if excuse(&command).is_some() {
                continue;
            }
            let command =
                SMALLER.iter().fold(command, |command, (printed, small)| command.replace(printed, small));
            println!("{name}: {command}");
            shell.run(&command);
            run += 1;
        }
    }
    println!("{run} commands were run");
    assert!(run > 25, "{run} commands were run");
}

/// The beginning in [`NOT_RUN`] that a command has.
fn excuse(command: &str) -> Option<&'static str> {
    NOT_RUN.iter().map(|(beginning, _)| *beginning).find(|beginning| command.starts_with(beginning))
}

#[test]
fn all_listed_exceptions_are_needed() {
    let pages = pages();
    let used = ORDER.iter().flat_map(|name| commands(&pages[&root().join(name)]));
    let used: BTreeSet<_> = used.filter_map(|command| excuse(&command)).collect();
    let given: BTreeSet<_> = NOT_RUN.iter().map(|(beginning, _)| *beginning).collect();
    assert_eq!(used, given, "beginnings that commands have, and those that are excused");
}

/// What a reader has: the configurations, one folder per song, and the files that the pages name.
fn collect(scratch: &Scratch, shell: &Shell<'_>) {
    let configs = root().join("configs").canonicalize().unwrap();
    shell.run(&format!("cp -r '{}' configs", configs.display()));
    // Enough validation songs to calibrate, and few steps of training.
    let own = std::fs::read_to_string(scratch.path("configs/own.toml")).unwrap();
    let small = own
        .replace("shares = [0.8, 0.1, 0.1]", "shares = [0.25, 0.6, 0.15]")
        .replace("cliques_per_batch = 8", "cliques_per_batch = 3")
        .replace("epochs = 20", "epochs = 2");
    assert_ne!(own, small);
    scratch.write("configs/own.toml", &small);
    shell.run(
        "bc-download-index synth --set synth.output=demo --set synth.cliques=22 --set synth.versions=2 \
         --set synth.val_cliques=2 --set synth.test_cliques=2",
    );
    shell.run(
        "tail -n +2 demo/versions.csv | while IFS=, read -r id clique title performer split path rest; do \
         mkdir -p \"music/$title\"; cp \"demo/$path\" \"music/$title/$performer.wav\"; done",
    );
    // What a file holds decides how it is read, not its name.
    shell.run(
        "mkdir new-albums; ls music/*/*.wav | head -n 4 > some; \
         for name in query.wav song.mp3 one.mp3 new-albums/a.wav; do cp \"$(sed -n 1p some)\" $name; done; \
         cp \"$(sed -n 2p some)\" other.mp3; cp \"$(sed -n 3p some)\" broadcast.mp3",
    );
}

/// Makes what a page takes for given.
fn prepare(page: &str, scratch: &Scratch, shell: &Shell<'_>) {
    match page {
        "docs/how-to/evaluate.md" => {
            shell.run("mkdir -p runs; cp -r runs/own runs/one; cp -r runs/own runs/two");
            scratch.write("cliques.txt", "a\na\nb\nb\nb\n");
            let vectors: Vec<f32> = (0..15).map(|n| (n as f32).sin()).collect();
            std::fs::write(scratch.path("vectors.npy"), npy([5, 3], &vectors)).unwrap();
            let distances: Vec<f32> =
                (0..25).map(|n| f32::from(u8::from(n / 5 != n % 5)) * (n as f32 + 1.0)).collect();
            std::fs::write(scratch.path("qmax.npy"), npy([5, 5], &distances)).unwrap();
        }
        "docs/how-to/paint.md" => {
            let notes: Vec<String> = (0..64).map(|n| format!("[{n}, 1, {}, 0]", 60 + (n * n) % 12)).collect();
            let tunes: Vec<String> = (0..20)
                .map(|tune| {
                    format!(r#"{{"work": "w{tune}", "setting": "s", "notes": [{}]}}"#, notes.join(", "))
                })
                .collect();
            scratch.write("TUNES.jsonl", &(tunes.join("\n") + "\n"));
            shell.run("xz TUNES.jsonl");
        }
        "docs/how-to/import-shs100k.md" => {
            let rows = |sets: std::ops::Range<u32>| -> Vec<String> {
                sets.flat_map(|set| (0..2).map(move |version| format!("{set}\t{version}"))).collect()
            };
            let row = |row: String| {
                format!("{row}\ttitle\tperformer\thttps://example.org/{}\tok\n", row.replace('\t', "-"))
            };
            scratch.write("SHS100K/list", &rows(0..9).into_iter().map(row).collect::<String>());
            for (name, sets) in [("TRAIN", 0..3), ("VAL", 3..6), ("TEST", 6..9)] {
                scratch.write(&format!("SHS100K/SHS100K-{name}"), &(rows(sets).join("\n") + "\n"));
            }
        }
        _ => {}
    }
}

/// A NumPy file of a matrix of 32-bit floats, version 1.0 of its format.
fn npy(shape: [usize; 2], values: &[f32]) -> Vec<u8> {
    let header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", shape[0], shape[1]);
    let header = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}
