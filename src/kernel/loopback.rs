//! Ports at 127.0.0.0/8: what a process of the host sends there leaves by the bridge, and the answer comes
//! back by it. The kernel drops both unless the bridge is told otherwise; nothing else is. That nobody on
//! the bridge uses it, is seen to by the chain `raw` of our table.

use std::io;

use quantum_config::ids::IfName;

use super::KernelError;
use super::route::bridge::BridgeError;
use super::sysctl::Setting;

/// Lets such packets go over the link. One that is not there yet, or no longer, is the business of who
/// plugs the container in.
pub fn serve(link: &IfName) -> Result<(), KernelError> {
    set(link, true)
}

/// Lets them go there no more.
pub fn leave(link: &IfName) -> Result<(), KernelError> {
    set(link, false)
}

fn set(link: &IfName, value: bool) -> Result<(), KernelError> {
    let setting = Setting::RouteLocalnet(link);
    match setting.ensure(value) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(BridgeError::Setting { path: setting.to_string(), source }.into())
        }
        _ => Ok(()),
    }
}
