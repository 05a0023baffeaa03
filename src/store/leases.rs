//! The leases of the reference plugin `host-local`, taken over once, so that a node can change over
//! with containers running. Its folder for one network, `<dataDir>/<network>`:
//!
//! | file                 | what is in it                                                        |
//! |----------------------|----------------------------------------------------------------------|
//! | `10.1.2.3`           | `<container>` CR LF `<ifname>`; of old releases the container alone  |
//! | `last_reserved_ip.0` | the address that range set 0 gave last                               |
//! | `lock`               | nothing                                                              |
//!
//! The folder is only read, and only if the store knows no address of the network.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use quantum_config::cni::{Definition, RangeSet};
use quantum_config::ids::{AttachmentKey, ContainerId, IfName, InvalidId, NetworkName};

use super::{Change, Store, StoreError, small_file};
use crate::ipam::{Known, KnownState, idle_max};

/// What a lease of an old release is for: it does not say, and this is what every runtime calls the
/// first interface.
const FIRST_INTERFACE: &str = "eth0";
/// How the files begin that say where a set has come to.
const LAST: &str = "last_reserved_ip.";

impl Store {
    /// Takes over what the network's `dataDir` holds, unless something is known of the network's
    /// addresses. Gives the leases, each with whom it is for.
    pub fn take_over(
        &mut self,
        network: &Definition,
    ) -> Result<Vec<(AttachmentKey, IpAddr)>, StoreError> {
        let Some(dir) = &network.data_dir else { return Ok(Vec::new()) };
        if !self.known(&network.name)?.is_empty() {
            return Ok(Vec::new());
        }
        let known =
            read(&Path::new(dir).join(network.name.as_str()), &network.name, network.sets())?;
        let set_of = |ip| network.sets().iter().position(|s| s.range_of(ip).is_some());
        let changes: Vec<Change> = known
            .iter()
            .map(|known| Change::TakeOver {
                network: network.name.clone(),
                set: set_of(known.address).unwrap_or(0),
                known: known.clone(),
            })
            .collect();
        self.commit(&changes)?;
        let held = known.into_iter().filter_map(|Known { address, state }| match state {
            KnownState::Held(key) => Some((key, address)),
            KnownState::Released(_) => None,
        });
        Ok(held.collect())
    }
}

/// The leases of a folder, then the addresses that are to rest until all others had their turn, the
/// first to be reused first. A folder that is not there holds nothing.
fn read(dir: &Path, network: &NetworkName, sets: &[RangeSet]) -> Result<Vec<Known>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StoreError::of_file("read the leases in", dir)(e)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(StoreError::of_file("read the leases in", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.parse::<IpAddr>().is_ok() || set_of(&name).is_some() {
            let bytes = small_file::read(&path);
            let bytes = bytes.map_err(StoreError::of_file("read the lease", &path))?;
            files.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    taken_over(&files, network, sets).map_err(|(file, why)| StoreError::Damaged {
        doing: "take over the lease".into(),
        path: dir.join(file),
        why: why.to_string(),
    })
}

/// The range set that a file tells the last address of.
fn set_of(file: &str) -> Option<usize> {
    file.strip_prefix(LAST)?.parse().ok()
}

/// What these files say, each with its name. The error names one.
pub(super) fn taken_over(
    files: &[(String, String)],
    network: &NetworkName,
    sets: &[RangeSet],
) -> Result<Vec<Known>, (String, InvalidId)> {
    let (mut known, mut last) = (Vec::new(), vec![None; sets.len()]);
    for (name, text) in files {
        if let Ok(address) = name.parse::<IpAddr>() {
            let key = owner(network, address, text).map_err(|e| (name.clone(), e))?;
            known.push(Known { address, state: KnownState::Held(key) });
        } else if let Some(place) = set_of(name).and_then(|set| last.get_mut(set)) {
            *place = text.trim().parse::<IpAddr>().ok();
        }
    }
    known.sort_by_key(|k| k.address);
    let held: HashSet<IpAddr> = known.iter().map(|k| k.address).collect();
    for (set, last) in sets.iter().zip(last) {
        let resting = last.map(|last| up_to(set, last)).unwrap_or_default();
        known.extend(
            resting
                .into_iter()
                .filter(|ip| !held.contains(ip))
                .map(|address| Known { address, state: KnownState::Released(0) }),
        );
    }
    Ok(known)
}

/// Whom a lease is for. A crash of the machine leaves empty files: such an address is held by a name
/// that nobody has, until GC finds that it is not valid.
fn owner(network: &NetworkName, address: IpAddr, text: &str) -> Result<AttachmentKey, InvalidId> {
    let mut lines = text.lines().map(str::trim);
    let (container, ifname) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let ifname = if ifname.is_empty() { FIRST_INTERFACE } else { ifname };
    let key = |container: &str, ifname: &str| -> Result<AttachmentKey, InvalidId> {
        Ok(AttachmentKey {
            network: network.clone(),
            container: ContainerId::new(container)?,
            ifname: IfName::new(ifname)?,
        })
    };
    let nobody = || format!("unreadable-{address}").replace(':', "-");
    key(container, ifname).or_else(|_| key(&nobody(), FIRST_INTERFACE))
}

/// The addresses of a set from its first to `last`, in the order they are handed out; at most as many
/// as an allocator remembers, those next to `last`.
fn up_to(set: &RangeSet, last: IpAddr) -> Vec<IpAddr> {
    if set.range_of(last).is_none() {
        return Vec::new();
    }
    let (mut found, most) = (Vec::new(), idle_max(set));
    for range in &set.0 {
        let end = if range.contains(last) { last } else { range.end };
        let from = before(end, most as u128).max(range.start);
        let mut ip = from;
        loop {
            if ip != range.gateway {
                found.push(ip);
            }
            if ip == end {
                break;
            }
            ip = after(ip);
        }
        if range.contains(last) {
            break;
        }
    }
    let excess = found.len().saturating_sub(most);
    found.split_off(excess)
}

fn before(ip: IpAddr, n: u128) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).saturating_sub(n as u32).into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).saturating_sub(n).into()),
    }
}

