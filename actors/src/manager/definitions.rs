//! The networks of `config_dir`: read at start and on SIGHUP. A network that is in use takes its new
//! definition with its next ADD; what is attached stays as it is.

use std::sync::Arc;

use actix::{ActorFutureExt, Context, Handler, ResponseActFuture, WrapFuture};
use quantum_cni::store::net_d::{self, NetD};
use slog::{error, info};

use super::Manager;
use crate::board::FileProblem;
use crate::messages::manager::Reload;

impl Handler<Reload> for Manager {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Reload, _: &mut Context<Self>) -> Self::Result {
        let dir = self.folders.config_dir.clone();
        let reading = self.folders.read(move || net_d::load(&dir));
        Box::pin(reading.into_actor(self).map(|read, manager, _| match read {
            Ok(found) => manager.define(found),
            Err(e) => error!(manager.log, "reading config_dir"; "error" => %e),
        }))
    }
}

impl Manager {
    fn define(&mut self, found: NetD) {
        for problem in &found.problems {
            error!(self.log, "a network definition will not do";
                "file" => &problem.file, "error" => &problem.reason);
        }
        info!(self.log, "network definitions read";
            "networks" => found.networks.len(), "problems" => found.problems.len());
        let problems = found.problems.into_iter();
        let problems = problems.map(|p| FileProblem { file: p.file, reason: p.reason }).collect();
        let files = found.networks.iter().map(|(n, (file, _))| (n.clone(), file.clone())).collect();
        let networks = found.networks.into_iter();
        self.definitions = networks.map(|(n, (_, d))| (n, Arc::new(d))).collect();
        self.board.send_modify(|board| {
            board.problems = problems;
            board.defined = files;
            board.definitions = self.definitions.clone();
        });
    }
}
