//! Trying again: whoever flushes all rules, or an `nft` that fails now and then, costs no ADD while its caller
//! waits.

use std::time::Duration;

use crate::caller::Caller;

/// The first pause. Each is twice the one before.
const FIRST: Duration = Duration::from_millis(25);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(1);
/// How often it is tried again at most. All pauses together are some eight seconds: by then the watch has put
/// right what it can, and STATUS says what it cannot.
const TIMES: u32 = 12;

/// The tries of one request.
#[derive(Debug, Default)]
pub(super) struct Again(u32);

impl Again {
    /// Waits for the next try; false if there is to be none.
    pub(super) async fn is_due(&mut self, caller: Option<&Caller>) -> bool {
        let pause = (FIRST * 2_u32.pow(self.0)).min(LONGEST);
        self.0 += 1;
        if self.0 > TIMES {
            return false;
        }
        tokio::time::sleep(pause).await;
        caller.is_none_or(|caller| caller.still_waits().is_ok())
    }
}