fn after(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).wrapping_add(1).into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).wrapping_add(1).into()),
    }
}

#[cfg(test)]
mod tests {
    use quantum_config::cni::Call;

    use super::*;

    /// A network with a `dataDir`, as a file of the operator's defines it.
    fn network(dir: &Path, ranges: &str) -> Definition {
        let text = format!(
            r#"{{"name":"n","ipam":{{"type":"host-local","ranges":{ranges},"dataDir":{dir:?}}}}}"#
        );
        let call = Call::parse(text.as_bytes()).expect("readable").of_operator();
        call.definition().expect("valid")
    }

    fn texts(ips: &[IpAddr]) -> Vec<String> {
        ips.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_before_the_last_one_rests_in_the_order_of_its_set() {
        let ranges =
            r#"[[{"subnet":"10.0.1.0/30"},{"subnet":"10.0.0.0/29"}],[{"subnet":"fd00::/64"}]]"#;
        let network = network(Path::new("/x"), ranges);
        let up_to = |set: usize, last: &str| {
            texts(&up_to(&network.sets()[set], last.parse().expect("an address")))
        };
        assert_eq!(up_to(0, "10.0.1.2"), ["10.0.1.2"]);
        assert_eq!(up_to(0, "10.0.0.3"), ["10.0.1.2", "10.0.0.2", "10.0.0.3"]);
        assert!(up_to(0, "192.0.2.1").is_empty(), "of a set that was another once");
        assert_eq!(up_to(1, "fd00::3"), ["fd00::2", "fd00::3"]);
        let far = up_to(1, "fd00::5:0:0:9");
        assert_eq!((far.len(), far[1023].as_str()), (1024, "fd00::5:0:0:9"));
    }

    #[test]
    fn a_folder_is_taken_over_once_and_not_changed() {
        let dir = tempfile::tempdir().expect("a directory");
        let network = network(dir.path(), r#"[[{"subnet":"10.0.0.0/29"}]]"#);
        let (mut store, _) =
            super::super::samples::open(&dir.path().join("state"), "boot").expect("a store");
        assert_eq!(store.take_over(&network).expect("no folder"), []);
        let leases = dir.path().join("n");
        fs::create_dir(&leases).expect("a folder");
        let fifo = leases.join("10.0.0.6");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let error = store.take_over(&network).expect_err("nobody writes into it").to_string();
        assert!(error.contains("10.0.0.6") && error.contains("regular file"), "{error}");
        fs::remove_file(fifo).expect("removed");
        for (file, text) in
            [("10.0.0.3", "old\r\neth0"), ("last_reserved_ip.0", "10.0.0.4"), ("lock", "")]
        {
            fs::write(leases.join(file), text).expect("a lease");
        }
        let key: AttachmentKey = "n/old/eth0".parse().expect("a key");
        let address: IpAddr = "10.0.0.3".parse().expect("an address");
        assert_eq!(store.take_over(&network).expect("taken over"), [(key.clone(), address)]);
        assert_eq!(store.held_without_record().expect("readable"), [(key.clone(), address)]);
        let resting: Vec<IpAddr> = store
            .known(&network.name)
            .expect("readable")
            .into_iter()
            .filter(|k| k.state == KnownState::Released(0))
            .map(|k| k.address)
            .collect();
        assert_eq!(texts(&resting), ["10.0.0.2", "10.0.0.4"]);
        store.commit(&[Change::Forget { key, released_at: 7 }]).expect("forgotten");
        assert_eq!(store.held_without_record().expect("readable"), []);
        assert_eq!(store.take_over(&network).expect("a second time"), [], "only once");
        assert!(leases.join("10.0.0.3").exists(), "the folder is the other plugin's");
    }
}
