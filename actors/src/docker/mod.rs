//! Docker: the network driver and the IPAM driver that dockerd asks over its plugin protocol. A call is
//! turned into what a CNI call would ask of the others: a network's, an attachment's. It owns the book of
//! Docker's networks and pools, and sees to the endpoints that dockerd has forgotten.
//!
//! ```text
//!   RequestAddress ─► CreateEndpoint ─► Join ─► ProgramExternalConnectivity
//!     (the book)        (an ADD)                   (ports lead there)
//!   ReleaseAddress ◄─ DeleteEndpoint ◄─ Leave ◄─ RevokeExternalConnectivity
//!                       (a DEL)
//! ```
//!
//! dockerd may send any call twice, waits without end for an answer while it holds its locks, and never asks
//! again for what failed while it was taking something down. So each handler can be repeated, answers
//! within its time whatever happens, and what dockerd forgets is looked for.

mod abandoned;
mod bodyless;
mod endpoint;
mod ipam;
mod listen;
mod network;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Recipient, ResponseFuture};
use quantum_cni::attach::Class;
use quantum_cni::docker::Book;
use quantum_cni::errors;
use quantum_cni::kernel::lane::Lane;
use quantum_cni::kernel::netns::Netns;
use quantum_cni::store::{Ledger, StoreError};
use quantum_config::cni::{CniError, Definition};
use quantum_config::docker;
use quantum_config::ids::NetworkName;
use serde_json::{Value, json};
use slog::{Logger, debug, info, o, warn};
use tokio::sync::watch;

pub(crate) use self::listen::Door;
use crate::board::Board;
use crate::caller::Caller;
use crate::lanes::on_lane;
use crate::messages::cache::{All, List, Lookup};
use crate::messages::docker::{Answer, Serve};
use crate::messages::driver::Links;
use crate::messages::manager::{Admit, Admitted, Reclaim, Retire};
use crate::messages::{Observe, ask};
use crate::meters::Meters;

/// How long a call may take; dockerd waits longer, and everybody who uses it with it.
const PATIENCE: Duration = Duration::from_secs(9);
/// How much longer there is to take back what came too late.
const GRACE: Duration = Duration::from_millis(800);
/// How often is looked for endpoints that dockerd has forgotten.
const LOOK: Duration = Duration::from_secs(10);

/// Whom it asks.
#[derive(Debug, Clone)]
pub(crate) struct Hands {
    pub(crate) admit: Recipient<Admit>,
    pub(crate) reclaim: Recipient<Reclaim>,
    pub(crate) retire: Recipient<Retire>,
    pub(crate) lookup: Recipient<Lookup>,
    pub(crate) list: Recipient<List>,
    pub(crate) all: Recipient<All>,
    pub(crate) links: Recipient<Links>,
}

/// What every call needs.
pub(crate) struct Desk {
    pub(crate) hands: Hands,
    /// What is defined in `config_dir`.
    pub(crate) board: watch::Receiver<Board>,
    pub(crate) book: RefCell<Book>,
    pub(crate) ledger: Rc<Lane<Ledger>>,
    /// The network namespace of the host.
    pub(crate) host: Arc<Netns>,
    pub(crate) meters: Meters,
    pub(crate) log: Logger,
}

/// The actor.
pub(crate) struct Docker {
    desk: Rc<Desk>,
}

impl Docker {
    /// One with what was kept.
    pub(crate) fn new(desk: Desk) -> Self {
        Self { desk: Rc::new(desk) }
    }
}

impl Actor for Docker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(LOOK, |docker, _| {
            let desk = docker.desk.clone();
            actix_rt::spawn(async move {
                abandoned::look(&desk).await;
                network::forget_unheard(&desk).await;
            });
        });
    }
}

impl Handler<Observe> for Docker {
    type Result = ();

    fn handle(&mut self, _: Observe, _: &mut Context<Self>) {}
}

impl Handler<Serve> for Docker {
    type Result = ResponseFuture<Answer>;

    fn handle(&mut self, request: Serve, _: &mut Context<Self>) -> Self::Result {
        let Serve { method, body, uid, pid } = request;
        let desk = self.desk.clone();
        Box::pin(async move {
            let log = desk.log.new(o!("uid" => uid, "pid" => pid));
            debug!(log, "request"; "method" => &method);
            // What goes on behind it ends in its own time; only the answer cannot wait.
            let work = serve(&desk, &method, &body);
            let outcome = match tokio::time::timeout(PATIENCE + GRACE, work).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    Err(Refused::Because("quantum-cnid has taken too long; try again".into()))
                }
            };
            match outcome {
                Ok(said) => {
                    if changes(&method) {
                        info!(log, "done for Docker"; "method" => &method, "of" => subject(&body));
                    }
                    Answer::Said(said.to_string())
                }
                Err(Refused::NoSuchMethod) => Answer::NoSuchMethod,
                Err(Refused::Because(why)) => {
                    warn!(log, "refused"; "method" => &method, "error" => &why);
                    // Both drivers have a name of their own for it.
                    let key = if method.starts_with("IpamDriver.") { "Error" } else { "Err" };
                    Answer::Said(json!({ key: why }).to_string())
                }
            }
        })
    }
}

