//! The fields of a body: written one after the other, read in any order.

use super::WireError;

/// What a field is. Numbers are never used for something else again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Tag {
    /// Text that names this request in the logs of both sides.
    RequestId = 1,
    /// Milliseconds the sender will wait, counted from when it sent this.
    DeadlineMs = 2,
    /// `CNI_COMMAND`
    Command = 3,
    /// `CNI_CONTAINERID`
    Container = 4,
    /// `CNI_IFNAME`
    Ifname = 5,
    /// `CNI_NETNS`: text for the result, never opened by the daemon.
    Netns = 6,
    /// `CNI_ARGS`
    Args = 7,
    /// `CNI_PATH`
    Path = 8,
    /// Standard input, as it came.
    Stdin = 9,
    /// `TRACEPARENT` (W3C Trace Context), where the runtime set it.
    Traceparent = 10,
    /// One byte for each descriptor, in their order: 1 the sender's own network namespace, 2 the
    /// container's.
    Descriptors = 11,
    /// `CNI_NETNS_OVERRIDE`, one byte.
    NetnsOverride = 12,
    /// Tombstones only: when it was written, in milliseconds of `CLOCK_BOOTTIME`.
    WrittenMs = 13,
    /// Tombstones only: the boot in which it was written.
    BootId = 14,
    /// ADD: what the IPAM plugin printed that an earlier answer named.
    IpamResult = 15,
    /// The reference plugin by whose name the plugin was called; absent if by its own.
    CalledAs = 16,
    /// Reply: the exit status the plugin is to end with, one byte.
    Exit = 32,
    /// Reply: what the plugin is to print on standard output.
    Stdout = 33,
    /// Reply: the IPAM plugin that has its part in this call.
    Delegate = 34,
    /// Reply: the daemon is stopping and has not begun with the call, one byte.
    Stopping = 35,
    /// Control: what is asked, `status` for one.
    Question = 64,
    /// Control: what the question is about, in the form that the question has. Absent is empty.
    Body = 65,
}

/// Writes fields.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn put(mut self, tag: Tag, value: &[u8]) -> Self {
        // A value of 4 GiB cannot be: bodies are limited to MAX_BODY when they are framed.
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&(tag as u16).to_le_bytes());
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(value);
        self
    }

    /// The same, but an empty value is left out: absent and empty mean the same for texts.
    pub(super) fn put_text(self, tag: Tag, value: &str) -> Self {
        if value.is_empty() { self } else { self.put(tag, value.as_bytes()) }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Calls `each` for every field of `body`; unknown tags too, for it to let pass.
pub(super) fn read<'a>(
    mut body: &'a [u8],
    mut each: impl FnMut(u16, &'a [u8]) -> Result<(), WireError>,
) -> Result<(), WireError> {
    while !body.is_empty() {
        let (head, rest) = body.split_first_chunk::<6>().ok_or(WireError::Truncated)?;
        let [t0, t1, l0, l1, l2, l3] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let (value, rest) = rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        each(u16::from_le_bytes([t0, t1]), value)?;
        body = rest;
    }
    Ok(())
}

pub(super) fn text(tag: Tag, value: &[u8]) -> Result<String, WireError> {
    String::from_utf8(value.to_vec()).map_err(|_| WireError::Field(tag))
}

pub(super) fn number(tag: Tag, value: &[u8]) -> Result<u64, WireError> {
    value.try_into().map(u64::from_le_bytes).map_err(|_| WireError::Field(tag))
}

pub(super) fn byte(tag: Tag, value: &[u8]) -> Result<u8, WireError> {
    match value {
        [byte] => Ok(*byte),
        _ => Err(WireError::Field(tag)),
    }
}
