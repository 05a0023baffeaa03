//! What operators ask about policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use quantum_cni::errors;
use quantum_cni::kernel::clock::boottime_ms;
use quantum_cni::kernel::lane::LaneError;
use quantum_cni::policy::{
    self, Catalog, CatalogError, Documents, Origin, ResolveError, Who, World, Written,
};
use quantum_cni::store::Shelf;
use quantum_config::ask::{
    Applied, Ask, Changed, Denied, DeniedFlow, Label, Labelled, OfMatrix, Outcome, ShownLabel,
};
use quantum_config::cni::{CniError, Code, Label as GivenLabel};
use quantum_config::ids::AttachmentKey;
use quantum_config::policy::{Document, DocumentKey, OperatorLabels};
use serde::Serialize;
use tokio::sync::oneshot;

use super::Policy;
use crate::lanes::on_lane;
use crate::messages::driver::Flows;
use crate::messages::policy::Answer;
use crate::messages::{ask, dropped};

type Answered = Result<String, CniError>;

impl Handler<Answer> for Policy {
    type Result = ResponseFuture<Answered>;

    fn handle(&mut self, Answer(asked): Answer, ctx: &mut Context<Self>) -> Self::Result {
        match asked {
            Ask::Apply(text) => self.apply(text, ctx),
            Ask::Delete(asked) => self.delete(&asked, ctx),
            Ask::Label(asked) => self.label(&asked, ctx),
            Ask::Simulate(text) => self.simulate(text, ctx),
            Ask::Explain(asked) => {
                let world = self.world();
                ready(policy::explain(&world, &asked).map_err(|e| unresolved(&e)))
            }
            Ask::Matrix(OfMatrix { traffic }) => {
                let world = self.world();
                match policy::read_traffic(&traffic) {
                    // There may be many endpoints.
                    Ok(traffic) => Box::pin(aside(move || Ok(policy::matrix(&world, traffic)))),
                    Err(error) => ready::<()>(Err(unresolved(&error))),
                }
            }
            Ask::Show => ready(Ok(self.show())),
            Ask::Denied => ready(Ok(self.tell_denied())),
        }
    }
}

impl Policy {
    /// The documents are read where those of `policy_dir` are, and in that order.
    fn apply(&mut self, text: String, ctx: &mut Context<Self>) -> ResponseFuture<Answered> {
        let read = on_lane(self.shelf.clone(), move |_: &mut Shelf| Written::read(&text));
        self.when_read(read, ctx, |policy, written, ctx| match policy.catalog.apply(written) {
            Ok((catalog, keys)) => policy.answer_change(catalog, &keys, ctx),
            Err(error) => ready::<()>(Err(refused(&error))),
        })
    }

