//! How fast a container may receive and send: the keys of the reference plugin `bandwidth`, from the
//! network's configuration or from the capability of that name.
//!
//! Rates are bits a second, bursts are bits; *ingress* is what the container receives.

use serde::{Deserialize, Serialize};

use super::{Call, CniError, Definition, NetConf, netconf};

/// A burst has to be told to the kernel in bytes, of which a number of 32 bits holds no more.
const BURST_END: u64 = 8 << 32;
/// The least rate: a byte a second.
const RATE_MIN: u64 = 8;
/// What runtimes send for a burst nobody named (containerd; CRI-O sends more): it is there because
/// the capability wants one, and a container with half a gigabyte on credit would not be slowed down
/// for minutes.
const UNNAMED_BURST: u64 = 0xffff_ffff;
/// A burst nobody named is what passes in this time.
const UNNAMED_BURST_MS: u64 = 100;

/// What a container's traffic is held to; nothing in a direction that nobody limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shaping {
    /// What the container receives.
    pub ingress: Option<Rate>,
    /// What it sends.
    pub egress: Option<Rate>,
}

/// A rate, and how much may pass at once after a pause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    /// Bits a second.
    pub rate: u64,
    /// Bits.
    pub burst: u64,
}

impl Shaping {
    /// Nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What the network's configuration says; none if it names none of the keys, in which case a
    /// runtime may.
    pub(super) fn of_network(conf: &NetConf) -> Result<Option<Self>, CniError> {
        let said = RawShaping {
            ingress_rate: conf.ingress_rate,
            ingress_burst: conf.ingress_burst,
            egress_rate: conf.egress_rate,
            egress_burst: conf.egress_burst,
        };
        if said == RawShaping::default() { Ok(None) } else { said.check("").map(Some) }
    }
}

/// The capability `bandwidth` as it arrives.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawShaping {
    ingress_rate: Option<u64>,
    ingress_burst: Option<u64>,
    egress_rate: Option<u64>,
    egress_burst: Option<u64>,
}

impl RawShaping {
    /// `place` is what stands before the keys' names in an error.
    fn check(&self, place: &str) -> Result<Shaping, CniError> {
        let direction = |name: &str, rate: Option<u64>, burst: Option<u64>| {
            let (rate, burst) = (rate.unwrap_or(0), burst.unwrap_or(0));
            let invalid = |what: String| Err(netconf::invalid(what));
            match (rate, burst) {
                (0, 0) => Ok(None),
                (0, _) => invalid(format!(
                    "{place}{name}Burst={burst} has no {place}{name}Rate; set both, or neither"
                )),
                (_, 0) => invalid(format!(
                    "{place}{name}Rate={rate} has no {place}{name}Burst; set both, or neither"
                )),
                (..RATE_MIN, _) => invalid(format!(
                    "{place}{name}Rate={rate} is less than {RATE_MIN} bits a second"
                )),
                (_, BURST_END..) => {
                    invalid(format!("{place}{name}Burst={burst} is not less than {BURST_END} bits"))
                }
                _ => Ok(Some(Rate { rate, burst })),
            }
        };
        Ok(Shaping {
            ingress: direction("ingress", self.ingress_rate, self.ingress_burst)?,
            egress: direction("egress", self.egress_rate, self.egress_burst)?,
        })
    }
}

impl Call {
    /// What this call's container is held to: what `network` says where it says anything, else what
    /// the runtime asks for.
    pub fn shaping(&self, network: &Definition) -> Result<Shaping, CniError> {
        if let Some(said) = network.shaping {
            return Ok(said);
        }
        self.asked_shaping()
    }

    fn asked_shaping(&self) -> Result<Shaping, CniError> {
        let asked = self.conf.runtime_config.bandwidth.check("runtimeConfig.bandwidth.")?;
        Ok(Shaping { ingress: asked.ingress.map(named), egress: asked.egress.map(named) })
    }

    /// The same for the plugin `bandwidth`, whose own configuration says it, or the runtime.
    pub(super) fn limits(&self) -> Result<Shaping, CniError> {
        match Shaping::of_network(&self.conf)? {
            Some(said) => Ok(said),
            None => self.asked_shaping(),
        }
    }
}

/// The same rate with a burst that somebody means.
fn named(asked: Rate) -> Rate {
    if asked.burst < UNNAMED_BURST {
        return asked;
    }
    let burst = (asked.rate.saturating_mul(UNNAMED_BURST_MS) / 1000).clamp(1, UNNAMED_BURST);
    Rate { burst, ..asked }
}

