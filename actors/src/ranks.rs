//! The ranks of the actors, as data. A request goes only from a lower rank to a higher one, so no
//! two actors can wait for each other; downwards there are replies and events, which nobody waits
//! for. `tests/tidy.rs` compares this table with what each actor's folder imports, and
//! docs/actors.md is written from it.

/// One kind of actor.
#[derive(Debug)]
pub(crate) struct Rank {
    /// Its folder below `actors/src/` and its file below `messages/`.
    pub(crate) actor: &'static str,
    /// Its rank.
    pub(crate) rank: u8,
    /// Whom it asks.
    pub(crate) asks: &'static [&'static str],
    /// To whom it tells events.
    pub(crate) tells: &'static [&'static str],
}

/// Every kind of actor. Metrics has no rank: it asks everybody how he is, and waits for nobody.
pub(crate) const RANKS: &[Rank] = &[
    Rank {
        actor: "session",
        rank: 0,
        asks: &["manager", "network", "policy", "cache", "driver"],
        tells: &[],
    },
    Rank { actor: "docker", rank: 0, asks: &["manager", "network", "cache", "driver"], tells: &[] },
    Rank { actor: "manager", rank: 1, asks: &["network", "cache", "driver"], tells: &[] },
    Rank {
        actor: "network",
        rank: 2,
        asks: &["pool", "cache", "publisher", "policy", "driver"],
        tells: &["manager"],
    },
    Rank { actor: "pool", rank: 3, asks: &[], tells: &[] },
    Rank { actor: "cache", rank: 3, asks: &[], tells: &[] },
    Rank { actor: "publisher", rank: 3, asks: &[], tells: &[] },
    Rank { actor: "policy", rank: 3, asks: &["driver"], tells: &[] },
    Rank { actor: "driver", rank: 4, asks: &[], tells: &["manager", "policy"] },
];

/// The graph as text, one edge a line: what `quantum-cnid --graph` prints.
pub(crate) fn graph() -> String {
    let mut text = String::new();
    for rank in RANKS {
        let (n, actor) = (rank.rank, rank.actor);
        text += &format!("rank {n}  {actor}\n");
        text.extend(rank.asks.iter().map(|to| format!("        {actor} -> {to}\n")));
        text.extend(rank.tells.iter().map(|to| format!("        {actor} ~> {to}   (event)\n")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank_of(actor: &str) -> u8 {
        RANKS.iter().find(|r| r.actor == actor).map(|r| r.rank).expect(actor)
    }

    #[test]
    fn requests_go_up_and_events_go_down() {
        for rank in RANKS {
            assert!(rank.asks.iter().all(|to| rank_of(to) > rank.rank), "{}", rank.actor);
            assert!(rank.tells.iter().all(|to| rank_of(to) < rank.rank), "{}", rank.actor);
        }
        assert!(graph().contains("network -> pool"));
    }
}
