//! Metrics: owns the registry and renders it. It asks the others every few seconds how they are:
//! the time an answer takes is the lag of that mailbox, and who does not answer for too long makes
//! `/healthz` fail, so that whoever supervises the daemon starts it anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, MessageResult, Recipient, WrapFuture,
};
use prometheus::{Registry, TextEncoder};
use slog::{Logger, error};
use tokio::sync::watch;

use crate::board::Board;
use crate::messages::Observe;
use crate::messages::metrics::{Health, Render};
use crate::meters::Meters;

/// How often the others are asked.
const INTERVAL: Duration = Duration::from_secs(5);
/// Without an answer for so long an actor counts as stuck.
const STUCK: Duration = Duration::from_secs(30);

/// The actor.
pub(crate) struct Metrics {
    registry: Registry,
    meters: Meters,
    board: watch::Receiver<Board>,
    log: Logger,
    watched: Vec<(&'static str, Recipient<Observe>)>,
    /// When each answered last.
    answered: BTreeMap<&'static str, Instant>,
}

impl Metrics {
    /// Watches the given actors.
    pub(crate) fn new(
        registry: Registry,
        meters: Meters,
        board: watch::Receiver<Board>,
        watched: Vec<(&'static str, Recipient<Observe>)>,
        log: Logger,
    ) -> Self {
        let now = Instant::now();
        let answered = watched.iter().map(|(name, _)| (*name, now)).collect();
        Self { registry, meters, board, log, watched, answered }
    }

    fn sample(&mut self, ctx: &mut Context<Self>) {
        for (name, whom) in &self.watched {
            let (name, asked) = (*name, Instant::now());
            let answer = whom.send(Observe).timeout(STUCK);
            ctx.spawn(answer.into_actor(self).map(move |answer, metrics, _| match answer {
                Ok(()) => {
                    let lag = asked.elapsed();
                    metrics.meters.lag.with_label_values(&[name]).set(lag.as_secs_f64());
                    metrics.answered.insert(name, Instant::now());
                }
                Err(e) => {
                    error!(metrics.log, "an actor does not answer"; "actor" => name, "error" => %e)
                }
            }));
        }
    }

    /// What the board says, as numbers.
    fn read_board(&self) {
        let board = self.board.borrow();
        self.meters.ready.set(f64::from(u8::from(board.is_ready())));
        self.meters.writable.set(i64::from(board.failing.is_empty()));
        for gauge in board.lanes.iter() {
            let label = [gauge.lane()];
            self.meters.lanes.with_label_values(&label).set(gauge.waiting() as i64);
            self.meters.busy.with_label_values(&label).set(gauge.busy().as_secs_f64());
        }
        for (name, status) in &board.networks {
            let label = [name.as_str()];
            self.meters.held.with_label_values(&label).set(status.held as f64);
            self.meters.free.with_label_values(&label).set(status.free as f64);
        }
    }
}

impl Actor for Metrics {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.sample(ctx);
        ctx.run_interval(INTERVAL, Self::sample);
    }
}

impl Handler<Render> for Metrics {
    type Result = MessageResult<Render>;

    fn handle(&mut self, _: Render, _: &mut Self::Context) -> Self::Result {
        self.read_board();
        let text = TextEncoder::new().encode_to_string(&self.registry.gather());
        MessageResult(text.unwrap_or_else(|e| format!("# {e}\n")))
    }
}

impl Handler<Health> for Metrics {
    type Result = MessageResult<Health>;

    fn handle(&mut self, _: Health, _: &mut Self::Context) -> Self::Result {
        let stuck = |(name, at): (&&'static str, &Instant)| (at.elapsed() > STUCK).then_some(*name);
        MessageResult(self.answered.iter().filter_map(stuck).collect())
    }
}
