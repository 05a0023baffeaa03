//! The gate: a network is prepared (its bridge made or found, its pool filled from the store) before
//! the first ADD, and again when it is defined otherwise. Until then what needs it is parked (`parked.rs`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture,
};
use ipnetwork::IpNetwork;
use quantum_cni::attach::{BridgeEnd, Ports, Refusal, home};
use quantum_cni::errors;
use quantum_cni::ipam::LeaseError;
use quantum_config::cni::{CniError, Definition};
use quantum_config::ids::{AttachmentKey, NetworkName};
use slog::{info, warn};
use tokio::sync::oneshot;

use super::again::Again;
use super::parked::Parked;
use super::ticket::Attempt;
use super::{Hands, Key, Network};
use crate::board::{Failure, NetworkStatus};
use crate::messages::cache::{Addresses, All, Define, TakeOver};
use crate::messages::driver::{Prepare, Scope, Sweep};
use crate::messages::manager::Changed;
use crate::messages::network::Open;
use crate::messages::pool::{Lease, Level, Release, Reshape};
use crate::messages::{ask, dropped};
use crate::pool::Pool;

/// The gate.
pub(super) struct Gate {
    state: State,
    /// What an earlier actor left half done is still to be swept.
    unswept: bool,
    /// What waits for it to open.
    pub(super) parked: Vec<Parked>,
    /// Who waits for the ADDs that run.
    attaching: HashMap<Key, Attempt>,
    /// Owners whose addresses were released by the store while the pool was being filled from it.
    released: Vec<(AttachmentKey, u64)>,
    level: Level,
    /// Why it is closed.
    failure: Option<Failure>,
}

#[derive(Default)]
enum State {
    #[default]
    Closed,
    /// What it will be, and what it was.
    Opening(Arc<Definition>, Option<Rc<Opened>>),
    Open(Rc<Opened>),
}

/// A network that is ready.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) definition: Arc<Definition>,
    /// Made again if somebody deletes it.
    pub(super) bridge: Cell<BridgeEnd>,
    pub(super) ports: RefCell<Ports>,
    pub(super) pool: PoolMailbox,
}

/// How the network's Pool is reached.
#[derive(Debug, Clone)]
pub(super) struct PoolMailbox {
    pub(super) lease: Recipient<Lease>,
    pub(super) release: Recipient<Release>,
    reshape: Recipient<Reshape>,
}

impl Gate {
    /// A closed gate.
    pub(super) fn new(unswept: bool) -> Self {
        Self {
            state: State::Closed,
            unswept,
            parked: Vec::new(),
            attaching: HashMap::new(),
            released: Vec::new(),
            level: Level::default(),
            failure: None,
        }
    }

    /// Who waits for the ADD that runs for this key.
    pub(super) fn attaching(&self, key: &Key) -> Option<&Attempt> {
        self.attaching.get(key)
    }

    pub(super) fn attach_begins(&mut self, key: Key, attempt: Attempt) {
        self.attaching.insert(key, attempt);
    }

    pub(super) fn attach_ends(&mut self, key: &Key) {
        self.attaching.remove(key);
    }

    /// The network, if it is ready.
    pub(super) fn open(&self) -> Option<Rc<Opened>> {
        match &self.state {
            State::Open(open) => Some(open.clone()),
            _ => None,
        }
    }

    /// The network, if it is ready and is what the request says.
    pub(super) fn ready_for(&self, definition: &Arc<Definition>) -> Option<Rc<Opened>> {
        match &self.state {
            State::Open(open) if serves(&open.definition, definition) => Some(open.clone()),
            _ => None,
        }
    }
}

/// Every ADD brings its definition along; most often it is the very one.
fn serves(open: &Arc<Definition>, meant: &Arc<Definition>) -> bool {
    Arc::ptr_eq(open, meant) || open.serves(meant)
}

impl Handler<Open> for Network {
    type Result = ResponseFuture<Result<(), CniError>>;

    fn handle(&mut self, Open(definition): Open, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.run_parked(Parked::Open(definition, answer), ctx);
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(dropped())) })
    }
}

