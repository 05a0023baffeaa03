//! The host's forwarding: on while there is a gateway of ours, and as it was before once there is none.

use std::collections::BTreeSet;

use quantum_cni::attach::{Element, Families};
use quantum_cni::kernel::KernelError;
use quantum_cni::kernel::forwarding::{Change, Forwarding};
use quantum_config::ids::IfName;
use slog::{Logger, info, warn};

use super::Lanes;

/// Has the host forward these families for as long as the link `gateway` is there.
pub(super) async fn hold(
    lanes: &Lanes,
    gateway: IfName,
    wanted: Families,
    log: &Logger,
) -> Result<(), KernelError> {
    if wanted == Families::default() {
        return Ok(());
    }
    // Before it forwards: nothing of others is to come through in between.
    let of = gateway.clone();
    let apart = lanes.forwarding(move |forwarding| forwarding.apart(Some((&of, wanted)))).await??;
    let links: BTreeSet<String> = apart.iter().filter_map(link_of).collect();
    keep_apart(lanes, apart.clone(), false).await?;
    let hold = move |forwarding: &mut Forwarding| forwarding.hold(&gateway, wanted, &apart);
    let changes = lanes.forwarding(hold).await??;
    say(&changes, log);
    if !changes.is_empty() && !links.is_empty() && !lanes.forwards_between_links {
        let links: Vec<String> = links.into_iter().collect();
        info!(log, "the host forwards nothing between these links (forward_between_links)";
            "links" => links.join(" "));
    }
    Ok(())
}

/// Looks whether it is still needed, apart from what containers need. It is tried again with the next look.
pub(super) async fn settle(lanes: &Lanes, held: Families, log: &Logger) {
    let settled = async {
        let changes = lanes.forwarding(move |forwarding| forwarding.settle(held)).await?;
        follow(lanes, &changes, log).await
    };
    if let Err(error) = settled.await {
        warn!(log, "cannot see to the host's forwarding"; "error" => %error);
    }
}

/// Somebody else turned these families off and on again.
pub(super) async fn taken_over(
    lanes: &Lanes,
    families: Families,
    log: &Logger,
) -> Result<(), KernelError> {
    let changes = lanes.forwarding(move |forwarding| forwarding.taken_over(families)).await?;
    follow(lanes, &changes, log).await
}

/// Has the rules follow what has changed.
async fn follow(lanes: &Lanes, changes: &[Change], log: &Logger) -> Result<(), KernelError> {
    say(changes, log);
    let apart = lanes.forwarding(|forwarding| forwarding.apart(None)).await??;
    // If the note was lost, the rules have what was in it.
    keep_apart(lanes, apart, !changes.is_empty()).await
}

fn link_of(element: &Element) -> Option<String> {
    match element {
        Element::Apart { link, .. } => Some(link.to_string()),
        _ => None,
    }
}

/// The rules have these links apart; if they are `all`, no others.
async fn keep_apart(lanes: &Lanes, apart: Vec<Element>, all: bool) -> Result<(), KernelError> {
    let (apart, all) = match lanes.forwards_between_links {
        true => (Vec::new(), true),
        false => (apart, all),
    };
    Ok(lanes.netfilter(move |table| table.keep_apart(&apart, all)).await??)
}

fn say(changes: &[Change], log: &Logger) {
    for change in changes {
        match change {
            Change::Failed(why) => warn!(log, "the host's forwarding"; "error" => why),
            _ => info!(log, "the host's forwarding"; "change" => %change),
        }
    }
}
