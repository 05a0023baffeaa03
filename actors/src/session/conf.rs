//! Reading the configuration of a call. A long one takes a tenth of a second and tens of times its size, so
//! it is read beside the thread that serves all others, and few at a time.

use quantum_config::cni::{self, CniError, Command, Peek, Role};
use quantum_config::wire::Call;

use super::House;
use super::memory::Room;
use super::shares::Limits;
use crate::messages::dropped;

/// Longer than any that a runtime sends but with thousands of entries, in bytes.
const LONG: usize = 64 * 1024;
/// How many long ones are read at a time.
pub(super) const READERS: Limits = Limits { root: 2, each: 1, others: 2 };

/// What was read.
pub(super) struct Conf {
    /// What can be said of it whether it can be read or not.
    pub(super) seen: Peek,
    /// All of it, or why not; code 4 where the verb is none.
    pub(super) all: Result<cni::Call, CniError>,
}

/// Reads the configuration of a call of this user's, and takes it out of the call. What is left of it is
/// little, so its room is free from then on.
pub(super) async fn read(house: &House, uid: u32, call: &mut Call, room: Room) -> Conf {
    let stdin = std::mem::take(&mut call.stdin);
    let (verb, role) = (Command::parse(&call.env.command), Role::of(&call.called_as));
    if stdin.len() <= LONG {
        let conf = of(&stdin, verb, role);
        drop((stdin, room));
        return conf;
    }
    let share = house.readers.0.take(uid, 1).await;
    let read = tokio::task::spawn_blocking(move || {
        let conf = of(&stdin, verb, role);
        drop((stdin, share));
        conf
    });
    let conf = read.await;
    drop(room);
    conf.unwrap_or_else(|_| Conf { seen: Peek::default(), all: Err(dropped()) })
}

fn of(stdin: &[u8], verb: Result<Command, CniError>, role: Role) -> Conf {
    let all = verb.and_then(|verb| {
        let conf = match verb {
            Command::Del => cni::Call::parse_for_del(stdin)?,
            _ => cni::Call::parse(stdin)?,
        };
        match role {
            Role::Meta(_) => Ok(conf),
            Role::Pair => Ok(conf.without_document().as_pair()),
            // A DEL needs the key only.
            Role::Addresses if verb != Command::Del => Ok(conf.as_lender()?.without_document()),
            _ => Ok(conf.without_document()),
        }
    });
    Conf { seen: cni::peek(stdin), all }
}
