//! Publisher: the ports of the host, of all networks. It answers from memory. What it knows follows from
//! the records, and is told to it again at every start.

use actix::{Actor, Context, Handler};
use quantum_cni::publish::{Book, PortError};
use quantum_config::cni::PortMapping;

use crate::messages::publisher::{Publish, Withdraw};
use crate::messages::{Drain, Observe};
use crate::meters::Meters;

/// The actor.
#[derive(Debug)]
pub(crate) struct Publisher {
    book: Book,
    meters: Meters,
}

impl Publisher {
    /// One that knows of nobody.
    pub(crate) fn new(meters: Meters) -> Self {
        Self { book: Book::default(), meters }
    }

    fn count(&self) {
        self.meters.published.set(self.book.len() as i64);
    }
}

impl Actor for Publisher {
    type Context = Context<Self>;
}

impl Handler<Publish> for Publisher {
    type Result = Result<Vec<PortMapping>, PortError>;

    fn handle(&mut self, Publish { owner, ports }: Publish, _: &mut Context<Self>) -> Self::Result {
        let claimed = self.book.claim(&owner, &ports);
        self.count();
        claimed
    }
}

impl Handler<Withdraw> for Publisher {
    type Result = ();

    fn handle(&mut self, Withdraw(owner): Withdraw, _: &mut Context<Self>) {
        self.book.release(&owner);
        self.count();
    }
}

impl Handler<Observe> for Publisher {
    type Result = ();

    fn handle(&mut self, _: Observe, _: &mut Context<Self>) {
        self.count();
    }
}

impl Handler<Drain> for Publisher {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) {}
}
