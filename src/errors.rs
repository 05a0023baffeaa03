//! The one place where our errors become CNI errors. Each function takes a closed list, so a new
//! kind of failure does not compile before it has a code here.

use quantum_config::cni::{CniError, Code};
use quantum_config::ids::AttachmentKey;

use crate::attach::{AmendError, BridgeFull};
use crate::ipam::LeaseError;
use crate::kernel::KernelError;
use crate::kernel::conntrack::ConntrackError;
use crate::kernel::fault::Fault;
use crate::kernel::lane::LaneError;
use crate::kernel::nft::NftError;
use crate::kernel::route::bridge::BridgeError;
use crate::kernel::route::{Cause, StepError};
use crate::publish::PortError;
use crate::store::StoreError;

/// No address.
pub fn lease(error: &LeaseError) -> CniError {
    let code = match error {
        LeaseError::Exhausted { subnets, .. } => {
            // The module document's own words; operators search for them.
            return CniError::new(Code::InvalidNetworkConfig, "Failed to allocate IP address")
                .with_details(format!("No IP addresses available in pool {subnets}"));
        }
        LeaseError::Held { .. } => Code::Exists,
        LeaseError::OutOfRange { .. }
        | LeaseError::Gateway { .. }
        | LeaseError::Reserved { .. }
        | LeaseError::Taken { .. }
        | LeaseError::InUse { .. }
        | LeaseError::GatewayTaken { .. }
        | LeaseError::SameSet { .. } => Code::InvalidNetworkConfig,
    };
    CniError::new(code, "Failed to allocate IP address").with_details(error.to_string())
}

/// An attachment that cannot be what a later plugin of the chain asks for.
pub fn amend(error: &AmendError) -> CniError {
    let code = match error {
        AmendError::Limited | AmendError::Open => Code::InvalidNetworkConfig,
        AmendError::Name(_) => Code::Internal,
    };
    CniError::new(code, "cannot change the attachment").with_details(error.to_string())
}

/// A later plugin of the chain is ours, and what attached the container is not.
pub fn not_ours(key: &AttachmentKey) -> CniError {
    CniError::new(Code::UnknownContainer, format!("attachment {key} is not known"))
        .with_details(
            "quantum-cni in the place of portmap, bandwidth or tuning changes what quantum-cni attached; beside another plugin that attaches, install the reference plugins",
        )
}

/// No port of the host.
pub fn port(error: &PortError) -> CniError {
    let code = match error {
        PortError::Published { .. } | PortError::Listening { .. } => Code::Exists,
    };
    CniError::new(code, "cannot publish a port").with_details(error.to_string())
}

/// The kernel refused, or could not be asked.
pub fn kernel(error: KernelError) -> CniError {
    match error {
        KernelError::Step(error) => step(&error),
        KernelError::Bridge(error) => bridge(&error),
        KernelError::Nft(error) => nft(&error),
        KernelError::Conntrack(error) => conntrack(&error),
        KernelError::Netns(error) => {
            CniError::new(Code::InvalidNetns, "cannot use the container's network namespace")
                .with_details(error.to_string())
        }
        KernelError::Lane(error) => lane(&error),
        KernelError::Fault(error) => fault(error),
    }
}

fn step(error: &StepError) -> CniError {
    let code = match error.cause {
        Some(Cause::ContainerNameTaken | Cause::HostNameTaken) => Code::Exists,
        Some(Cause::BridgeMissing | Cause::BridgeFull | Cause::IndexTaken) => Code::TryAgainLater,
        None => Code::Kernel,
    };
    CniError::new(code, "cannot configure the network of the container")
        .with_details(error.to_string())
}

/// No port for the container: as when the kernel says so ([`Cause::BridgeFull`]), and before anything
/// was made.
pub fn full(error: &BridgeFull) -> CniError {
    CniError::new(Code::TryAgainLater, "cannot configure the network of the container")
        .with_details(error.to_string())
}

fn bridge(error: &BridgeError) -> CniError {
    let code = match error {
        BridgeError::NotABridge { .. }
        | BridgeError::NameTaken { .. }
        | BridgeError::OtherAddress { .. }
        | BridgeError::NotAGateway { .. }
        | BridgeError::Overlap(_)
        | BridgeError::SameAddresses(_) => Code::InvalidNetworkConfig,
        BridgeError::NoVlanFiltering { .. } | BridgeError::NoWayToRules(_) => {
            Code::UnsupportedField
        }
        BridgeError::Vanished { .. } | BridgeError::Socket(_) => Code::TryAgainLater,
        BridgeError::Kernel { .. } | BridgeError::Setting { .. } => Code::Kernel,
    };
    CniError::new(code, "cannot prepare the bridge of the network").with_details(error.to_string())
}

fn nft(error: &NftError) -> CniError {
    let code = match error {
        NftError::NoBridgeFamily { .. } => Code::UnsupportedField,
        NftError::Hung(_) => Code::TryAgainLater,
        _ => Code::Kernel,
    };
    CniError::new(code, "cannot change the nftables rules").with_details(error.to_string())
}

fn conntrack(error: &ConntrackError) -> CniError {
    let code = match error {
        ConntrackError::Fault(fault) => return self::fault(*fault),
        ConntrackError::Torn { .. } | ConntrackError::NoAnswer { .. } => Code::TryAgainLater,
        ConntrackError::Socket { .. }
        | ConntrackError::Refused { .. }
        | ConntrackError::Decode { .. } => Code::Kernel,
    };
    CniError::new(code, "cannot remove the connections of the container")
        .with_details(error.to_string())
}

fn lane(error: &LaneError) -> CniError {
    CniError::new(Code::TryAgainLater, "a part of the daemon is not working")
        .with_details(error.to_string())
}

/// What must survive the daemon could not be written or read.
pub fn store(error: StoreError) -> CniError {
    let code = match &error {
        StoreError::Fault(fault) => return self::fault(*fault),
        StoreError::DiskFull { .. }
        | StoreError::ReadOnly { .. }
        | StoreError::Failing { .. }
        | StoreError::Busy { .. }
        | StoreError::Lane(_) => Code::TryAgainLater,
        StoreError::Locked { .. }
        | StoreError::Newer { .. }
        | StoreError::NoFile { .. }
        | StoreError::Damaged { .. }
        | StoreError::Database { .. }
        | StoreError::File { .. }
        | StoreError::Encode { .. }
        | StoreError::AddressTaken { .. } => Code::Internal,
    };
    CniError::new(code, "cannot keep or read the state of the daemon")
        .with_details(error.to_string())
}

/// A DEL that was carried out, and would come back as not asked for: nothing could be written of it.
pub fn not_kept(error: &CniError) -> CniError {
    CniError::new(Code::TryAgainLater, "the DEL cannot be kept").with_details(format!(
        "what is in the kernel is removed as far as it can be, and the address is held: {error}"
    ))
}

/// A test made a step fail.
pub fn fault(error: Fault) -> CniError {
    CniError::new(Code::Internal, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exhausted_pool_is_the_module_documents_example() {
        let error = lease(&LeaseError::Exhausted {
            set: 0,
            subnets: "172.20.0.0/16".into(),
            ranges: "172.20.0.1-172.20.255.254".into(),
        });
        let json = error.to_json(Some("1.0.0"));
        assert_eq!(
            json,
            r#"{"cniVersion":"1.0.0","code":7,"msg":"Failed to allocate IP address","details":"No IP addresses available in pool 172.20.0.0/16"}"#
        );
    }
}
