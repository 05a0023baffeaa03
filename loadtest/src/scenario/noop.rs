//! The program that does nothing: where it is, and whether it is as cheap to exec as it can be.

use std::fs;
use std::path::{Path, PathBuf};

use crate::options::Bench;
use crate::report::Report;

/// The no-op to measure with, with a note in the report when it is missing or would flatter.
pub(crate) fn choose(options: &Bench, report: &mut Report) -> Option<PathBuf> {
    let noop = find(options.noop.as_deref());
    let is_cheap = |path: &PathBuf| fs::read(path).is_ok_and(|elf| is_static(&elf));
    report.notes.extend(match &noop {
        None => Some("the floor has no exec: build quantum-noop or give --noop".to_owned()),
        Some(path) if !is_cheap(path) => Some(format!(
            "{} is not a static program: its exec is slower than the floor, and so every figure \
             beside the floor looks better than it is",
            path.display()
        )),
        Some(_) => None,
    });
    noop
}

/// The one that was named, else the one beside this program.
fn find(named: Option<&Path>) -> Option<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("quantum-noop"));
    named.map(Path::to_path_buf).or_else(|| beside().filter(|path| path.exists()))
}

/// Does this ELF program need no dynamic linker? One that does takes twice as long to exec, which
/// would raise the floor.
fn is_static(elf: &[u8]) -> bool {
    // Offsets of the 64-bit little-endian header: elf(5), Elf64_Ehdr and Elf64_Phdr.
    const PT_INTERP: u64 = 3;
    let number = |at: usize, size: usize| {
        let bytes = elf.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let program_headers = || {
        let (start, size, count) =
            (number(32, 8)? as usize, number(54, 2)? as usize, number(56, 2)? as usize);
        (0..count).map(|i| number(start.checked_add(i * size)?, 4)).collect::<Option<Vec<_>>>()
    };
    elf.starts_with(b"\x7fELF\x02\x01")
        && program_headers().is_some_and(|kinds| !kinds.contains(&PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_an_interpreter_is_not_static() {
        let mut elf = vec![0_u8; 64 + 2 * 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[32], elf[54], elf[56]) = (64, 56, 2);
        (elf[64], elf[64 + 56]) = (6, 1);
        assert!(is_static(&elf));
        elf[64 + 56] = 3;
        assert!(!is_static(&elf));
        assert!(!is_static(&elf[..100]), "cut short");
        assert!(!is_static(b"#!/bin/sh\n"));
    }
}
