//! Pool: the addresses of one network. It answers from memory and never waits for anything: what it
//! hands out becomes durable with the record of the attachment, and what it takes back has been
//! forgotten by the store before.

use actix::{Actor, Context, Handler};
use quantum_cni::ipam::{Allocator, Known, LeaseError, Usage};
use quantum_config::cni::RangeSet;

use crate::messages::pool::{Lease, Leased, Level, Release, Reshape};

/// The actor.
#[derive(Debug)]
pub(crate) struct Pool {
    sets: Vec<RangeSet>,
    allocator: Allocator,
    turn: u64,
}

impl Pool {
    /// A pool over `sets`, in which `known` is taken or was.
    pub(crate) fn new(sets: Vec<RangeSet>, known: Vec<Known>) -> Self {
        Self { allocator: Allocator::new(sets.clone(), known), sets, turn: 0 }
    }

    /// How full the pool is after a change.
    fn level(&mut self) -> Level {
        self.turn += 1;
        let usage = self.allocator.usage();
        let empty = self.sets.iter().zip(&usage).find(|(_, u)| u.free() == 0);
        Level {
            turn: self.turn,
            held: usage.iter().map(|u| u.held).max().unwrap_or(0),
            free: usage.iter().map(Usage::free).min().unwrap_or(0),
            exhausted: empty.map(|(set, _)| set.subnets()),
        }
    }
}

impl Actor for Pool {
    type Context = Context<Self>;
}

impl Handler<Lease> for Pool {
    type Result = Result<Leased, LeaseError>;

    fn handle(&mut self, message: Lease, _: &mut Context<Self>) -> Self::Result {
        let addresses = self.allocator.lease(&message.owner, &[])?;
        Ok(Leased { addresses, level: self.level() })
    }
}

impl Handler<Release> for Pool {
    type Result = Level;

    fn handle(&mut self, message: Release, _: &mut Context<Self>) -> Level {
        self.allocator.release(&message.owner, message.now);
        self.level()
    }
}

impl Handler<Reshape> for Pool {
    type Result = Level;

    fn handle(&mut self, message: Reshape, _: &mut Context<Self>) -> Level {
        self.allocator.reshape(message.sets.clone());
        self.sets = message.sets;
        self.level()
    }
}
