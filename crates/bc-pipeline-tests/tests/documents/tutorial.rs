//! The tutorial: each command is run and prints what the page says.

use bc_pipeline_tests::Scratch;

use crate::pages::{blocks, pages, root};
use crate::printed::printed;
use crate::shell::Shell;

#[test]
fn tutorial_commands_print_the_documented_output() {
    let scratch = Scratch::default();
    let configs = root().join("configs").canonicalize().unwrap();
    std::os::unix::fs::symlink(configs, scratch.path("configs")).unwrap();
    let shell = Shell::new(&scratch);
    let tutorial = std::fs::read_to_string(root().join("docs/tutorial.md")).unwrap();
    let mut commands = 0;
    for block in blocks(&tutorial, "console") {
        for part in block.strip_prefix("$ ").expect("a block begins with a command").split("\n$ ") {
            let (command, expected) = part.split_once('\n').unwrap_or((part, ""));
            let stdout = shell.run(command);
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
fn outputs_on_other_pages_are_those_of_the_tutorial() {
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
