//! A network namespace of our own in which `nft` makes of text what the kernel has: nobody else is there,
//! so that what is found there is what the text says, and nothing of the host is touched by it. From
//! there it is copied to our tables, over the socket that owns them.
//!
//! ```text
//!   text ──► nft -f - ──► tables of the scratch namespace ──► Translation ──► one transaction on the host
//!                                                         └─► Print: what it is to look like there
//! ```

use std::io;
use std::sync::Arc;

use nix::sched::{CloneFlags, unshare};

use super::doors::{self, Doors};
use super::listing::family;
use super::print::Print;
use super::skeleton::{self, Tables};
use super::transaction::{Step, commit};
use super::translation::{Translation, families};
use super::{NftError, removal};
use crate::kernel::netfilter::{NetfilterSocket, SocketError};
use crate::kernel::netns::{Netns, NetnsError, inside};
use crate::policy::{ChainName, Rules};

// include/uapi/linux/netfilter/nf_tables.h
const OWNER: u32 = 2;
const PERSIST: u32 = 4;

/// How our tables belong to us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ownership {
    /// Their flags.
    pub(super) flags: u32,
    /// They may keep them when we end. An `nft` before 1.0.9 uses freed memory when it prints a table with one
    /// flag as JSON, and everybody's listing with it.
    pub(super) is_left: bool,
}

/// See the module. It has no elements but those that the text has.
#[derive(Debug)]
pub(super) struct Scratch {
    netns: Netns,
    socket: NetfilterSocket,
    tables: Tables,
    /// What was translated and is there still; none if it is not known what is there.
    rules: Option<Arc<Rules>>,
}

impl Scratch {
    pub(super) fn open() -> Result<Self, NftError> {
        let failed = |source: io::Error| SocketError { doing: "make a namespace for", source };
        // A thread that has left its namespace for good ends there.
        let made = std::thread::Builder::new().name("scratch".to_owned()).spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Netns::current().map_err(io::Error::other)
        });
        let made = made.map_err(failed)?.join();
        let netns = made.unwrap_or_else(|_| Err(io::Error::other("the thread panicked")));
        let netns = netns.map_err(failed)?;
        let socket = inside(&netns, NetfilterSocket::open).map_err(not_entered)??;
        Ok(Self { netns, socket, tables: Tables::Both, rules: None })
    }

    /// Which tables the kernel can have. Known once something was translated.
    pub(super) fn tables(&self) -> Tables {
        self.tables
    }

    /// Whether a table can belong to its socket and outlive it (Linux 6.9), and how one that has outlived it is
    /// printed. It is found by having one.
    pub(super) fn ownership(&mut self) -> Result<Ownership, NftError> {
        let flags = OWNER | PERSIST;
        self.rules = None;
        let clear = Step::clear_table(family::INET);
        commit(&mut self.socket, &clear)?;
        let mut owner = self.visit(|| Ok(NetfilterSocket::open()?))?;
        if commit(&mut owner, &[Step::make_table_with(family::INET, flags)]).is_err() {
            return Ok(Ownership::default());
        }
        drop(owner);
        let is_printed = self.visit(skeleton::prints_flags)?;
        commit(&mut self.socket, &clear[1..])?;
        Ok(Ownership { flags, is_left: is_printed })
    }

    /// All that the text of our tables makes, with the chains and sets of policy and with `more` text.
    pub(super) fn translate(
        &mut self,
        rules: &Arc<Rules>,
        more: &str,
    ) -> Result<(Translation, Print), NftError> {
        self.rules = None;
        commit(&mut self.socket, &Step::clear_table(family::INET))?;
        // A kernel that has none has nothing there either.
        let _ = commit(&mut self.socket, &Step::clear_table(family::BRIDGE));
        let text = format!("{more}{}", rules.text());
        self.tables = self.visit(|| skeleton::apply(&text))?;
        let all = Translation::read(&mut self.socket, families(self.tables), None)?;
        let print = Print::take(&mut self.socket)?;
        self.rules = Some(rules.clone());
        Ok((all, print))
    }

    /// What makes chains and sets of policy that are `new` beside those `before`. `more` is the text of all
    /// else.
    pub(super) fn translate_new(
        &mut self,
        before: &Arc<Rules>,
        new: &Rules,
        more: &str,
    ) -> Result<Translation, NftError> {
        if self.rules.as_ref() != Some(before) {
            self.translate(before, more)?;
        }
        self.rules = None;
        self.visit(|| skeleton::run_text(&new.text()))?;
        let all = Translation::read(&mut self.socket, &[family::INET], Some(new))?;
        let mut there = Rules::clone(before);
        there.extend(new.clone());
        self.rules = Some(Arc::new(there));
        Ok(all)
    }

    /// What chains of policy are to look like; none if it is not known.
    pub(super) fn print_of<'c>(
        &mut self,
        chains: impl Iterator<Item = &'c ChainName>,
    ) -> Option<Print> {
        self.rules.as_ref()?;
        Print::take_of(&mut self.socket, chains).ok()
    }

    /// What is there follows a change of policy: doors lead elsewhere, `old` is not needed any more, and what
    /// is left is `now`. Where that fails, all of it is translated anew one day.
    pub(super) fn follow(&mut self, moved: &Doors, old: &Rules, now: &Arc<Rules>) {
        let steps: Vec<Step> = doors::lead(moved).chain(removal::steps(old)).collect();
        let follows = self.rules.take().is_some() && commit(&mut self.socket, &steps).is_ok();
        self.rules = follows.then(|| now.clone());
    }

    fn visit<T>(&self, work: impl FnOnce() -> Result<T, NftError>) -> Result<T, NftError> {
        inside(&self.netns, work).map_err(not_entered)?
    }
}

fn not_entered(error: NetnsError) -> SocketError {
    SocketError { doing: "enter the namespace of", source: io::Error::other(error) }
}
