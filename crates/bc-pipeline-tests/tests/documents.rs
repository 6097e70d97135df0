//! The commands of README.md and docs: the tutorial's are run and print what the page says; all others parse, and
//! their options exist. The reference pages are those that the programs make.
//!
//! A `console` block of a page holds commands, each after `$ `, and below each what it prints on standard output. There a line `…`
//! stands for any lines, `…` within a line for any text, and decimal numbers agree within 0.05 (the last digits depend
//! on the machine's instruction set). A block ```` ```sh ```` holds commands that are not run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bc_pipeline_tests::{Workplace, programs};

const TOLERANCE: f64 = 0.05;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// README.md, CONTRIBUTING.md and all pages of docs, by their paths.
fn pages() -> BTreeMap<PathBuf, String> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    below(&root().join("docs"), &mut found);
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The contents of the fenced blocks of one language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let (mut found, mut at, mut open) = (Vec::new(), 0, None);
    for line in page.split_inclusive('\n') {
        if let Some(info) = line.trim_end().strip_prefix("```") {
            open = match open {
                Some((start, matches)) => {
                    if matches {
                        found.push(&page[start..at]);
                    }
                    None
                }
                None => Some((at + line.len(), info == language)),
            };
        }
        at += line.len();
    }
    assert!(open.is_none(), "a block does not end");
    found
}

/// Whether a line is as expected: the same words, where `…` is any text and decimals may differ a little.
fn agrees(expected: &str, line: &str) -> bool {
    let Some((before, after)) = expected.split_once('…') else { return same_words(expected, line) };
    let Some(rest) = line.strip_suffix(after) else { return false };
    // As many words as stand before the `…`; the last of them may go on.
    let words: Vec<&str> = before.split_whitespace().collect();
    let shown: Vec<&str> = rest.split_whitespace().take(words.len()).collect();
    let continued = !before.ends_with(' ') && !before.is_empty();
    match (words.split_last(), shown.split_last()) {
        (Some((last, words)), Some((other, shown))) if continued => {
            other.starts_with(last) && same_words(&words.join(" "), &shown.join(" "))
        }
        _ => same_words(&words.join(" "), &shown.join(" ")),
    }
}

/// Words and colons alike, decimals within the tolerance.
fn same_words(expected: &str, line: &str) -> bool {
    let number = |word: &str| word.contains('.').then(|| word.parse::<f64>().ok()).flatten();
    let same = |(a, b): (&str, &str)| {
        a == b || matches!((number(a), number(b)), (Some(a), Some(b)) if (a - b).abs() <= TOLERANCE)
    };
    let separators = |c: char| c.is_whitespace() || c == ':';
    let (mut a, mut b) = (expected.split(separators), line.split(separators));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if same((a, b)) => {}
            _ => return false,
        }
    }
}

/// Whether all of the lines are as expected; a line `…` is any lines.
fn printed(expected: &[&str], lines: &[&str]) -> bool {
    match (expected.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), _) => (0..=lines.len()).any(|skipped| printed(rest, &lines[skipped..])),
        (Some((first, rest)), Some((line, others))) => agrees(first, line) && printed(rest, others),
        _ => false,
    }
}

#[test]
fn expectations_can_fail() {
    assert!(printed(&["a 0.91 b", "…", "end …"], &["a 0.93 b", "x", "y", "end now"]));
    assert!(printed(&["a 0.91 b …"], &["a 0.93 b c"]) && !printed(&["a 0.91 b …"], &["a 0.81 b c"]));
    assert!(
        printed(&["a x…"], &["a xyz"]) && !printed(&["a x…"], &["a yx"]) && !printed(&["a … c"], &["a b"])
    );
    assert!(!printed(&["a 0.91 b"], &["a 0.81 b"]) && !printed(&["a 1 b"], &["a 2 b"]));
    assert!(!printed(&["a", "…", "b"], &["a", "c"]) && !printed(&["a"], &["a", "b"]));
}

#[test]
fn the_tutorial_prints_what_it_says() {
    let place = Workplace::default();
    let configs = root().join("configs").canonicalize().unwrap();
    std::os::unix::fs::symlink(configs, place.path("configs")).unwrap();
    let path = std::env::join_paths(
        std::iter::once(programs())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )
    .unwrap();
    let tutorial = std::fs::read_to_string(root().join("docs/tutorial.md")).unwrap();
    let mut commands = 0;
    for block in blocks(&tutorial, "console") {
        for part in block.strip_prefix("$ ").expect("a block begins with a command").split("\n$ ") {
            let (command, expected) = part.split_once('\n').unwrap_or((part, ""));
            let output = Command::new("bash")
                .args(["-euo", "pipefail", "-c", command])
                .current_dir(place.path(""))
                .env("PATH", &path)
                .env_remove("SLURM_ARRAY_TASK_ID")
                .output()
                .unwrap();
            let stdout = String::from_utf8_lossy(&output.stdout);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}\n{stdout}{stderr}");
            let expected: Vec<&str> = expected.lines().collect();
            let lines: Vec<&str> = stdout.lines().map(str::trim_end).collect();
            assert!(
                printed(&expected, &lines),
                "{command}\nprints\n{stdout}\nand docs/tutorial.md says\n{}",
                expected.join("\n")
            );
            commands += 1;
        }
    }
    assert!(commands > 10, "{commands} commands were run");
}

