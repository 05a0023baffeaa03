//! The constant part of our tables, applied by the `nft` of the host.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ipnetwork::IpNetwork;
use quantum_config::prefixes::Prefixes;

use super::error::{Hung, NftError};
use super::sets::{Family, Field, Set, SetElement, TABLE, Value};
use crate::kernel::program::{self, Ended, ProgramError};

/// The rules, as they are reviewed.
pub const TEXT: &str = include_str!("../../../config/nft/skeleton.nft");

/// The rules that keep forged hardware addresses out, in a table of their own.
pub const GUARD: &str = include_str!("../../../config/nft/guard.nft");

/// Where `nft` may be when PATH, as of a service or of a runtime, does not say so.
const ELSEWHERE: [&str; 2] = ["/usr/sbin", "/sbin"];

/// How long `nft` may take. It needs some 5 ms, and 135 ms beside 500 policies.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which of our tables there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// Both.
    Both,
    /// The one for packets: the kernel has nftables and none for bridges.
    Packets,
}

/// The sets that only a text fills: [`unmasked`]. They hold intervals, which the kernel has as two ends
/// each, and change only with the daemon's settings.
pub(super) const OF_SETTINGS: [&str; 2] = ["unmasq4", "unmasq6"];

/// The text that has these blocks and no others in the sets of what is not masqueraded.
pub(super) fn unmasked(blocks: &Prefixes) -> String {
    let joined = |blocks: &mut dyn Iterator<Item = &IpNetwork>| {
        blocks.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let [v4, v6] = OF_SETTINGS;
    let mut text = String::new();
    for (set, blocks) in [(v4, joined(&mut blocks.v4())), (v6, joined(&mut blocks.v6()))] {
        text.push_str(&format!("flush set inet {TABLE} {set}\n"));
        if !blocks.is_empty() {
            text.push_str(&format!("add element inet {TABLE} {set} {{ {blocks} }}\n"));
        }
    }
    text
}

/// Makes our tables what they should be in the calling thread's network namespace, with the chains and
/// sets that policy has and the elements that the settings say. Elements of their sets stay, nobody else's
/// rules are touched, and no packet sees a table half made. About 5 ms.
///
/// Whether a kernel has nftables for bridges is found by trying, as it may be a module that is loaded
/// by need, and so is whether it can tell what it denies.
pub fn apply(more: &str) -> Result<Tables, NftError> {
    let program = program()?;
    let silent: String = TEXT.lines().map(|line| format!("{}\n", silence(line))).collect();
    let tries = [
        (TEXT, GUARD, Tables::Both),
        (&silent, GUARD, Tables::Both),
        (TEXT, "", Tables::Packets),
        (&silent, "", Tables::Packets),
    ];
    let mut refused = None;
    for (text, guard, tables) in tries {
        match run(&program, &format!("{text}{more}{guard}")) {
            Ok(()) => return Ok(tables),
            Err(NftError::Refused { stderr }) if is_missing(&stderr) => {
                refused.get_or_insert(NftError::Refused { stderr });
            }
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or(NftError::NotInstalled))
}

/// A line without what writes to the log.
fn silence(line: &str) -> &str {
    if line.contains(" log prefix ") { "" } else { line }
}

/// Carries out a text, in one transaction.
pub(super) fn run_text(text: &str) -> Result<(), NftError> {
    run(&program()?, text)
}

/// Whether the kernel does not have what it takes for some rules of a table that is not there. Nothing is
/// made. Also false where `nft` does not get as far as to ask the kernel.
pub fn lacks(rules: &str) -> bool {
    let run = |program: PathBuf| run_with(&program, &["-c", "-f", "-"], rules);
    matches!(program().and_then(run), Err(NftError::Refused { stderr }) if is_missing(&stderr))
}

/// Whether the host's `nft` prints, as JSON, the flags of the tables of the calling thread's network namespace.
pub(super) fn prints_flags() -> Result<bool, NftError> {
    let output = match run_with(&program()?, &["-j", "list", "tables"], "") {
        Ok(output) => output.stdout,
        Err(NftError::Refused { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&output);
    // It may not know the flag, and say so.
    Ok(["persist", "unknown"].iter().any(|word| text.contains(&format!("\"{word}\""))))
}

/// An element of a set that does not exist.
pub(super) fn nowhere() -> SetElement {
    static NOWHERE: Set = Set {
        family: Family::Inet,
        name: "nowhere",
        key: &[Field::Port],
        value: &[],
        is_networks: false,
    };
    SetElement::new(&NOWHERE, &[Value::Port(1)])
}

/// Our rules are valid, so what is said to be absent or not supported is so in the kernel. The words
/// are those of the C library.
fn is_missing(stderr: &str) -> bool {
    ["not supported", "No such file or directory"].iter().any(|words| stderr.contains(words))
}

fn program() -> Result<PathBuf, NftError> {
    let paths = env::var_os("PATH").unwrap_or_default();
    find(env::split_paths(&paths)).ok_or(NftError::NotInstalled)
}

fn find(paths: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    paths
        .filter(|p| p.is_absolute())
        .chain(ELSEWHERE.map(PathBuf::from))
        .map(|dir| dir.join("nft"))
        .find(|program| program.is_file())
}

fn run(program: &Path, text: &str) -> Result<(), NftError> {
    run_with(program, &["-f", "-"], text).map(drop)
}

fn run_with(program: &Path, args: &[&str], text: &str) -> Result<Ended, NftError> {
    // In English: what it says is looked at.
    let mut command = Command::new(program);
    let ended = program::run(command.args(args).env("LC_ALL", "C"), text.as_bytes(), PATIENCE);
    let program = program.display().to_string();
    let ended = ended.map_err(|error| match error {
        ProgramError::Io(source) => NftError::Run { program, source },
        ProgramError::Hung => Hung { program, seconds: PATIENCE.as_secs() }.into(),
    })?;
    if ended.status.success() {
        return Ok(ended);
    }
    let stderr = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    Err(NftError::Refused {
        stderr: if stderr.is_empty() { ended.status.to_string() } else { stderr },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nft_is_looked_for_in_path_first() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("nft"), "").expect("a file");
        let paths = [PathBuf::from("."), dir.path().to_owned()];
        assert_eq!(find(paths.into_iter()), Some(dir.path().join("nft")));
    }

    #[test]
    fn a_kernel_without_bridge_tables_is_told_from_bad_rules() {
        let kernel = "/dev/stdin:5:14-20: Error: Could not process rule: Operation not supported";
        assert!(is_missing(kernel));
        assert!(is_missing("Error: Could not process rule: No such file or directory"));
        assert!(!is_missing("/dev/stdin:1:1-5: Error: syntax error, unexpected string"));
        assert!(!is_missing("Error: Could not process rule: Operation not permitted"));
    }

    #[test]
    fn a_kernel_is_asked_without_anything_being_made() {
        crate::kernel::testing::in_namespace(&["nft"], || {
            assert!(!lacks("table inet probe { chain c { ct state established accept; }; }"));
            assert!(lacks("table inet probe { chain c { jump nowhere; }; }"));
            assert!(!lacks("no rule at all"));
            assert_eq!(crate::kernel::testing::run("nft list ruleset"), "");
        });
    }

    #[test]
    fn what_nft_says_is_passed_on() {
        let error = run(Path::new("/nowhere/nft"), "").expect_err("not there");
        assert!(error.to_string().starts_with("cannot run /nowhere/nft: "), "{error}");
        let error = run(Path::new("/bin/false"), TEXT).expect_err("fails");
        assert!(matches!(error, NftError::Refused { .. }), "{error}");
    }
}
