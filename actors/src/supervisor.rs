//! What whoever supervises the daemon is told (systemd's `Type=notify`): that it listens, how it is, while its
//! actors answer that it lives, and that it stops.

use std::future::pending;

use actix::Recipient;
use quantum_cni::kernel::supervisor::Supervisor;
use slog::{Logger, warn};
use tokio::sync::watch;
use tokio::time::{Interval, interval};

use crate::board::{Board, Phase};
use crate::messages::metrics::Health;

/// Tells the supervisor, if there is one, from now on. The daemon listens: no request is lost, and those
/// that have to wait do. So it is ready, and who is started after it is not held up by what it finds.
pub(crate) fn attend(board: watch::Receiver<Board>, health: Recipient<Health>, log: Logger) {
    match Supervisor::from_env() {
        Ok(None) => {}
        Ok(Some(supervisor)) => {
            actix_rt::spawn(tell(supervisor, board, health, log));
        }
        Err(error) => warn!(log, "NOTIFY_SOCKET cannot be used"; "error" => %error),
    }
}

async fn tell(
    supervisor: Supervisor,
    mut board: watch::Receiver<Board>,
    health: Recipient<Health>,
    log: Logger,
) {
    let mut watchdog = supervisor.watchdog.map(interval);
    let mut said = String::new();
    let mut says = |lines: String| {
        if lines == said {
            return;
        }
        if let Err(error) = supervisor.tell(&lines) {
            warn!(log, "telling the supervisor"; "error" => %error);
        }
        said = lines;
    };
    loop {
        says(lines(&board.borrow_and_update()));
        let is_due = tokio::select! {
            changed = board.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
            () = due(&mut watchdog) => true,
        };
        // If actors do not answer it is not told, and starts the daemon anew.
        if is_due && health.send(Health).await.is_ok_and(|stuck| stuck.is_empty()) {
            let _ = supervisor.tell("WATCHDOG=1");
        }
    }
}

async fn due(watchdog: &mut Option<Interval>) {
    match watchdog {
        Some(interval) => _ = interval.tick().await,
        None => pending().await,
    }
}

/// How the daemon is, in the supervisor's words.
fn lines(board: &Board) -> String {
    let state = if board.phase == Phase::Draining { "STOPPING=1" } else { "READY=1" };
    let reasons = board.reasons();
    let status = if reasons.is_empty() { "open".to_owned() } else { reasons.join("; ") };
    format!("{state}\nSTATUS={}", status.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_why_it_does_not_serve_everybody() {
        let mut board = Board::default();
        assert_eq!(lines(&board), "READY=1\nSTATUS=the daemon is starting");
        board.phase = Phase::Open;
        assert_eq!(lines(&board), "READY=1\nSTATUS=open");
        board.degraded.push("two\nlines".into());
        assert_eq!(lines(&board), "READY=1\nSTATUS=two lines");
        board.phase = Phase::Draining;
        assert!(lines(&board).starts_with("STOPPING=1\nSTATUS=the daemon is stopping; "));
    }
}
