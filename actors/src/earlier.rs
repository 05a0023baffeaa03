//! Attachments that were made in another network namespace than the daemon starts in: whether they end with it,
//! as by a reboot, or may live there.

use quantum_cni::attach::{Earlier, HostNote, Record, Witnesses, earlier};
use quantum_cni::kernel::namespaces;
use quantum_cni::kernel::netns::Netns;
use quantum_cni::kernel::route::Host;
use quantum_cni::store::{Change, HostFile, Opening, Store};
use quantum_config::settings::CniServerConfig;
use slog::{Logger, info, warn};

use crate::lifecycle::Failure;

/// Ends those that cannot live. Gives why others are not to be had, in words.
pub(crate) fn settle(
    store: &mut Store,
    opening: &Opening,
    settings: &CniServerConfig,
    boot_id: &str,
    log: &Logger,
) -> Result<Option<String>, Failure> {
    let netns = Netns::current()?.id();
    let here = HostNote { boot: boot_id.to_owned(), netns, cookie: namespaces::cookie() };
    let (noted, marked) =
        (HostFile::new(&settings.state_dir), HostFile::new(&settings.runtime_dir()));
    let mut keys: Vec<_> = store.held_without_record()?.into_iter().map(|(key, _)| key).collect();
    let records: Vec<Record> = store.all()?.into_iter().map(|stored| stored.record).collect();
    keys.extend(records.iter().map(|record| record.key.clone()));
    let mut found = Ok(Earlier::Here);
    // The node's restart took with it what was noted of the newest store, too.
    if matches!(opening, Opening::Resumed | Opening::Older { .. }) && !keys.is_empty() {
        let made_in: Vec<_> = records.iter().filter_map(|record| record.host_netns).collect();
        let (noted, marked) = (noted.read(), marked.read());
        let links = Host::open().map(|mut host| host.links());
        let known = Witnesses {
            here: &here,
            noted: noted.as_ref(),
            marked: marked.as_ref(),
            made_in: &made_in,
            has_links: match links {
                Ok(Ok(links)) => records.iter().any(|r| links.carry(&r.host, r.index)),
                // What cannot be looked at may be there.
                Ok(Err(_)) | Err(_) => true,
            },
        };
        found = earlier(&known, namespaces::is_seen);
    }
    let why = match found {
        Ok(Earlier::Here) => None,
        Ok(Earlier::Ended) => {
            let number = keys.len();
            let gone = keys.into_iter().map(|key| Change::Forget { key, released_at: 0 });
            store.commit(&gone.collect::<Vec<_>>())?;
            info!(log, "the network namespace that attachments were made in is gone, and they with it: attachments dropped";
                "attachments" => number);
            None
        }
        Ok(Earlier::Marked) => {
            Some(format!("{} says that it was not restarted", marked.path().display()))
        }
        Ok(Earlier::Seen) => Some("that one is there".to_owned()),
        Err(error) => Some(format!("what other processes have cannot be looked at: {error}")),
        Ok(Earlier::Unknown) => {
            // The next one knows where they were made.
            let made_in = records.iter().find_map(|record| record.host_netns).unwrap_or(netns);
            let then = HostNote { netns: made_in, cookie: None, ..here.clone() };
            marked.write(&then)?;
            noted.write(&then)?;
            Some("no daemon noted where it worked".to_owned())
        }
    };
    let Some(why) = why else {
        // In this order: a note without a mark says that the mark was lost.
        marked.write(&here)?;
        noted.write(&here)?;
        return Ok(None);
    };
    let why = format!(
        "attachments were made in another network namespace of this machine, and may live there ({why}): start the daemon in that one; if that one is gone for good, remove {} and start the daemon again",
        marked.path().display()
    );
    warn!(log, "attachments of another network namespace are kept"; "error" => &why);
    Ok(Some(why))
}