    /// Goes on when documents have been read. Until then others are served.
    fn when_read(
        &mut self,
        read: impl Future<Output = Result<Result<Written, CatalogError>, LaneError>> + 'static,
        ctx: &mut Context<Self>,
        go_on: fn(&mut Self, Written, &mut Context<Self>) -> ResponseFuture<Answered>,
    ) -> ResponseFuture<Answered> {
        let (tell, told) = oneshot::channel();
        ctx.spawn(read.into_actor(self).map(move |read, policy, ctx| {
            let answer = match read {
                Ok(Ok(written)) => go_on(policy, written, ctx),
                Ok(Err(error)) => ready::<()>(Err(refused(&error))),
                Err(error) => ready::<()>(Err(errors::kernel(error.into()))),
            };
            actix_rt::spawn(async move { _ = tell.send(answer.await) });
        }));
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(dropped())) })
    }

    fn delete(
        &mut self,
        asked: &quantum_config::ask::Delete,
        ctx: &mut Context<Self>,
    ) -> ResponseFuture<Answered> {
        let key = DocumentKey::named(&asked.kind, asked.namespace.as_deref(), &asked.name);
        let Some(key) = key else {
            let text = format!("kind={:?} is not a kind of policy", asked.kind);
            return ready::<()>(Err(CniError::new(Code::InvalidNetworkConfig, text)));
        };
        let keys = [key];
        match self.catalog.delete(&keys) {
            Ok(catalog) => self.answer_change(catalog, &keys, ctx),
            Err(error) => ready::<()>(Err(refused(&error))),
        }
    }

    fn answer_change(
        &mut self,
        catalog: Catalog,
        keys: &[DocumentKey],
        ctx: &mut Context<Self>,
    ) -> ResponseFuture<Answered> {
        let (before, after) = (by_key(&self.catalog), by_key(&catalog));
        let documents = keys.iter().map(|key| Changed {
            document: key.to_string(),
            outcome: match (before.get(key), after.get(key)) {
                (None, _) => Outcome::Created,
                (Some(_), None) => Outcome::Deleted,
                (Some(old), Some(new)) if old == new => Outcome::Unchanged,
                (Some(_), Some(_)) => Outcome::Changed,
            },
        });
        let applied = Applied { documents: documents.collect() };
        let made = self.change(catalog, ctx);
        Box::pin(async move {
            made.await.unwrap_or_else(|_| Err(dropped()))?;
            written(&applied)
        })
    }

    fn label(&mut self, asked: &Label, ctx: &mut Context<Self>) -> ResponseFuture<Answered> {
        let world = self.world();
        let key = match one_endpoint(&world, &asked.endpoint) {
            Ok(key) => key,
            Err(error) => return ready::<()>(Err(error)),
        };
        let removed: Vec<String> = asked.remove.iter().cloned().collect();
        let record = self.records.get(&key);
        let came_with =
            |name: &str| record.is_some_and(|record| record.identity.labels.contains_key(name));
        let catalog = match self.catalog.label(&key, &asked.set, &removed, came_with) {
            Ok(catalog) => catalog,
            Err(error) => return ready::<()>(Err(refused(&error))),
        };
        let (labels, removed) = self.shown_labels(&key, catalog.labels(&key));
        let labelled = Labelled { key: key.to_string(), labels, removed };
        let made = self.change(catalog, ctx);
        Box::pin(async move {
            made.await.unwrap_or_else(|_| Err(dropped()))?;
            written(&labelled)
        })
    }

    /// A question changes nothing and needs no order, so no change waits for one.
    fn simulate(&mut self, text: String, ctx: &mut Context<Self>) -> ResponseFuture<Answered> {
        let read = tokio::task::spawn_blocking(move || Written::read(&text));
        let read = async move { read.await.map_err(|_| LaneError::panicked()) };
        self.when_read(read, ctx, |policy, written, _| {
            let catalog = match policy.catalog.apply(written) {
                Ok((catalog, _)) => catalog,
                Err(error) => return ready::<()>(Err(refused(&error))),
            };
            let now = policy.world();
            let then = policy.registry.world_under(Arc::new(Documents::new(catalog.documents())));
            let flows = policy.hands.flows.clone();
            Box::pin(async move {
                let flows = ask(&flows, Flows).await?.map_err(errors::kernel)?;
                aside(move || Ok(policy::simulate(&now, &then, &flows))).await
            })
        })
    }

    fn show(&mut self) -> quantum_config::ask::Shown {
        let networks = self.board.borrow().standings();
        let mut shown = policy::show(&self.world(), &networks);
        let sources: BTreeMap<String, String> = self
            .catalog
            .entries()
            .map(|(origin, document)| {
                let source = match origin {
                    Origin::File(file) => file.to_owned(),
                    Origin::Operator => "quantumctl".to_owned(),
                };
                (document.key().to_string(), source)
            })
            .collect();
        let source = |key: String| sources.get(&key).cloned().unwrap_or_default();
        for namespace in &mut shown.namespaces {
            namespace.source = source(format!("Namespace {}", namespace.name));
        }
        for policy in &mut shown.policies {
            policy.source = source(format!("{} {}", policy.kind, policy.name));
        }
        for endpoint in &mut shown.endpoints {
            if let Ok(key) = endpoint.key.parse() {
                (endpoint.labels, endpoint.removed) =
                    self.shown_labels(&key, self.catalog.labels(&key));
            }
        }
        let problems = self.catalog.problems().into_iter();
        shown.problems = problems.map(|p| format!("{}: {}", p.file, p.reason)).collect();
        shown
    }

    /// The labels of an endpoint, and those that operators have taken away from it.
    fn shown_labels(
        &self,
        key: &AttachmentKey,
        operator: Option<&OperatorLabels>,
    ) -> (BTreeMap<String, ShownLabel>, BTreeMap<String, ShownLabel>) {
        let Some(record) = self.records.get(key) else { return Default::default() };
        let none = OperatorLabels::new();
        let operator = operator.unwrap_or(&none);
        let (identity, shown) = (&record.identity, |(name, label): (String, GivenLabel)| {
            (name, ShownLabel { value: label.value, source: label.source.to_string() })
        });
        let labels = identity.all_labels(key, operator).into_iter().map(shown).collect();
        (labels, identity.removed_labels(operator).into_iter().map(shown).collect())
    }

    fn tell_denied(&mut self) -> Denied {
        let (world, now) = (self.world(), boottime_ms());
        let flows = self.denied.snapshot().into_iter().map(|flow| {
            let party = |address| policy::party(&world.side(address));
            DeniedFlow {
                from: party(flow.from),
                to: party(flow.to),
                traffic: flow.spoken.to_string(),
                audited: flow.audit,
                because: flow.why,
                packets: flow.count,
                seconds_ago: now.saturating_sub(flow.last) / 1000,
            }
        });
        let mut flows: Vec<DeniedFlow> = flows.collect();
        // An answer has a limit.
        let left_out = flows.len().saturating_sub(TOLD);
        flows.truncate(TOLD);
        Denied { flows, left_out: left_out as u64 }
    }
}

