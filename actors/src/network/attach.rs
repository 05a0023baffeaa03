//! ADD: lease, plan, apply, remember, answer. Whatever fails, or a caller who has left, undoes what
//! was done so far; the record is written last, so what is recorded was applied. What cannot be undone
//! is recorded as leaving, as a DEL that the kernel refuses is, and holds its address until it is gone.

use std::rc::Rc;
use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use quantum_cni::attach::{
    Assigned, BridgeFull, Claimed, Plan, Record, Refusal, Repeat, Target, naming, repeat,
};
use quantum_cni::errors;
use quantum_cni::kernel::clock::boottime_ms;
use quantum_cni::kernel::fault;
use quantum_config::cni::{CniError, CniResult, Code, Definition};
use quantum_config::ids::IfName;
use slog::{Logger, info, warn};
use tokio::sync::oneshot;

use super::again::Again;
use super::detach::{Stuck, take_down};
use super::gate::Opened;
use super::parked::Parked;
use super::publish::{Host, obtain};
use super::ticket::{Answer, Attempt, Ticket};
use super::{Hands, Network};
use crate::messages::cache::{Abandon, Lookup, Remember};
use crate::messages::driver::{Apply, Inspect, NotApplied, Ports, Prepare};
use crate::messages::network::{Attach, MayAttach};
use crate::messages::policy::{Dismiss, Judge};
use crate::messages::pool::{Lease, Level, Release};
use crate::messages::publisher::Withdraw;
use crate::messages::{ask, dropped};

/// How often what stands in the way is mended before the kernel's refusal is final: another index, or
/// a bridge that somebody took away.
const ATTEMPTS: u32 = 8;

impl Handler<MayAttach> for Network {
    type Result = ResponseFuture<Result<(), CniError>>;

    fn handle(&mut self, request: MayAttach, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.hand_in(Ticket::MayAttach(Box::new(request), answer), ctx);
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(dropped())) })
    }
}

impl Handler<Attach> for Network {
    type Result = ResponseFuture<Result<CniResult, Refusal>>;

    fn handle(&mut self, request: Attach, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.hand_in(Ticket::Attach(Box::new(request), answer), ctx);
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(dropped().into())) })
    }
}

impl Network {
    /// Runs an ADD whose turn has come, as soon as the gate is open for it.
    pub(super) fn run_attach(
        &mut self,
        request: Box<Attach>,
        answer: Answer<CniResult, Refusal>,
        ctx: &mut Context<Self>,
    ) {
        let attachment = request.target.key.clone();
        let key = (attachment.container.clone(), attachment.ifname.clone());
        self.gate.attach_begins(key.clone(), Attempt::to_attach(&request));
        let Some(open) = self.gate.ready_for(&request.definition) else {
            self.park(Parked::Attach(request, answer), ctx);
            return;
        };
        let attempt = Attempt::to_attach(&request);
        let work = attach(self.hands.clone(), open, *request, self.log.clone());
        ctx.spawn(work.into_actor(self).map(move |(outcome, level), network, ctx| {
            network.gate.attach_ends(&key);
            if outcome.is_err() {
                network.failed.put(key, attempt);
            }
            if let Some(level) = level {
                network.level_is(level);
            }
            let _ = answer.send(outcome);
            network.done(&attachment, ctx);
        }));
    }
}

type Outcome = (Result<CniResult, Refusal>, Option<Level>);

async fn attach(hands: Rc<Hands>, open: Rc<Opened>, mut request: Attach, log: Logger) -> Outcome {
    let target = &request.target;
    if let Err(error) = make_room(&hands, &open, target, &log).await {
        return (Err(error.into()), None);
    }
    if let Err(error) = request.caller.still_waits() {
        return (Err(error.into()), None);
    }
    let port = match naming::host_name(&target.key) {
        Ok(port) => port,
        Err(error) => {
            return (Err(CniError::new(Code::Internal, error.to_string()).into()), None);
        }
    };
    if let Err(error) = find_port(&hands, &open, &port).await {
        return (Err(error.into()), None);
    }
    let (key, publishes) = (target.key.clone(), !target.ports.is_empty());
    let Definition { gateway: is_gateway, posture, .. } = &*request.definition;
    let host = Host { is_gateway: *is_gateway, loopback: posture.loopback };
    let ports = target.ports.clone();
    let (outcome, level) = match obtain(&hands, &key, host, ports, &log).await {
        Ok(ports) => {
            request.target.ports = ports;
            lease_and_apply(hands.clone(), open.clone(), request, log).await
        }
        Err(error) => (Err(error.into()), None),
    };
    open.ports.borrow_mut().settle(&port, outcome.is_ok());
    if publishes && outcome.as_ref().is_err_and(|failed| !failed.holds) {
        hands.withdraw.do_send(Withdraw(key));
    }
    (outcome.map_err(|Failed { error, claimed, .. }| Refusal { error, claimed }), level)
}

