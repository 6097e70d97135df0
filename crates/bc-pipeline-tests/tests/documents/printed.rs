//! Compares what a page says that a command prints with what it prints.

const TOLERANCE: f64 = 0.05;

/// Whether a line is as expected: the same words, where `…` is any text and decimals may differ a little.
fn agrees(expected: &str, line: &str) -> bool {
    let Some((before, after)) = expected.split_once('…') else { return same_words(expected, line) };
    let Some(rest) = line.strip_suffix(after) else { return false };
    // As many words as precede the `…`; the last of them may be longer.
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
pub fn printed(expected: &[&str], lines: &[&str]) -> bool {
    match (expected.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), _) => (0..=lines.len()).any(|skipped| printed(rest, &lines[skipped..])),
        (Some((first, rest)), Some((line, others))) => agrees(first, line) && printed(rest, others),
        _ => false,
    }
}

#[test]
fn comparison_of_outputs_can_fail() {
    assert!(printed(&["a 0.91 b", "…", "end …"], &["a 0.93 b", "x", "y", "end now"]));
    assert!(printed(&["a 0.91 b …"], &["a 0.93 b c"]) && !printed(&["a 0.91 b …"], &["a 0.81 b c"]));
    assert!(
        printed(&["a x…"], &["a xyz"]) && !printed(&["a x…"], &["a yx"]) && !printed(&["a … c"], &["a b"])
    );
    assert!(!printed(&["a 0.91 b"], &["a 0.81 b"]) && !printed(&["a 1 b"], &["a 2 b"]));
    assert!(!printed(&["a", "…", "b"], &["a", "c"]) && !printed(&["a"], &["a", "b"]));
}
