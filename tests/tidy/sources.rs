//! Source files, as a whole and with comments and tests taken out.

use std::path::{Path, PathBuf};

/// A source file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its path from the root of the workspace.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    /// Its module is declared under `#[cfg(test)]`.
    is_tests: bool,
}

impl Source {
    /// The code: no comments, and nothing from the file's `#[cfg(test)]` on, which comes last. A
    /// file that is all tests has none.
    pub(crate) fn code(&self) -> String {
        if self.is_tests {
            return String::new();
        }
        without_comments(self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default())
    }

    /// The code, tests included.
    pub(crate) fn all_code(&self) -> String {
        without_comments(&self.text)
    }

    /// The lines of the code that hold `word` as a word of its own.
    pub(crate) fn lines_with(&self, code: &str, word: &str) -> Vec<String> {
        let found = code.lines().enumerate().filter(|(_, line)| has_word(line, word));
        found.map(|(n, line)| format!("{}:{}: {}", self.path, n + 1, line.trim())).collect()
    }
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| match line.find("//") {
        // A URL's slashes stand behind a colon.
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// True if `word` stands in `line` and is no part of a longer word.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        !is_part(line[..at].chars().next_back()) && !is_part(line[at + word.len()..].chars().next())
    })
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below these folders. A folder that has none is a mistake of the rule.
#[track_caller]
pub(crate) fn below(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        let before = found.len();
        collect(&root().join(folder), &mut found);
        assert!(found.len() > before, "there is no Rust file below {folder}");
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Every Rust file of the workspace.
pub(crate) fn everywhere() -> Vec<Source> {
    below(&["config", "src", "actors", "plugin", "loadtest", "fuzz", "tests"])
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let is_tests = is_declared_for_tests(&path);
            let path = path.strip_prefix(root()).expect("below the root");
            found.push(Source { path: path.to_string_lossy().into_owned(), text, is_tests });
        }
    }
}

/// Does the `mod.rs` beside it declare it for tests only?
fn is_declared_for_tests(path: &Path) -> bool {
    let name = path.file_stem().expect("a name").to_string_lossy();
    let parent = std::fs::read_to_string(path.with_file_name("mod.rs")).unwrap_or_default();
    parent.contains(&format!("#[cfg(test)]\nmod {name};"))
}

#[test]
fn words_are_told_from_parts_of_words() {
    assert!(has_word("unsafe { x }", "unsafe") && has_word("(unsafe)", "unsafe"));
    assert!(!has_word("unsafe_code", "unsafe") && !has_word("my_unsafe", "unsafe"));
    assert_eq!(without_comments("a // b\n\"http://c\" + d"), "a \n\"http://c\" + d");
}
