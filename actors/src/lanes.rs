//! The way from an actor to a lane and back: a job goes to the lane's thread, its answer comes to a
//! future. Nothing here blocks.

use std::rc::Rc;

use quantum_cni::kernel::lane::{Lane, LaneError};
use tokio::sync::oneshot;

/// Runs `job` on the lane. The error is the lane's: it could not be set up, or the job panicked.
pub(crate) async fn on_lane<S, T, E>(
    lane: Rc<Lane<S>>,
    job: impl FnOnce(&mut S) -> T + Send + 'static,
) -> Result<T, E>
where
    S: Send + 'static,
    T: Send + 'static,
    E: From<LaneError>,
{
    let (tell, told) = oneshot::channel();
    lane.run(Box::new(move |state: Result<&mut S, &LaneError>| {
        let _ = tell.send(state.map(job).map_err(Clone::clone));
    }));
    match told.await {
        Ok(outcome) => outcome.map_err(E::from),
        // The job panicked and took the channel with it.
        Err(_) => Err(E::from(LaneError::panicked())),
    }
}
