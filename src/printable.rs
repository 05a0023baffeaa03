//! Text that others chose, as it is shown to people: what would do something to a terminal, or to the order
//! and the lines of what it shows, is written out instead.

use std::borrow::Cow;

use serde_json::Value;

/// The text with control characters, separators of lines and marks of direction escaped, as in `\n` and
/// `\u{1b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(does_something) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if does_something(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// The same for each line of a text that has several.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// The same for every text in a document, and for the names of its members.
pub fn printable_document(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(printable(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(printable_document).collect(),
        Value::Object(members) => {
            let shown = members
                .into_iter()
                .map(|(name, value)| (printable(&name).into_owned(), printable_document(value)));
            Value::Object(shown.collect())
        }
        other => other,
    }
}

fn does_something(c: char) -> bool {
    // C0, DEL and C1; separators of lines and paragraphs; marks, embeddings and isolates of direction.
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}')
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_would_do_something_is_written_out_and_nothing_else_is() {
        for plain in ["", "eth0", "käse 名前", "a\\b \"c\""] {
            assert!(matches!(printable(plain), Cow::Borrowed(same) if same == plain));
        }
        for (text, shown) in [
            ("a\nb\r\t", "a\\nb\\r\\t"),
            ("\0\u{1b}[2J\u{7f}\u{9b}", "\\u{0}\\u{1b}[2J\\u{7f}\\u{9b}"),
            ("\u{2028}\u{2029}\u{85}", "\\u{2028}\\u{2029}\\u{85}"),
            ("\u{202e}\u{2067}\u{200f}ü", "\\u{202e}\\u{2067}\\u{200f}ü"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable_lines("a\nb\u{1b}"), "a\nb\\u{1b}");
    }

    #[test]
    fn a_document_keeps_its_form() {
        let document = json!({ "a\n": ["\u{1b}", 1, { "b": "\u{2028}" }], "c": null });
        let shown = json!({ "a\\n": ["\\u{1b}", 1, { "b": "\\u{2028}" }], "c": null });
        assert_eq!(printable_document(document), shown);
    }
}