/// Whether a call is more than a question.
fn changes(method: &str) -> bool {
    !matches!(
        method,
        "Plugin.Activate"
            | "NetworkDriver.GetCapabilities"
            | "NetworkDriver.EndpointOperInfo"
            | "NetworkDriver.DiscoverNew"
            | "NetworkDriver.DiscoverDelete"
            | "IpamDriver.GetCapabilities"
            | "IpamDriver.GetDefaultAddressSpaces"
    )
}

/// What a call is about, for the log: Docker's names of the network, the endpoint, the pool and the address.
fn subject(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let named = ["NetworkID", "EndpointID", "PoolID", "Pool", "Address"];
    named.iter().filter_map(|key| body[key].as_str()).collect::<Vec<_>>().join(" ")
}

/// Why a call is not done, in words for dockerd's user.
enum Refused {
    Because(String),
    NoSuchMethod,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self::Because(why)
    }
}

impl From<CniError> for Refused {
    fn from(error: CniError) -> Self {
        Self::Because(error.to_string())
    }
}

type Done = Result<Value, Refused>;

/// Nothing to say.
fn nothing() -> Value {
    json!({})
}

/// A constant answer.
fn constant(text: &str) -> Done {
    serde_json::from_str(text).map_err(|e| Refused::Because(e.to_string()))
}

async fn serve(desk: &Desk, method: &str, body: &[u8]) -> Done {
    if body.is_empty()
        && let Some(done) = bodyless::answer(desk, method).await
    {
        return done;
    }
    match method {
        "Plugin.Activate" => {
            // Asked once in dockerd's life.
            info!(desk.log, "dockerd was started");
            desk.book.borrow_mut().pools().dockerd_starts();
            constant(docker::IMPLEMENTS)
        }
        "NetworkDriver.GetCapabilities" => constant(docker::DRIVER),
        "NetworkDriver.CreateNetwork" => network::create(desk, body).await,
        "NetworkDriver.DeleteNetwork" => network::delete(desk, body).await,
        "NetworkDriver.CreateEndpoint" => endpoint::create(desk, body).await,
        "NetworkDriver.DeleteEndpoint" => endpoint::delete(desk, body).await,
        "NetworkDriver.EndpointOperInfo" => Ok(json!({ "Value": {} })),
        "NetworkDriver.Join" => endpoint::join(desk, body).await,
        "NetworkDriver.Leave" => endpoint::leave(desk, body).await,
        "NetworkDriver.ProgramExternalConnectivity" => endpoint::program(desk, body).await,
        "NetworkDriver.RevokeExternalConnectivity" => endpoint::leave(desk, body).await,
        // Other hosts are none of ours.
        "NetworkDriver.DiscoverNew" | "NetworkDriver.DiscoverDelete" => Ok(nothing()),
        "IpamDriver.GetCapabilities" => constant(docker::IPAM),
        "IpamDriver.GetDefaultAddressSpaces" => Ok(json!({
            "LocalDefaultAddressSpace": docker::ADDRESS_SPACE,
            "GlobalDefaultAddressSpace": docker::ADDRESS_SPACE,
        })),
        "IpamDriver.RequestPool" => ipam::request_pool(desk, body).await,
        "IpamDriver.ReleasePool" => ipam::release_pool(desk, body).await,
        "IpamDriver.RequestAddress" => ipam::request_address(desk, body).await,
        "IpamDriver.ReleaseAddress" => ipam::release_address(desk, body).await,
        _ => Err(Refused::NoSuchMethod),
    }
}

impl Desk {
    /// Has the book survive the daemon.
    async fn save(&self) -> Result<(), Refused> {
        let bytes = self.book.borrow().to_saved().map_err(|e| e.to_string())?;
        let job = move |ledger: &mut Ledger| ledger.save(&bytes);
        let saved: Result<Result<(), StoreError>, StoreError> =
            on_lane(self.ledger.clone(), job).await;
        saved.and_then(|saved| saved).map_err(|e| errors::store(e).into())
    }

    /// A network by Docker's name for it.
    fn network(&self, id: &str) -> Result<docker::Network, Refused> {
        self.book.borrow().network(id).cloned().ok_or_else(|| {
            Refused::Because(format!(
                "Docker's network {} is not known to quantum-cnid; remove it and create it again",
                id.get(..12).unwrap_or(id)
            ))
        })
    }

    /// Goes in by the door.
    async fn admit(
        &self,
        network: &NetworkName,
        class: Class,
        definition: Option<Arc<Definition>>,
    ) -> Result<(Admitted, Caller), CniError> {
        let caller = Caller::new(PATIENCE);
        let network = network.clone();
        let admit = Admit { network, class, definition, caller: caller.clone() };
        Ok((ask(&self.hands.admit, admit).await??, caller))
    }
}