/// The most denied flows that one answer tells.
const TOLD: usize = 1000;

fn by_key(catalog: &Catalog) -> BTreeMap<DocumentKey, Document> {
    catalog.entries().map(|(_, document)| (document.key(), document.clone())).collect()
}

/// The attachment that an operator means.
fn one_endpoint(world: &World, named: &str) -> Result<AttachmentKey, CniError> {
    let who = policy::resolve(world, named).map_err(|e| unresolved(&e))?;
    let endpoint = match who {
        Who::Endpoint(endpoint) => Some(endpoint),
        Who::At(side) => side.endpoint(),
        Who::Host => None,
    };
    endpoint.map(|endpoint| endpoint.key.clone()).ok_or_else(|| {
        CniError::new(Code::InvalidNetworkConfig, format!("{named:?} is not an endpoint of ours"))
    })
}

fn unresolved(error: &ResolveError) -> CniError {
    CniError::new(Code::InvalidNetworkConfig, "the question cannot be answered")
        .with_details(error.to_string())
}

fn refused(error: &CatalogError) -> CniError {
    CniError::new(Code::InvalidNetworkConfig, "policy has not been changed")
        .with_details(error.to_string())
}

fn written<T: Serialize>(answer: &T) -> Answered {
    serde_json::to_string(answer).map_err(|e| CniError::new(Code::Internal, e.to_string()))
}

fn ready<T: Serialize + 'static>(answer: Result<T, CniError>) -> ResponseFuture<Answered> {
    let answer = answer.and_then(|answer| written(&answer));
    Box::pin(async move { answer })
}

/// Works an answer out where nobody waits for the thread.
async fn aside<T: Serialize + Send + 'static>(
    work: impl FnOnce() -> Result<T, CniError> + Send + 'static,
) -> Answered {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.unwrap_or_else(|_| Err(dropped())).and_then(|answer| written(&answer))
}
