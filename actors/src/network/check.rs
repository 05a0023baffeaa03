//! CHECK: does the kernel look like the record, and the record like the result the runtime has?

use std::rc::Rc;
use std::sync::Arc;

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::{Difference, Record, differences};
use quantum_cni::errors;
use quantum_cni::kernel::netns::Netns;
use quantum_config::cni::{CniError, CniResult, Code};
use quantum_config::ids::AttachmentKey;
use tokio::sync::oneshot;

use super::ticket::Ticket;
use super::{Hands, Network};
use crate::messages::cache::Lookup;
use crate::messages::driver::{Inspect, Seen};
use crate::messages::network::Check;
use crate::messages::policy::Expected;
use crate::messages::{ask, dropped};

impl Handler<Check> for Network {
    type Result = ResponseFuture<Result<(), CniError>>;

    fn handle(&mut self, request: Check, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.hand_in(Ticket::Check(Box::new(request), answer), ctx);
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(dropped())) })
    }
}

pub(super) async fn check(hands: Rc<Hands>, request: Check) -> Result<(), CniError> {
    let key = &request.key;
    let stored = ask(&hands.lookup, Lookup(key.clone())).await?.map_err(errors::store)?;
    let Some(stored) = stored.filter(|s| !s.is_leaving()) else {
        return Err(CniError::new(
            Code::UnknownContainer,
            format!("attachment {key} is not known"),
        ));
    };
    let failed = |details: String| {
        Err(CniError::new(Code::CheckFailed, format!("attachment {key} is not as ADD left it"))
            .with_details(details))
    };
    let record = Arc::new(stored.record.clone());
    if record.created == 0 {
        return failed(
            "its record was lost and rebuilt from the kernel, which does not know all of it; DEL \
             and ADD it again"
                .to_owned(),
        );
    }
    if record.netns != request.netns.id() {
        return failed("CNI_NETNS is another namespace than the one ADD was given".to_owned());
    }
    if let Some(details) = disagreement(&record.result, &request.prev_result) {
        return failed(details);
    }
    let seen = look(&hands, &request.key, &record, &request.netns).await?;
    let mut expected = stored.record.clone();
    // A plugin after us may have taken a route away (sbr does); then it says so in the result.
    let told = &request.prev_result.routes;
    expected.routes.retain(|route| told.iter().any(|t| t.dst == route.dst));
    let mut found = differences(&expected, &seen.links);
    found.extend(seen.rules.into_iter().map(Difference::RulesChanged));
    for difference in seen.missing.into_iter().map(Difference::missing) {
        if !found.contains(&difference) {
            found.push(difference);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    failed(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// How often it is looked again because policy has changed meanwhile. A look takes some milliseconds.
const LOOKS: usize = 50;

/// Looks at it, and at what policy has in our sets for it. While policy changes these are asked for before
/// the change and looked for after it, or while it is written: then it is looked once more.
async fn look(
    hands: &Hands,
    key: &AttachmentKey,
    record: &Arc<Record>,
    netns: &Arc<Netns>,
) -> Result<Seen, CniError> {
    let mut of_policy = ask(&hands.expected, Expected(key.clone())).await?;
    let mut looks = 0;
    loop {
        looks += 1;
        let inspect = Inspect {
            record: record.clone(),
            netns: Some(netns.clone()),
            besides: of_policy.elements.clone(),
        };
        let seen = ask(&hands.inspect, inspect).await?.map_err(errors::kernel)?;
        if !seen.missing.iter().any(|element| of_policy.elements.contains(element)) {
            return Ok(seen);
        }
        let now = ask(&hands.expected, Expected(key.clone())).await?;
        if now == of_policy || looks == LOOKS {
            return Ok(seen);
        }
        of_policy = now;
    }
}

/// Where the result that the runtime has does not name what ADD gave it. Plugins after us may have
/// added to it.
fn disagreement(ours: &CniResult, theirs: &CniResult) -> Option<String> {
    let lost = ours.ips.iter().find(|ip| !theirs.ips.iter().any(|t| t.address == ip.address));
    if let Some(ip) = lost {
        return Some(format!("prevResult does not have the address {}", ip.address));
    }
    let lost = ours.interfaces.iter().find(|i| !theirs.interfaces.iter().any(|t| t.name == i.name));
    lost.map(|i| format!("prevResult does not have the interface {}", i.name))
}
