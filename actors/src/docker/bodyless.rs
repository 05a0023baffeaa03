//! Calls whose body was lost. A dockerd whose connection breaks sends its call again, but what it had written of
//! the body is gone, so the second one has none. That is how a call ends in the middle of which we are killed.
//!
//! | call | answer |
//! |---|---|
//! | CreateEndpoint | done: all that it could be told, Join tells. If there is no such endpoint, Join says so |
//! | Join | of the one endpoint that waits to be joined; of several nobody knows which is meant |
//! | what takes something down | done: dockerd goes on, and what is left is found by [`abandoned`] |
//! | all others | refused: dockerd gives the container or the network up, and the next try has a body |

use super::{Desk, Done, abandoned, endpoint, nothing};

/// The answer, if the call can do without a body.
pub(super) async fn answer(desk: &Desk, method: &str) -> Option<Done> {
    match method {
        "NetworkDriver.CreateEndpoint"
        | "NetworkDriver.RevokeExternalConnectivity"
        | "NetworkDriver.Leave"
        | "NetworkDriver.DeleteEndpoint"
        | "IpamDriver.ReleaseAddress" => Some(Ok(nothing())),
        "NetworkDriver.Join" => {
            let waiting = abandoned::waiting(desk).await;
            let [record] = waiting.as_slice() else { return None };
            let network = desk.book.borrow().named(&record.key.network).cloned()?;
            Some(endpoint::tell(desk, &network, record))
        }
        _ => None,
    }
}