/// Sees that the bridge has room for the port before anything is made.
async fn find_port(hands: &Hands, open: &Opened, port: &IfName) -> Result<(), CniError> {
    if open.ports.borrow_mut().claim(port) {
        return Ok(());
    }
    let bridge = open.bridge.get().index;
    let names = ask(&hands.ports, Ports(bridge)).await?.map_err(errors::kernel)?;
    let mut ports = open.ports.borrow_mut();
    ports.counted(&names);
    match ports.claim(port) {
        true => Ok(()),
        false => Err(errors::full(&BridgeFull(open.definition.bridge.clone()))),
    }
}

async fn lease_and_apply(
    hands: Rc<Hands>,
    open: Rc<Opened>,
    request: Attach,
    log: Logger,
) -> (Result<CniResult, Failed>, Option<Level>) {
    let lease = Lease {
        owner: request.target.key.clone(),
        network: request.definition.clone(),
        wanted: request.wanted.clone(),
    };
    let leased = match ask(&open.pool.lease, lease).await {
        Ok(Ok(leased)) => leased,
        Ok(Err(error)) => {
            let network = &request.target.key.network;
            return (Err(Refusal::of_address(network, &error).into()), None);
        }
        Err(error) => return (Err(error.into()), None),
    };
    let mut level = leased.level.clone();
    let job = Job { hands, open, request };
    let outcome = job.apply_and_remember(leased.addresses, &log).await;
    if outcome.as_ref().is_err_and(|failed| !failed.holds) {
        let release = Release { owner: job.request.target.key.clone(), now: boottime_ms() };
        if let Ok(after) = ask(&job.open.pool.release, release).await {
            level = after;
        }
    }
    (outcome, Some(level))
}

/// Whether an ADD would find that it has been done already.
pub(super) async fn may_attach(hands: Rc<Hands>, target: Target) -> Result<(), CniError> {
    in_the_way(&hands, &target).await.map(|_| ())
}

/// An earlier attachment of the same key that has to go first; an error if it lives.
async fn in_the_way(hands: &Hands, target: &Target) -> Result<Option<Arc<Record>>, CniError> {
    let stored = ask(&hands.lookup, Lookup(target.key.clone())).await?.map_err(errors::store)?;
    let Some(stored) = stored else { return Ok(None) };
    let record = Arc::new(stored.record.clone());
    let alive = is_alive(hands, record.clone()).await?;
    if !stored.is_leaving() && repeat(&record, target.netns, alive) == Repeat::Exists {
        return Err(CniError::new(
            Code::Exists,
            format!("attachment {} exists already", target.key),
        )
        .with_details("a runtime must DEL it before it ADDs it again"));
    }
    Ok(Some(record))
}

/// Sees what became of an earlier attachment of the same key.
async fn make_room(
    hands: &Hands,
    open: &Opened,
    target: &Target,
    log: &Logger,
) -> Result<(), CniError> {
    let Some(record) = in_the_way(hands, target).await? else { return Ok(()) };
    info!(log, "replacing an earlier attachment"; "container_id" => target.key.container.as_str());
    // Not the request's: one whose record was lost is known by what stands for its key.
    let owner = record.key.clone();
    let now = take_down(hands, record).await?;
    let release = Release { owner, now };
    ask(&open.pool.release, release).await.map(|_| ())
}

/// True if the host's end of the recorded pair is there: it goes with the container's namespace.
async fn is_alive(hands: &Hands, record: Arc<Record>) -> Result<bool, CniError> {
    let index = record.index;
    let seen = ask(&hands.inspect, Inspect { record, netns: None, besides: Vec::new() })
        .await?
        .map_err(errors::kernel)?;
    Ok(seen.links.host.is_some_and(|link| link.index == index))
}

/// Why an ADD failed, and whether it still holds its addresses, because it could not be undone.
struct Failed {
    error: CniError,
    claimed: Option<Box<Claimed>>,
    holds: bool,
}

