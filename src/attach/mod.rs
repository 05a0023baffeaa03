//! What an attachment is: from a request to a plan for the kernel, the record that is kept and the
//! result that the runtime sees; and what may happen in which order. All of it is values and
//! functions of values.
//!
//! | file      | the question it answers                                             |
//! |-----------|---------------------------------------------------------------------|
//! | `plan`    | what is the kernel told, and what is kept when it has done it?       |
//! | `element` | what has it, and what has a network, in our nftables sets?          |
//! | `loopback`| what of that is at 127.0.0.0/8?                                     |
//! | `traces`  | what do the elements tell of containers whose records were lost?    |
//! | `shape`   | what in the kernel holds it to its limits?                          |
//! | `record`  | what do we know of an attachment that exists?                        |
//! | `identity`| as whom does policy know it?                                        |
//! | `enforcement` | how do packets between containers come before the rules?         |
//! | `naming`  | what are its link, its alias and its indexes called?                 |
//! | `repeat`  | what does an ADD mean for a key that is attached already?            |
//! | `observed`| what does the kernel have of it?                                    |
//! | `check`   | does the kernel still look like the record?                          |
//! | `routes`  | is a route of the kernel's the one that was configured?              |
//! | `difference`| and if not, in what?                                              |
//! | `amend`   | what does a later plugin of the chain change about it?               |
//! | `collect` | which attachments does GC remove?                                    |
//! | `overlap` | does a subnet take what the host sends to others?                    |
//! | `ports`   | does the bridge have room for one more port?                         |
//! | `tickets` | who goes first when several requests concern one key?                |
//! | `door`    | who is let in when there are more requests than permits?             |
//! | `handed`  | will nobody ever come for what was handed over?                      |
//! | `forwarding` | does the host forward because of us, and when need it not?      |
//! | `links`   | what are our links to be like, and in what do they differ?           |
//! | `fights`  | does somebody undo what is put right again and again?                |
//! | `orphaned`| whose link is gone for so long that its DEL will not come?           |
//! | `reclaim` | what may an ADD take from those whose link is destroyed?          |
//! | `earlier` | can what was made in another network namespace live?               |
//! | `recover` | what can be known of an attachment whose record was lost?            |

mod amend;
mod check;
mod collect;
mod crowded;
mod difference;
mod door;
mod earlier;
mod element;
mod enforcement;
mod fights;
mod foreign;
mod forwarding;
mod handed;
mod identity;
mod links;
mod loopback;
mod meant;
pub mod naming;
mod network;
mod observed;
pub mod orphaned;
mod overlap;
mod plan;
mod ports;
mod reclaim;
mod record;
mod recover;
mod repeat;
mod routes;
mod same_addresses;
mod shape;
mod tickets;
mod traces;

pub use amend::{AmendError, Revision, exchanged};
pub use check::differences;
pub use collect::stale;
pub use crowded::{Bound, ConnectionTable};
pub use difference::Difference;
pub use door::{Class, Door, Entry, Limits};
pub use earlier::{Earlier, HostNote, Witnesses, earlier};
pub use element::{Element, PublishedAt, Trait, elements, expected_elements};
pub use enforcement::{NoWayToRules, WayToRules, way_to_rules};
pub use fights::Fights;
pub use foreign::Dropping;
pub use forwarding::{Families, ForwardingNote, HostLink, LinkKind, TurnedOn, forwarders, uplinks};
pub use handed::{is_abandoned, is_waiting};
pub use identity::endpoint;
pub use links::{BridgeWanted, Harm, LinkSeen, Links, PortWanted, Trouble};
pub use loopback::{publishes_at_loopback, serves_loopback};
pub use meant::{Adding, Meant, Only};
pub use network::{Stances, bridge_element, home, network_elements, network_remains};
pub use observed::{
    BridgeSeen, BucketSeen, HostSeen, InsideSeen, Observed, RouteSeen, ShapeSeen, VlansSeen,
};
pub use orphaned::LinksSeen;
pub use overlap::{HostAddress, HostNetworks, HostRoute, OnLink, Overlap, Overlapped, overlaps};
pub use plan::{BridgeEnd, GatewayEnd, InsidePlan, LinkPlan, Plan, Target};
pub use ports::{BridgeFull, PORTS_MAX, Ports};
pub use reclaim::{Claimed, Refusal, reclaimable};
pub use record::{Assigned, NetnsId, Record};
pub use recover::recover;
pub use repeat::{Repeat, repeat};
pub use same_addresses::SameAddresses;
pub use shape::{Bucket, ShapePlan, Shaper};
pub use tickets::{Claim, Tickets};
pub use traces::Traces;