#[test]
fn other_pages_show_only_what_the_tutorial_does() {
    let pages = pages();
    let tutorial = &pages[&root().join("docs/tutorial.md")];
    let mut shown = 0;
    for (path, page) in &pages {
        for block in blocks(page, "console") {
            assert!(tutorial.contains(block), "{} shows what is not run:\n{block}", path.display());
            shown += 1;
        }
    }
    assert!(shown > 1);
}

/// Commands of our programs in a block, continued lines joined; redirections and pipes end them. A block with `$ `
/// has output in its other lines.
fn commands(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    let prompt = if block.starts_with("$ ") { "$ " } else { "" };
    let mut found = Vec::new();
    for line in joined.lines().filter_map(|line| line.strip_prefix(prompt)) {
        let line = line.split(" #").next().unwrap_or_default().replace(['"', '\''], " ");
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let program = |at: &usize| words[*at].trim_start_matches("target/release/").starts_with("bc-");
        let first = |at: &usize| *at == 0 || words[at - 1] == "--wrap";
        if let Some(start) = (0..words.len()).filter(first).find(program) {
            let end = words[start..].iter().position(|word| ["|", ">", "&&", ";"].contains(&word.as_str()));
            let mut words = words[start..].to_vec();
            words.truncate(end.unwrap_or(words.len()));
            words[0] = words[0].trim_start_matches("target/release/").to_owned();
            found.push(words);
        }
    }
    found
}

#[test]
fn every_command_of_the_documents_exists_with_its_options() {
    let place = Workplace::default();
    let mut helps: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut checked = 0;
    for (path, page) in pages() {
        let all = ["sh", "console", ""].into_iter().flat_map(|language| blocks(&page, language));
        for words in all.flat_map(commands) {
            let at = format!("{}: {}", path.display(), words.join(" "));
            let program = words[0].clone();
            assert!(programs().join(&program).is_file(), "{at}: there is no {program}");
            let command = words.get(1).filter(|word| !word.starts_with('-')).cloned().unwrap_or_default();
            let key = (program.clone(), command.clone());
            let help = helps.entry(key).or_insert_with(|| {
                let command = Some(command.as_str()).filter(|command| !command.is_empty());
                let arguments: Vec<&str> = command.into_iter().chain(["--help"]).collect();
                let output = place.run(&program, &arguments);
                assert!(output.status.success(), "{at}: there is no such command");
                String::from_utf8_lossy(&output.stdout).into_owned()
            });
            for flag in words.iter().filter_map(|word| word.strip_prefix("--")) {
                let flag = flag.split(['=', ']', ',', ')']).next().unwrap_or_default();
                let known = help.contains(&format!("--{flag} ")) || help.contains(&format!("--{flag}\n"));
                assert!(known, "{at}: `{program} {command}` has no --{flag}");
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked} commands were checked");
}

#[test]
fn reference_pages_are_those_that_the_programs_make() {
    let place = Workplace::default();
    for program in ["bc-download-index", "bc-features", "bc-train", "bc-eval", "bc-search"] {
        place.succeed(program, &["documents", "made"]);
        let made = std::fs::read_to_string(place.path(&format!("made/{program}.md"))).unwrap();
        let kept = root().join(format!("docs/reference/{program}.md"));
        let kept = std::fs::read_to_string(&kept).unwrap_or_default();
        assert!(
            made == kept,
            "docs/reference/{program}.md is not what {program} prints; run scripts/reference.sh"
        );
        assert!(place.path(&format!("made/man/{program}.1")).is_file());
    }
    let configuration = place.succeed("bc-train", &["config"]);
    let kept = std::fs::read_to_string(root().join("docs/reference/configuration.md")).unwrap_or_default();
    assert!(
        kept.contains(configuration.trim()),
        "docs/reference/configuration.md is not what `bc-train config` prints; run scripts/reference.sh"
    );
}

#[test]
fn links_between_pages_lead_somewhere() {
    for (path, page) in pages() {
        for (at, _) in page.match_indices("](") {
            let target = page[at + 2..].split(')').next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            assert!(path.parent().unwrap().join(file).exists(), "{}: there is no {target}", path.display());
        }
    }
}