impl Network {
    /// Parks a request and sees that the gate opens for it.
    pub(super) fn park(&mut self, request: Parked, ctx: &mut Context<Self>) {
        let definition = request.definition().clone();
        self.gate.parked.push(request);
        self.begin_to_open(definition, ctx);
    }

    fn begin_to_open(&mut self, definition: Arc<Definition>, ctx: &mut Context<Self>) {
        if self.gate.unswept {
            return; // looked at again when that is done
        }
        let before = match &self.gate.state {
            State::Opening(..) => return, // looked at again when that is done
            State::Open(open) => Some(open.clone()),
            State::Closed => None,
        };
        self.gate.state = State::Opening(definition.clone(), before.clone());
        let pool = before.map(|open| open.pool.clone());
        let work = open(self.hands.clone(), definition.clone(), pool);
        ctx.spawn(work.into_actor(self).map(move |outcome, network, ctx| {
            network.opened(&definition, outcome, ctx);
        }));
    }

    /// Removes what an earlier actor of this network left half done, before the first ADD.
    pub(super) fn sweep(&mut self, ctx: &mut Context<Self>) {
        if !self.gate.unswept {
            return;
        }
        let (hands, name) = (self.hands.clone(), self.name.clone());
        let work = async move { sweep_links(&hands, &name).await };
        ctx.spawn(work.into_actor(self).map(|outcome, network, ctx| {
            if let Err(error) = outcome {
                warn!(network.log, "sweeping"; "error" => %error); // the next start will
            }
            network.gate.unswept = false;
            for request in std::mem::take(&mut network.gate.parked) {
                network.run_parked(request, ctx);
            }
        }));
    }

    /// The network that `meant` says is ready, or is not.
    fn opened(
        &mut self,
        meant: &Arc<Definition>,
        outcome: Result<(Opened, Level), Refusal>,
        ctx: &mut Context<Self>,
    ) {
        // Those who mean this network first: another's turn closes the gate again. The outcome is
        // theirs only.
        let parked = std::mem::take(&mut self.gate.parked).into_iter();
        let (served, others): (Vec<_>, Vec<_>) =
            parked.partition(|request| serves(meant, request.definition()));
        let before = match std::mem::take(&mut self.gate.state) {
            State::Opening(_, before) => before,
            State::Open(open) => Some(open),
            State::Closed => None,
        };
        match outcome {
            Ok((open, level)) => {
                info!(self.log, "network open"; "bridge" => open.definition.bridge.as_str());
                self.gate.level = level;
                self.gate.failure = None;
                self.gate.state = State::Open(Rc::new(open));
                for (owner, now) in std::mem::take(&mut self.gate.released) {
                    self.give_back(owner, now, ctx);
                }
                self.report();
                for request in served {
                    self.run_parked(request, ctx);
                }
            }
            Err(error) => {
                warn!(self.log, "network not open"; "error" => %error);
                // What was there before still is, and serves those who mean it.
                self.gate.state = before.map_or(State::Closed, State::Open);
                if matches!(self.gate.state, State::Closed) {
                    let definition = meant.clone();
                    self.gate.failure = Some(Failure { definition, why: error.to_string() });
                }
                self.report();
                for request in served {
                    self.refuse(request, &error, ctx);
                }
            }
        }
        for request in others {
            self.run_parked(request, ctx);
        }
    }

    /// The store has released an owner's addresses: the pool may hand them out again.
    pub(super) fn give_back(&mut self, owner: AttachmentKey, now: u64, ctx: &mut Context<Self>) {
        self.hands.register.borrow_mut().leave(&owner);
        match &self.gate.state {
            State::Open(open) => {
                let work = open.pool.release.send(Release { owner, now });
                ctx.spawn(work.into_actor(self).map(|level, network, _| {
                    if let Ok(level) = level {
                        network.level_is(level);
                    }
                }));
            }
            State::Opening(..) => self.gate.released.push((owner, now)),
            State::Closed => {}
        }
    }

