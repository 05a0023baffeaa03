//! The way from an actor to a lane and back: a job goes to the lane's thread, its answer comes to a
//! future. Nothing here blocks.

use std::future::Future;
use std::rc::Rc;

use quantum_cni::kernel::lane::{Lane, LaneError};
use tokio::sync::oneshot;

/// Runs `job` on the lane. The error is the lane's: it could not be set up, or the job panicked.
///
/// The job has its place in the lane's queue when this returns, and not when somebody first asks the
/// future: an actor that waits for something asks no other, and what it saves must not come to be saved
/// in another order than it was decided in.
pub(crate) fn on_lane<S, T, E, J>(
    lane: Rc<Lane<S>>,
    job: J,
) -> impl Future<Output = Result<T, E>> + use<S, T, E, J>
where
    S: Send + 'static,
    T: Send + 'static,
    E: From<LaneError>,
    J: FnOnce(&mut S) -> T + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    lane.run(Box::new(move |state: Result<&mut S, &LaneError>| {
        let _ = tell.send(state.map(job).map_err(Clone::clone));
    }));
    async move {
        match told.await {
            Ok(outcome) => outcome.map_err(E::from),
            // The job panicked and took the channel with it.
            Err(_) => Err(E::from(LaneError::panicked())),
        }
    }
}
