//! Text and figures that the page and the Markdown share, and their escaping.

use serde_json::Value;

/// The figures of a split that are shown, with their digits.
pub const FIGURES: [(&str, usize); 7] =
    [("mAP", 4), ("MR1", 2), ("MRR", 4), ("hit@1", 4), ("hit@10", 4), ("P@10", 4), ("NAR", 2)];

/// Returns one figure of `metrics.json` as text.
pub fn figure_of(figures: &Value, name: &str, digits: usize) -> String {
    figures[name].as_f64().map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// Returns a count of `metrics.json`; a dash for anything but a number.
pub fn count_of(figures: &Value, name: &str) -> String {
    figures[name].as_u64().map_or_else(|| "–".to_owned(), |count| count.to_string())
}

/// Escapes text for HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Escapes text for a line or a table of Markdown, so that nothing in it is markup and it has no line breaks.
pub fn escaped_markdown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '(' | ')' | '#' | '|' | '!'
            | '&' | '~' => {
                safe.push('\\');
                safe.push(letter);
            }
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_escaped() {
        assert_eq!(escaped("<b>\"&"), "&lt;b&gt;&quot;&amp;");
        let title = "a | b\n# c [link](http://x) <img> *d* `e`";
        let safe = escaped_markdown(title);
        assert_eq!(safe, "a \\| b \\# c \\[link\\]\\(http://x\\) \\<img\\> \\*d\\* \\`e\\`");
    }

    #[test]
    fn absent_count_is_a_dash() {
        let figures = serde_json::json!({ "queries": "<script>", "more": 3 });
        assert_eq!(
            (count_of(&figures, "queries"), count_of(&figures, "more")),
            ("–".to_owned(), "3".to_owned())
        );
    }
}