#[cfg(test)]
mod tests {
    use super::super::Code;
    use super::*;

    fn shaping(keys: &str) -> Result<Shaping, CniError> {
        let text = format!(r#"{{"name":"n","bridge":"b"{keys}}}"#);
        let call = Call::parse(text.as_bytes())?;
        call.shaping(&call.definition()?)
    }

    fn asked(bandwidth: &str) -> Result<Shaping, CniError> {
        shaping(&format!(r#","runtimeConfig":{{"bandwidth":{bandwidth}}}"#))
    }

    const BOTH: Shaping = Shaping {
        ingress: Some(Rate { rate: 8_000_000, burst: 80_000 }),
        egress: Some(Rate { rate: 16_000_000, burst: 160_000 }),
    };

    #[test]
    fn network_and_runtime_say_it_in_the_same_words() {
        let keys = r#""ingressRate":8000000,"ingressBurst":80000,"egressRate":16000000,"egressBurst":160000"#;
        assert_eq!(shaping(&format!(",{keys}")).expect("valid"), BOTH);
        assert_eq!(asked(&format!("{{{keys}}}")).expect("valid"), BOTH);
        let upper = keys.replace("ingress", "INGRESS").replace("Rate", "rATE");
        assert_eq!(asked(&format!("{{{upper}}}")).expect("as Go reads it"), BOTH);
        for nothing in ["", r#","ingressRate":null"#, r#","runtimeConfig":{"bandwidth":null}"#] {
            assert!(shaping(nothing).expect("valid").is_none(), "{nothing}");
        }
        let one = asked(r#"{"egressRate":16000000,"egressBurst":160000}"#).expect("valid");
        assert_eq!(one, Shaping { ingress: None, ..BOTH });
    }

    #[test]
    fn what_the_network_says_wins_as_a_whole() {
        let runtime = r#","runtimeConfig":{"bandwidth":{"egressRate":9,"egressBurst":9}}"#;
        let said = r#","ingressRate":8000000,"ingressBurst":80000"#;
        let meant = shaping(&format!("{said}{runtime}")).expect("valid");
        assert_eq!(meant, Shaping { egress: None, ..BOTH });
        let none = shaping(&format!(r#","ingressRate":0{runtime}"#)).expect("valid");
        assert!(none.is_none(), "a zero is said, too");
    }

    #[test]
    fn half_a_limit_and_an_absurd_one_are_code_7() {
        for (keys, named) in [
            (r#""ingressRate":8000"#, "ingressRate=8000"),
            (r#""egressBurst":8000"#, "egressBurst=8000"),
            (r#""egressRate":7,"egressBurst":8000"#, "egressRate=7"),
            (r#""ingressRate":8000,"ingressBurst":34359738368"#, "ingressBurst=34359738368"),
        ] {
            for (error, place) in [
                (shaping(&format!(",{keys}")).expect_err(keys), ""),
                (asked(&format!("{{{keys}}}")).expect_err(keys), "runtimeConfig.bandwidth."),
            ] {
                assert_eq!(error.code, Code::InvalidNetworkConfig, "{keys}");
                assert!(error.msg.contains(&format!("{place}{named}")), "{error}");
            }
        }
        let error = shaping(r#","ingressRate":-1"#).expect_err("no rate");
        assert_eq!(error.code, Code::Decode);
        let most = r#","ingressRate":8000,"ingressBurst":34359738367"#;
        assert_eq!(shaping(most).expect("valid").ingress.map(|r| r.burst), Some(BURST_END - 1));
    }

    #[test]
    fn a_burst_that_stands_for_none_is_a_tenth_of_a_second() {
        let burst = |rate: u64, burst: u64| {
            let text = format!(r#"{{"ingressRate":{rate},"ingressBurst":{burst}}}"#);
            asked(&text).expect("valid").ingress.expect("a limit").burst
        };
        assert_eq!(burst(10_000_000, 4_294_967_295), 1_000_000, "containerd's");
        assert_eq!(burst(10_000_000, 34_359_738_359), 1_000_000, "CRI-O's");
        assert_eq!(burst(10_000_000, 4_294_967_294), 4_294_967_294, "somebody's");
        assert_eq!(burst(8, 4_294_967_295), 1);
        assert_eq!(burst(u64::MAX, 4_294_967_295), 4_294_967_295);
    }
}