    /// Publishes how the network is.
    pub(super) fn report(&mut self) {
        let definition = match &self.gate.state {
            State::Open(open) => Some(&open.definition),
            State::Opening(definition, _) => Some(definition),
            State::Closed => None,
        };
        let status = NetworkStatus {
            bridge: definition.map(|d| d.bridge.to_string()).unwrap_or_default(),
            definition: definition.cloned(),
            held: self.gate.level.held,
            free: self.gate.level.free,
            exhausted: self.gate.level.exhausted.clone(),
            failed: self.gate.failure.clone(),
        };
        self.changed.do_send(Changed { network: self.name.clone(), status });
    }

    /// Answers may come in another order than the pool gave them.
    pub(super) fn level_is(&mut self, level: Level) {
        if level.turn > self.gate.level.turn {
            self.gate.level = level;
            self.report();
        }
    }

    /// Tries a network again that could not be made ready: what was in the way may be gone.
    pub(super) fn try_again(&mut self, ctx: &mut Context<Self>) {
        if let (State::Closed, Some(failure)) = (&self.gate.state, &self.gate.failure) {
            let definition = failure.definition.clone();
            self.begin_to_open(definition, ctx);
        }
    }
}

/// Removes the network's links that have no record. No ADD runs: they are parked.
async fn sweep_links(hands: &Hands, network: &NetworkName) -> Result<(), CniError> {
    let records = ask(&hands.all, All).await?.map_err(errors::store)?;
    let hosts = records.into_iter().map(|stored| stored.record.host).collect();
    let sweep = Sweep { hosts, scope: Scope::Network(network.clone()) };
    ask(&hands.sweep, sweep).await?.map(|_| ()).map_err(errors::kernel)
}

/// Has the bridge prepared, again where only the rules stood in the way.
async fn prepared(hands: &Hands, definition: &Arc<Definition>) -> Result<BridgeEnd, CniError> {
    let mut again = Again::default();
    loop {
        match ask(&hands.prepare, Prepare(definition.clone())).await? {
            Err(error) if error.is_of_rules() && again.is_due(None).await => {}
            prepared => return prepared.map_err(errors::kernel),
        }
    }
}

/// A network cannot have a gateway that is a container's address: the host would take it from there.
fn has_own_gateways(hands: &Hands, definition: &Definition) -> Result<(), Refusal> {
    let (register, link) = (hands.register.borrow(), home(definition));
    for address in definition.gateway_addresses().iter().map(IpNetwork::ip) {
        if let Some(holder) = register.holder(&link, address) {
            let error = LeaseError::GatewayTaken { address, holder: holder.clone() };
            return Err(Refusal::of_address(&definition.name, &error));
        }
    }
    Ok(())
}

/// Prepares a network. A pool that is there already is kept with its leases, and told the new sets.
async fn open(
    hands: Rc<Hands>,
    definition: Arc<Definition>,
    pool: Option<PoolMailbox>,
) -> Result<(Opened, Level), Refusal> {
    has_own_gateways(&hands, &definition)?;
    let bridge = match definition.lends {
        true => BridgeEnd::NONE,
        false => prepared(&hands, &definition).await?,
    };
    ask(&hands.define, Define(definition.clone())).await?.map_err(errors::store)?;
    let pool = match pool {
        Some(pool) => pool,
        None => {
            if definition.data_dir.is_some() {
                let take_over = TakeOver(definition.clone());
                ask(&hands.take_over, take_over).await?.map_err(errors::store)?;
            }
            let known = ask(&hands.addresses, Addresses(definition.name.clone())).await?;
            let known = known.map_err(errors::store)?;
            let pool = Pool::new(definition.clone(), known, hands.register.clone());
            let address = pool.start();
            PoolMailbox {
                lease: address.clone().recipient(),
                release: address.clone().recipient(),
                reshape: address.recipient(),
            }
        }
    };
    let level = ask(&pool.reshape, Reshape { network: definition.clone() }).await?;
    let (bridge, ports) = (Cell::new(bridge), RefCell::default());
    Ok((Opened { definition, bridge, ports, pool }, level))
}
