//! What an attachment is: from a request to a plan for the kernel, the record that is kept and the
//! result that the runtime sees. All of it is values and functions of values.

mod plan;
mod record;

pub use plan::{Element, InsidePlan, LinkPlan, Plan};
pub use record::{Assigned, NetnsId, Record};
