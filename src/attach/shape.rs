//! How an attachment's limits become what the kernel has: token buckets.
//!
//! What the container receives leaves the host by the port, so a bucket there is enough. What it sends
//! arrives at the port, where the kernel cannot queue; it is led through a link of its own, the
//! *shaper*, and waits there.

use quantum_config::cni::{Rate, Shaping};
use quantum_config::ids::{IfName, InvalidId, LinkIndex};

use super::naming;

/// How long a packet may wait for its turn, in milliseconds: that of the reference plugin. Longer
/// queues would only add to the delay.
const LATENCY_MS: u64 = 25;
/// What a frame has beyond the MTU: an Ethernet header with a VLAN tag.
const FRAME_HEADER: u32 = 18;
/// What a link has when nobody asks for another MTU (`ETH_DATA_LEN`).
const ETHERNET_MTU: u32 = 1500;

/// A token bucket in the kernel's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may pass at once.
    pub burst: u32,
    /// Bytes that may wait; what is beyond is dropped.
    pub limit: u32,
}

impl Bucket {
    /// The bucket for a rate, on a link of that MTU.
    pub fn new(of: Rate, mtu: Option<u32>) -> Self {
        let rate = of.rate / 8;
        // A frame larger than the bucket would never pass.
        let frame = mtu.unwrap_or(ETHERNET_MTU).saturating_add(FRAME_HEADER);
        let burst = u32::try_from(of.burst / 8).unwrap_or(u32::MAX).max(frame);
        let waiting = rate.saturating_mul(LATENCY_MS) / 1000;
        let limit = u32::try_from(waiting.saturating_add(burst.into())).unwrap_or(u32::MAX);
        Self { rate, burst, limit }
    }
}

/// What an attachment is held to, in the kernel's terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShapePlan {
    /// Of the port.
    pub ingress: Option<Bucket>,
    /// Of the shaper.
    pub egress: Option<Shaper>,
}

/// The link through which goes what a container sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shaper {
    /// Its name.
    pub name: IfName,
    /// Its index.
    pub index: LinkIndex,
    /// Its bucket.
    pub bucket: Bucket,
}

impl ShapePlan {
    /// The plan for the attachment whose host end has this name and this index.
    pub fn new(
        shaping: &Shaping,
        host: &IfName,
        index: LinkIndex,
        mtu: Option<u32>,
    ) -> Result<Self, InvalidId> {
        let shaper = |rate| {
            let (name, index) = naming::shaper(host, index)?;
            Ok(Shaper { name, index, bucket: Bucket::new(rate, mtu) })
        };
        Ok(Self {
            ingress: shaping.ingress.map(|rate| Bucket::new(rate, mtu)),
            egress: shaping.egress.map(shaper).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: u64, burst: u64, mtu: Option<u32>) -> Bucket {
        Bucket::new(Rate { rate, burst }, mtu)
    }

    #[test]
    fn bits_become_bytes_and_the_queue_is_25_milliseconds_long() {
        let plain = bucket(8_000_000, 800_000, None);
        assert_eq!(plain, Bucket { rate: 1_000_000, burst: 100_000, limit: 125_000 });
    }

    #[test]
    fn every_frame_fits_into_the_bucket() {
        assert_eq!(bucket(8000, 8, None).burst, 1518);
        assert_eq!(bucket(8000, 8, Some(9000)).burst, 9018);
        assert!(bucket(8000, 8, None).limit >= 1518);
    }

    #[test]
    fn the_largest_numbers_do_not_wrap() {
        let most = bucket(u64::MAX, (8 << 32) - 1, Some(65535));
        assert_eq!((most.rate, most.burst, most.limit), (u64::MAX / 8, u32::MAX, u32::MAX));
    }

    #[test]
    fn only_what_is_sent_needs_a_link_of_its_own() {
        let host = IfName::new("qc8qqj4fx1yg5fd").expect("name");
        let rate = Some(Rate { rate: 8_000_000, burst: 800_000 });
        let plan = |ingress, egress| {
            ShapePlan::new(&Shaping { ingress, egress }, &host, LinkIndex(7), None).expect("plan")
        };
        assert_eq!(plan(None, None), ShapePlan::default());
        assert_eq!(plan(rate, None).egress, None);
        let shaper = plan(None, rate).egress.expect("a shaper");
        assert_eq!(shaper.name.as_str(), "qs8qqj4fx1yg5fd");
        assert_ne!(shaper.index, LinkIndex(7));
    }
}
