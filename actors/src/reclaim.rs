//! An ADD that is refused because of what others hold asks again when that has come free.

use actix::{Message, Recipient};
use quantum_cni::attach::Refusal;
use quantum_config::cni::CniError;

use crate::messages::ask;
use crate::messages::manager::Reclaim;

/// Asks `whom`, and again as long as it is refused because of attachments whose link is destroyed: each time at
/// least one of them has been released, so this ends.
pub(crate) async fn insist<M, T>(
    reclaim: &Recipient<Reclaim>,
    whom: &Recipient<M>,
    request: M,
) -> Result<T, CniError>
where
    M: Message<Result = Result<T, Refusal>> + Clone + Send + 'static,
    T: Send + 'static,
{
    loop {
        let Refusal { error, claimed } = match ask(whom, request.clone()).await? {
            Ok(done) => return Ok(done),
            Err(refusal) => refusal,
        };
        let Some(claimed) = claimed else { return Err(error) };
        if ask(reclaim, Reclaim(*claimed)).await?? == 0 {
            return Err(error);
        }
    }
}
