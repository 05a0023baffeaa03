//! The end of a stop: who is inside finishes, the store comes to the disk, the lanes are idle. It has its time,
//! whatever hangs.

use std::time::{Duration, Instant};

use slog::{Logger, error, info};
use tokio::time::{sleep, timeout};

use crate::gauges::Gauges;
use crate::messages::Drain;
use crate::wiring::Graph;

/// How long all have to finish when the daemon stops.
const DRAIN: Duration = Duration::from_secs(20);
/// How long a rank has even where others took all of it. With six of these it is a little less than the
/// `TimeoutStopSec` of the unit.
const LEAST: Duration = Duration::from_secs(1);
/// How often it is looked whether the lanes are idle.
const STEP: Duration = Duration::from_millis(10);

/// Rank by rank, all within one time; who does not finish is named and left behind.
pub(crate) async fn drain(graph: &Graph, gauges: &Gauges, log: &Logger) {
    let end = Instant::now() + DRAIN;
    let left = || end.saturating_duration_since(Instant::now()).max(LEAST);
    for (actor, mailbox) in &graph.drains {
        if let Err(e) = mailbox.send(Drain).timeout(left()).await {
            error!(log, "did not finish in time"; "actor" => actor, "error" => %e);
        }
    }
    // What no answer waits for.
    let idle = async {
        while !gauges.busy().is_empty() {
            sleep(STEP).await;
        }
    };
    if timeout(left(), idle).await.is_err() {
        error!(log, "left behind in the middle of their work"; "lanes" => gauges.busy().join("; "));
    }
    info!(log, "stopped; networks are left as they are");
}
