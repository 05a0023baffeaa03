//! The daemon as systemd would run it: under the capabilities, the filter of system calls and the file
//! system of `dist/quantum-cnid.service`, which is read, so that the unit is what is tested.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;

use super::enter::{Entered, entered};

/// Names and numbers of system calls, by the groups that the unit names.
const CALLS: &str = include_str!("../data/syscalls-x86_64.txt");
/// include/uapi/linux/audit.h
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
// struct seccomp_data
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(n: u32) -> u32 {
    16 + 8 * n // the lower half comes first
}
// include/uapi/linux/bpf_common.h
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Where the unit is.
pub(crate) fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/quantum-cnid.service")
}

/// Where the kernel's settings can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settings<'p> {
    /// Where they always are.
    InPlace,
    /// Nowhere.
    Nowhere,
    /// In this folder, below one that is writable, as in a container that has the host's mounted.
    At(&'p Path),
}

/// What of the unit is held to.
#[derive(Debug)]
pub(crate) struct Unit {
    capabilities: BTreeSet<u32>,
    calls: BTreeSet<u32>,
    families: Vec<u32>,
}

impl Unit {
    /// Reads the unit.
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(path()).expect("the unit");
        let values = |key: &str| -> Vec<String> {
            let of = |line: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned());
            text.lines().filter_map(of).collect()
        };
        let words = |key: &str| -> Vec<String> {
            values(key).iter().flat_map(|v| v.split_whitespace()).map(str::to_owned).collect()
        };
        for (key, value) in [
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("RestrictNamespaces", "net"),
            ("SystemCallErrorNumber", "EPERM"),
            ("UMask", "0077"),
        ] {
            assert_eq!(values(key), [value], "{key}, as it is done here");
        }
        Self {
            capabilities: words("CapabilityBoundingSet").iter().map(|c| capability(c)).collect(),
            calls: allowed(&values("SystemCallFilter")),
            families: words("RestrictAddressFamilies").iter().map(|f| family(f)).collect(),
        }
    }

    /// The same with other capabilities.
    pub(crate) fn with_capabilities(mut self, names: &[&str]) -> Self {
        self.capabilities = names.iter().map(|name| capability(name)).collect();
        self
    }

    /// Has a command run so, with nothing that it can write to but what is below `writable`, and settings of
    /// the kernel.
    pub(crate) fn confine(
        &self,
        command: &mut Command,
        writable: &[&Path],
        settings: Settings<'_>,
    ) {
        let mut filter = self.filter();
        let capabilities = self.capabilities.clone();
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).expect("a path");
        let own: Vec<CString> = writable.iter().map(|path| text(path)).collect();
        let kernel = ["/proc", "/sys", "/dev"].map(|path| text(Path::new(path)));
        let elsewhere = match settings {
            Settings::At(folder) => Some(text(folder)),
            Settings::InPlace | Settings::Nowhere => None,
        };
        let in_place = settings == Settings::InPlace;
        let has_mounts = entered() == Ok(Entered::Root);
        // SAFETY: system calls only; nothing is allocated and no lock is taken after the fork.
        unsafe {
            command.pre_exec(move || {
                if has_mounts {
                    done(libc::unshare(libc::CLONE_NEWNS))?;
                    if let Some(folder) = &elsewhere {
                        bind(c"/proc/sys/net", folder)?;
                    }
                    make_read_only(&own, if in_place { &kernel } else { &[] })?;
                }
                libc::umask(0o077);
                for number in (0..64).filter(|number| !capabilities.contains(number)) {
                    // Beyond the last there is nothing to drop.
                    libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0);
                }
                done(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
                let program = libc::sock_fprog {
                    len: u16::try_from(filter.len()).map_err(io::Error::other)?,
                    filter: filter.as_mut_ptr(),
                };
                let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
                done(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program))
            });
        }
    }

    /// What is not allowed fails with EPERM.
    fn filter(&self) -> Vec<libc::sock_filter> {
        let step = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
        let unless = |k, jf| libc::sock_filter { code: JUMP_EQUAL, jt: 0, jf, k };
        let allow = step(RETURN, libc::SECCOMP_RET_ALLOW);
        let refuse = step(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
        let is_native = libc::sock_filter { jt: 1, ..unless(AUDIT_ARCH_X86_64, 0) };
        let mut program = vec![step(LOAD, ARCHITECTURE), is_native, refuse, step(LOAD, NUMBER)];
        for &call in &self.calls {
            let among = match i64::from(call) {
                libc::SYS_socket => Some((argument(0), self.families.clone())),
                libc::SYS_setns => Some((argument(1), vec![libc::CLONE_NEWNET as u32])),
                _ => None,
            };
            let Some((argument, values)) = among else {
                program.extend([unless(call, 1), allow]);
                continue;
            };
            let length = u8::try_from(2 + 2 * values.len()).expect("few");
            program.extend([unless(call, length), step(LOAD, argument)]);
            program.extend(values.into_iter().flat_map(|value| [unless(value, 1), allow]));
            program.push(refuse);
        }
        program.push(refuse);
        program
    }
}

