//! What the Driver tells of by itself: how the rules and links of the host are, and which bridge was harmed.

use actix::{Context, Handler};
use quantum_cni::attach::naming;
use slog::{info, warn};

use super::Manager;
use crate::messages::manager::{BridgeHarmed, Crowded, Looked};
use crate::messages::network::Mend;

impl Handler<Looked> for Manager {
    type Result = ();

    fn handle(&mut self, looked: Looked, _: &mut Context<Self>) {
        let Looked { unruled, dropping, missing, troubles } = looked;
        for what in missing.iter().filter(|what| !self.board.borrow().missing.contains(what)) {
            warn!(self.log, "the kernel does not have everything"; "missing" => what);
        }
        let before = self.board.borrow().limited.clone();
        self.board.send_modify(|board| {
            (board.unruled, board.dropping, board.missing) = (unruled, dropping, missing);
            board.troubles = troubles;
            board.judge();
        });
        let now = self.board.borrow().limited.clone();
        for reason in now.iter().filter(|reason| !before.contains(reason)) {
            warn!(self.log, "connectivity may be limited"; "error" => reason);
        }
        if now.is_empty() && !before.is_empty() {
            info!(self.log, "connectivity is not limited any more");
        }
    }
}

impl Handler<Crowded> for Manager {
    type Result = ();

    fn handle(&mut self, Crowded(crowded): Crowded, _: &mut Context<Self>) {
        let before = self.board.borrow().crowded.clone();
        for (address, count) in crowded.iter().filter(|(address, _)| !before.contains_key(*address))
        {
            warn!(self.log, "a container holds too many connections and begins no new ones";
                "ip_address" => %address, "connections" => count);
        }
        for address in before.keys().filter(|address| !crowded.contains_key(*address)) {
            info!(self.log, "a container begins connections again"; "ip_address" => %address);
        }
        self.board.send_modify(|board| board.crowded = crowded);
    }
}

impl Handler<BridgeHarmed> for Manager {
    type Result = ();

    /// Several networks may share the bridge, each with an address of its own.
    fn handle(&mut self, BridgeHarmed(link): BridgeHarmed, _: &mut Context<Self>) {
        let board = self.board.borrow();
        for (name, status) in &board.networks {
            let bridge = status.definition.as_ref().map(|definition| &definition.bridge);
            if bridge.is_some_and(|bridge| naming::is_home(&link, bridge))
                && let Some(mailbox) = self.networks.get(name)
            {
                mailbox.mend.do_send(Mend);
            }
        }
    }
}
