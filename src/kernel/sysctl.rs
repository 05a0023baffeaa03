//! The settings below `/proc/sys/net` that we write: our own, and those that a network names.
//!
//! `/proc/sys/net` shows the network namespace of the thread that opens a file in it, so a setting
//! of a container is written during a visit (`netns::inside`).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, fmt, fs, io};

use quantum_config::cni::{Family, Sysctl};
use quantum_config::ids::IfName;
use quantum_config::sysctl::SysctlName;

/// Names another place where the machine's `/proc/sys/net` is mounted. In a container `/proc/sys` can only be
/// read, unless it is privileged; what is mounted from the host can be written to.
const ELSEWHERE: &str = "QUANTUM_PROC_SYS_NET";

/// Where the settings are. Wherever it is mounted, it shows the network namespace of the thread.
fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    let elsewhere = || env::var_os(ELSEWHERE).filter(|path| !path.is_empty());
    ROOT.get_or_init(|| elsewhere().map_or_else(|| "/proc/sys/net".into(), PathBuf::from))
}

/// A setting that we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting<'a> {
    /// IPv4 packets are forwarded between links.
    Forward4,
    /// IPv6 packets are forwarded between links.
    Forward6,
    /// IPv4 packets that come in by the link are forwarded.
    LinkForwards4(&'a IfName),
    /// The same of IPv6.
    LinkForwards6(&'a IfName),
    /// Whoever says that there is a shorter way is believed, on links that believe it.
    AcceptRedirects4,
    /// What is sent from and to 127.0.0.0/8 may go over the link.
    RouteLocalnet(&'a IfName),
    /// The link has no IPv6 at all.
    DisableIpv6(&'a IfName),
    /// The same for `lo`.
    LoopbackDisableIpv6,
    /// The link takes addresses and routes from router advertisements.
    AcceptRa(&'a IfName),
    /// The link keeps its IPv6 addresses when it goes down.
    KeepAddrOnDown(&'a IfName),
    /// The link announces its IPv6 addresses when it comes up or its hardware address is set.
    NdiscNotify(&'a IfName),
    /// The link looks for others with its IPv6 addresses before it uses them.
    AcceptDad(&'a IfName),
    /// It tells its own question, looped back, from that of another (RFC 7527).
    EnhancedDad(&'a IfName),
    /// The host answers ARP on the link for whoever is reached over the same link.
    ProxyArpOnLink(&'a IfName),
    /// The host answers neighbour discovery on the link for whom it has a proxy entry.
    ProxyNdp(&'a IfName),
    /// It waits before it answers ARP for another.
    ProxyDelay4(&'a IfName),
    /// The same for neighbour discovery.
    ProxyDelay6(&'a IfName),
}

impl Setting<'_> {
    /// Its file.
    pub fn path(&self) -> PathBuf {
        // A name cannot hold a slash, and as a path (unlike in `sysctl a.b.c`) dots in it are safe.
        let below = |folder: &str, link: &IfName, key: &str| {
            [root(), Path::new(folder), Path::new(link.as_str()), Path::new(key)].iter().collect()
        };
        let of4 = |link: &IfName, key| below("ipv4/conf", link, key);
        let of6 = |link: &IfName, key| below("ipv6/conf", link, key);
        match self {
            Self::ProxyArpOnLink(link) => of4(link, "proxy_arp_pvlan"),
            Self::ProxyNdp(link) => of6(link, "proxy_ndp"),
            Self::ProxyDelay4(link) => below("ipv4/neigh", link, "proxy_delay"),
            Self::ProxyDelay6(link) => below("ipv6/neigh", link, "proxy_delay"),
            Self::Forward4 => root().join("ipv4/ip_forward"),
            Self::Forward6 => root().join("ipv6/conf/all/forwarding"),
            Self::LinkForwards4(link) => of4(link, "forwarding"),
            Self::LinkForwards6(link) => of6(link, "forwarding"),
            Self::AcceptRedirects4 => root().join("ipv4/conf/all/accept_redirects"),
            Self::RouteLocalnet(link) => of4(link, "route_localnet"),
            Self::DisableIpv6(link) => of6(link, "disable_ipv6"),
            Self::LoopbackDisableIpv6 => root().join("ipv6/conf/lo/disable_ipv6"),
            Self::AcceptRa(link) => of6(link, "accept_ra"),
            Self::KeepAddrOnDown(link) => of6(link, "keep_addr_on_down"),
            Self::NdiscNotify(link) => of6(link, "ndisc_notify"),
            Self::AcceptDad(link) => of6(link, "accept_dad"),
            Self::EnhancedDad(link) => of6(link, "enhanced_dad"),
        }
    }

    /// Its value in the network namespace of this thread.
    pub fn read(&self) -> io::Result<String> {
        fs::read_to_string(self.path()).map(|text| text.trim_end().to_owned())
    }

    /// Writes a value.
    pub fn write(&self, value: bool) -> io::Result<()> {
        fs::write(self.path(), if value { "1" } else { "0" })
    }

    /// Writes a value of one that has more than two.
    pub fn write_number(&self, value: u8) -> io::Result<()> {
        fs::write(self.path(), value.to_string())
    }

    /// Writes a value unless it is in force: writing has effects of its own (turning forwarding on
    /// again resets other settings) and is refused where `/proc/sys` is mounted read-only.
    pub fn ensure(&self, value: bool) -> io::Result<()> {
        if self.read()? == if value { "1" } else { "0" } { Ok(()) } else { self.write(value) }
    }
}

impl fmt::Display for Setting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

/// Those that have settings of a family: links, `all` and `default`.
pub fn names(family: Family) -> Vec<IfName> {
    let folder = match family {
        Family::V4 => root().join("ipv4/conf"),
        Family::V6 => root().join("ipv6/conf"),
    };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let name = |entry: fs::DirEntry| IfName::new(entry.file_name().into_string().ok()?).ok();
    entries.flatten().filter_map(name).collect()
}

/// The file of a setting that a network names; its name leads nowhere else.
pub fn file(name: &SysctlName) -> PathBuf {
    let below = name.path().strip_prefix("net/");
    below.map_or_else(|| Path::new("/proc/sys").join(name.path()), |below| root().join(below))
}

/// The value of a setting in the network namespace of this thread.
pub fn read(name: &SysctlName) -> io::Result<String> {
    fs::read_to_string(file(name))
}

/// Gives a setting its value unless it has it. One that can only be written is written.
pub fn ensure(sysctl: &Sysctl) -> io::Result<()> {
    match read(&sysctl.name) {
        Ok(shown) if sysctl.is(&shown) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        _ => fs::write(file(&sysctl.name), &sysctl.value),
    }
}

/// The kernel has IPv6 (it may still be disabled on a link).
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::in_private_netns;

    #[test]
    fn a_setting_is_that_of_the_threads_own_namespace() {
        in_private_netns(|| {
            let lo = IfName::new("lo").unwrap();
            let setting = Setting::NdiscNotify(&lo);
            assert_eq!(setting.read().unwrap(), "0");
            setting.ensure(true).unwrap();
            assert_eq!(setting.read().unwrap(), "1");
            in_private_netns(|| assert_eq!(setting.read().unwrap(), "0"));
        });
    }

    #[test]
    fn a_named_setting_is_written_and_read_by_its_name() {
        in_private_netns(|| {
            let sysctl = |name: &str, value: &str| Sysctl {
                name: SysctlName::new(name).unwrap(),
                value: value.to_owned(),
            };
            let range = sysctl("net.ipv4.ip_local_port_range", "40000 41000");
            ensure(&range).unwrap();
            assert!(range.is(&read(&range.name).unwrap()));
            ensure(&sysctl("net.ipv4.route.flush", "1")).unwrap(); // cannot be read
            let gone = ensure(&sysctl("net.ipv4.conf.gone/0.rp_filter", "1")).unwrap_err();
            assert_eq!(gone.kind(), io::ErrorKind::NotFound);
            let bad = ensure(&sysctl("net.ipv4.ip_forward", "perhaps")).unwrap_err();
            assert_eq!(bad.kind(), io::ErrorKind::InvalidInput);
        });
    }

    #[test]
    fn a_missing_link_is_an_error() {
        in_private_netns(|| {
            let gone = IfName::new("gone.0").unwrap();
            let error = Setting::AcceptRa(&gone).ensure(false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        });
    }
}