/// What the lines of the filter come to: the first allows, one with a tilde takes away.
fn allowed(lines: &[String]) -> BTreeSet<u32> {
    let read = |line: &'static str| {
        let mut words = line.split_whitespace();
        let group = words.next().expect("a group");
        let number = |word: &str| word.split_once('=').expect("a number").1.parse().expect("one");
        (group, words.map(number).collect::<BTreeSet<u32>>())
    };
    let lists = CALLS.lines().filter(|line| !line.starts_with('#'));
    let groups: BTreeMap<&str, BTreeSet<u32>> = lists.map(read).collect();
    let mut calls = BTreeSet::new();
    for line in lines {
        let (takes, names) = match line.strip_prefix('~') {
            Some(names) => (true, names),
            None => (false, line.as_str()),
        };
        for name in names.split_whitespace() {
            let of = groups.get(name).unwrap_or_else(|| {
                panic!(
                    "{name} is not in tests/data/syscalls-x86_64.txt; make it again by syscalls.sh"
                )
            });
            match takes {
                true => calls.retain(|call| !of.contains(call)),
                false => calls.extend(of),
            }
        }
    }
    calls
}

/// include/uapi/linux/capability.h
fn capability(name: &str) -> u32 {
    match name {
        "CAP_CHOWN" => 0,
        "CAP_NET_ADMIN" => 12,
        "CAP_SYS_ADMIN" => 21,
        other => panic!("the number of {other} is not known here"),
    }
}

fn family(name: &str) -> u32 {
    let number = match name {
        "AF_UNIX" => libc::AF_UNIX,
        "AF_INET" => libc::AF_INET,
        "AF_INET6" => libc::AF_INET6,
        "AF_NETLINK" => libc::AF_NETLINK,
        other => panic!("the number of {other} is not known here"),
    };
    u32::try_from(number).expect("a number")
}

/// Everything can only be read, but for what is below these.
fn make_read_only(own: &[CString], kernel: &[CString]) -> io::Result<()> {
    for path in own {
        bind(path, path)?;
    }
    set_attributes(c"/", libc::MOUNT_ATTR_RDONLY, 0)?;
    for path in own.iter().chain(kernel) {
        set_attributes(path, 0, libc::MOUNT_ATTR_RDONLY)?;
    }
    Ok(())
}

fn bind(from: &CStr, to: &CStr) -> io::Result<()> {
    let (none, flags) = (std::ptr::null(), libc::MS_BIND | libc::MS_REC);
    // SAFETY: the paths live until the call returns, and the others may be null for a bind mount.
    done(unsafe { libc::mount(from.as_ptr(), to.as_ptr(), none, flags, none.cast()) })
}

/// Of a mount and all below it.
fn set_attributes(path: &CStr, set: u64, clear: u64) -> io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    // SAFETY: the path and the attributes live until the call returns.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn done(outcome: libc::c_int) -> io::Result<()> {
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
