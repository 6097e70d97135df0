//! Commands and options that pages name exist; the reference pages are those that the programs make.

use std::collections::BTreeMap;

use bc_pipeline_tests::{Scratch, programs};

use crate::pages::{blocks, pages, root};

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

/// Help texts by program and command.
type Helps = BTreeMap<(String, Vec<String>), String>;

fn help_of(scratch: &Scratch, helps: &mut Helps, program: &str, command: &[String], at: &str) -> String {
    let key = (program.to_owned(), command.to_vec());
    let ask = || {
        let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let output = scratch.run(program, &arguments);
        assert!(output.status.success(), "{at}: there is no such command");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    helps.entry(key).or_insert_with(ask).clone()
}

#[test]
fn documented_commands_and_options_exist() {
    let scratch = Scratch::default();
    let mut helps: Helps = Helps::new();
    let mut checked = 0;
    for (path, page) in pages() {
        let all = ["sh", "console", ""].into_iter().flat_map(|language| blocks(&page, language));
        for words in all.flat_map(commands) {
            let at = format!("{}: {}", path.display(), words.join(" "));
            let program = words[0].clone();
            assert!(programs().join(&program).is_file(), "{at}: there is no {program}");
            let name = |at: usize| words.get(at).filter(|word| !word.starts_with('-')).cloned();
            let mut command = Vec::from_iter(name(1));
            let mut help = help_of(&scratch, &mut helps, &program, &command, &at);
            // A command of commands, such as `ann build`.
            if let (true, Some(second)) = (!command.is_empty() && help.contains("Commands:"), name(2)) {
                command.push(second);
                help = help_of(&scratch, &mut helps, &program, &command, &at);
            }
            for flag in words.iter().filter_map(|word| word.strip_prefix("--")) {
                let flag = flag.split(['=', ']', ',', ')']).next().unwrap_or_default();
                let known = help.contains(&format!("--{flag} ")) || help.contains(&format!("--{flag}\n"));
                assert!(known, "{at}: `{program} {}` has no --{flag}", command.join(" "));
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked} commands were checked");
}

#[test]
fn reference_pages_are_up_to_date() {
    let scratch = Scratch::default();
    for program in ["bc-download-index", "bc-features", "bc-train", "bc-eval", "bc-search"] {
        scratch.succeed(program, &["documents", "written"]);
        let written = std::fs::read_to_string(scratch.path(&format!("written/{program}.md"))).unwrap();
        let stored = root().join(format!("docs/reference/{program}.md"));
        let stored = std::fs::read_to_string(&stored).unwrap_or_default();
        assert!(
            written == stored,
            "docs/reference/{program}.md is not what {program} prints; run scripts/reference.sh"
        );
        assert!(scratch.path(&format!("written/man/{program}.1")).is_file());
    }
    let configuration = scratch.succeed("bc-train", &["config"]);
    let stored = std::fs::read_to_string(root().join("docs/reference/configuration.md")).unwrap_or_default();
    assert!(
        stored.contains(configuration.trim()),
        "docs/reference/configuration.md is not what `bc-train config` prints; run scripts/reference.sh"
    );
}