impl From<CniError> for Failed {
    fn from(error: CniError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<Refusal> for Failed {
    fn from(Refusal { error, claimed }: Refusal) -> Self {
        Self { error, claimed, holds: false }
    }
}

/// An ADD that has its addresses.
struct Job {
    hands: Rc<Hands>,
    open: Rc<Opened>,
    request: Attach,
}

impl Job {
    async fn apply_and_remember(
        &self,
        addresses: Vec<Assigned>,
        log: &Logger,
    ) -> Result<CniResult, Failed> {
        fault::reach("add-leased").map_err(errors::fault)?;
        self.request.caller.still_waits()?;
        let applied = self.apply(addresses, log).await;
        if applied.as_ref().is_err_and(|failed| !failed.holds) {
            // Whatever failed, also what was to mend it: nothing is there that could be judged.
            self.hands.dismiss.do_send(Dismiss(self.request.target.key.clone()));
        }
        let plan = applied?;
        let Err(error) = self.keep(&plan).await else { return Ok(plan.record.result.clone()) };
        // Whether the record was written or not: an undone attachment has none.
        let holds = match take_down(&self.hands, Arc::new(plan.record.clone())).await {
            Ok(_) => false,
            Err(stuck) => self.abandon(&plan.record, stuck, log).await,
        };
        Err(Failed { holds, ..error.into() })
    }

    /// Has what could not be undone finished in the background. True if the addresses are held until
    /// then.
    async fn abandon(&self, record: &Record, stuck: Stuck, log: &Logger) -> bool {
        let in_kernel = matches!(stuck, Stuck::Kernel(_));
        warn!(log, "undoing an ADD goes on in the background";
            "container_id" => record.key.container.as_str(),
            "interface" => record.key.ifname.as_str(),
            "error" => %CniError::from(stuck));
        let abandon = Abandon { record: Box::new(record.clone()), is_left: in_kernel };
        let kept = ask(&self.hands.abandon, abandon).await;
        match kept.and_then(|kept| kept.map_err(errors::store)) {
            Ok(()) => true,
            Err(error) => {
                // Nobody else may have the address of a link that is there. The next start sweeps what
                // has no record, if this daemon ends before it is gone.
                warn!(log, "undoing an ADD is not recorded"; "error" => %error);
                in_kernel
            }
        }
    }

    /// Has the kernel carry the plan out; on failure nothing of it is left.
    async fn apply(&self, addresses: Vec<Assigned>, log: &Logger) -> Result<Arc<Plan>, Failed> {
        let (mut attempt, mut again, mut is_judged) = (0, Again::default(), false);
        let caller = Some(&self.request.caller);
        loop {
            let plan = Arc::new(self.plan(addresses.clone(), attempt)?);
            // Before it can send: nobody is to be heard whom nobody has judged.
            if !is_judged {
                let judge = Judge(Box::new(plan.record.clone()));
                match ask(&self.hands.judge, judge).await? {
                    Ok(()) => is_judged = true,
                    Err(e) if e.code == Code::Kernel && again.is_due(caller).await => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            let apply = Apply { plan: plan.clone(), netns: self.request.netns.clone() };
            let error = match ask(&self.hands.apply, apply).await? {
                Ok(()) => return Ok(plan),
                Err(NotApplied { why, left: None }) => why,
                Err(NotApplied { why, left: Some(left) }) => {
                    let stuck = Stuck::Kernel(errors::kernel(left));
                    let holds = self.abandon(&plan.record, stuck, log).await;
                    return Err(Failed { holds, ..errors::kernel(why).into() });
                }
            };
            match error {
                error if error.is_index_taken() && attempt < ATTEMPTS => attempt += 1,
                error if error.is_bridge_missing() && attempt < ATTEMPTS => {
                    attempt += 1;
                    let prepare = Prepare(self.open.definition.clone());
                    let made = ask(&self.hands.prepare, prepare).await?.map_err(errors::kernel)?;
                    self.open.bridge.set(made);
                    self.open.ports.borrow_mut().forget();
                }
                error if error.is_of_rules() && again.is_due(caller).await => {}
                error => {
                    if error.is_bridge_full() {
                        // Ports that others plugged in: the next ADD is told before.
                        self.open.ports.borrow_mut().forget();
                    }
                    return Err(errors::kernel(error).into());
                }
            }
        }
    }

    fn plan(&self, addresses: Vec<Assigned>, attempt: u32) -> Result<Plan, CniError> {
        let target = &self.request.target;
        let definition: &Definition = &self.request.definition;
        let bridge = self.open.bridge.get();
        Plan::new(target, definition, bridge, addresses, attempt, boottime_ms())
            .map_err(|e| CniError::new(Code::Internal, e.to_string()))
    }

    /// The last step: from here on the attachment exists.
    async fn keep(&self, plan: &Plan) -> Result<(), CniError> {
        fault::reach("add-applied").map_err(errors::fault)?;
        self.request.caller.still_waits()?;
        let remember = Remember(Box::new(plan.record.clone()));
        ask(&self.hands.remember, remember).await?.map_err(errors::store)?;
        fault::reach("add-remembered").map_err(errors::fault)
    }
}
