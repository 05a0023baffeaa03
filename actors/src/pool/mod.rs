//! Pool: the addresses of one network. It answers from memory and never waits for anything: what it
//! hands out becomes durable with the record of the attachment, and what it takes back has been
//! forgotten by the store before.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Context, Handler};
use quantum_cni::attach::home;
use quantum_cni::ipam::{Allocator, Beside, Known, LeaseError, Register, Usage};
use quantum_config::cni::{Definition, Wanted};
use quantum_config::ids::IfName;

use crate::messages::pool::{Lease, Leased, Level, Release, Reshape};

/// The actor.
#[derive(Debug)]
pub(crate) struct Pool {
    /// What the allocator's shape is of.
    network: Arc<Definition>,
    allocator: Allocator,
    /// What the pools of all networks know of each other's addresses.
    register: Rc<RefCell<Register>>,
    turn: u64,
}

impl Pool {
    /// A pool of the network, in which `known` is taken or was.
    pub(crate) fn new(
        network: Arc<Definition>,
        known: Vec<Known>,
        register: Rc<RefCell<Register>>,
    ) -> Self {
        let holders = known.iter().filter_map(Known::holder).collect();
        register.borrow_mut().keep_only(&network.name, &holders);
        let mut allocator = Allocator::new(Vec::new(), known);
        allocator.reshape(network.sets().to_vec(), network.reservations());
        Self { network, allocator, register, turn: 0 }
    }

    /// Takes the shape that `network` says. A call may bring ranges of its own along, so calls that
    /// mean different shapes can follow each other; those that mean the same one cost nothing.
    fn become_of(&mut self, network: Arc<Definition>) {
        let is_same = self.network.sets() == network.sets()
            && self.network.reservations() == network.reservations();
        if !is_same {
            self.allocator.reshape(network.sets().to_vec(), network.reservations());
        }
        self.network = network;
    }

    /// How full the pool is after a change.
    fn level(&mut self) -> Level {
        self.turn += 1;
        let usage = self.allocator.usage();
        let empty = self.network.sets().iter().zip(&usage).find(|(_, u)| u.free() == 0);
        Level {
            turn: self.turn,
            held: usage.iter().map(|u| u.held).max().unwrap_or(0),
            free: usage.iter().map(Usage::free).min().unwrap_or(0),
            exhausted: empty.map(|(set, _)| set.subnets()),
        }
    }
}

/// What the addresses of a network are behind. Of what other plugins attach with them nothing is known.
fn link(network: &Definition) -> Option<IfName> {
    (!network.lends).then(|| home(network))
}

impl Actor for Pool {
    type Context = Context<Self>;
}

impl Handler<Lease> for Pool {
    type Result = Result<Leased, LeaseError>;

    fn handle(&mut self, message: Lease, _: &mut Context<Self>) -> Self::Result {
        self.become_of(message.network);
        let link = link(&self.network);
        let mut register = self.register.borrow_mut();
        let beside = |address| -> Option<Beside> { register.beside(link.as_ref()?, address) };
        let addresses = match &message.wanted {
            Wanted::Leased { requested, reserved } => {
                self.allocator.lease_beside(&message.owner, requested, reserved, &beside)?
            }
            Wanted::Given(addresses) => self.allocator.give(&message.owner, addresses, &beside)?,
        };
        if let Some(link) = &link {
            register.enter(&message.owner, link, &addresses);
        }
        drop(register);
        Ok(Leased { addresses, level: self.level() })
    }
}

impl Handler<Release> for Pool {
    type Result = Level;

    fn handle(&mut self, message: Release, _: &mut Context<Self>) -> Level {
        self.register.borrow_mut().leave(&message.owner);
        self.allocator.release(&message.owner, message.now);
        self.level()
    }
}

impl Handler<Reshape> for Pool {
    type Result = Level;

    fn handle(&mut self, message: Reshape, _: &mut Context<Self>) -> Level {
        self.become_of(message.network);
        self.level()
    }
}
