//! The header of a frame, and what can be wrong with one.

use std::fmt;

use super::{HEADER, MAX_BODY, MAX_DESCRIPTORS, NEWEST, OLDEST};

const MAGIC: [u8; 4] = *b"QCNI";

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A CNI call, from the plugin.
    Call = 1,
    /// A question from an operator's tool.
    Control = 2,
    /// The answer to either.
    Reply = 128,
    /// No version in common; the header holds the range of the one who answers.
    Refusal = 129,
}

/// A header, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The oldest version the sender speaks.
    pub oldest: u8,
    /// The newest version the sender speaks.
    pub newest: u8,
    /// What follows.
    pub kind: Kind,
    /// How many descriptors came with the first byte.
    pub descriptors: u8,
    /// Length of the body in bytes.
    pub length: u32,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireError {
    /// The first four bytes are not `QCNI`.
    NotOurs,
    /// The kind is none that this side knows.
    UnknownKind(u8),
    /// The range of versions is empty (oldest above newest).
    EmptyRange(u8, u8),
    /// No version in common: the sender's range.
    NoCommonVersion(u8, u8),
    /// The body is longer than [`MAX_BODY`].
    Oversized(u32),
    /// More descriptors than [`MAX_DESCRIPTORS`], or others than announced.
    Descriptors(u8),
    /// The frame, or a field in it, ends before its length says.
    Truncated,
    /// A field that must be there is not, or holds what it may not.
    Field(super::Tag),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs => write!(f, "the frame does not begin with \"QCNI\""),
            Self::UnknownKind(kind) => write!(f, "the frame has the unknown kind {kind}"),
            Self::EmptyRange(oldest, newest) => {
                write!(f, "the frame speaks versions {oldest} to {newest}, which is none")
            }
            Self::NoCommonVersion(oldest, newest) => write!(
                f,
                "the peer speaks protocol versions {oldest} to {newest}, this side {OLDEST} to {NEWEST}"
            ),
            Self::Oversized(length) => {
                write!(f, "the frame's body has {length} bytes, more than the {MAX_BODY} allowed")
            }
            Self::Descriptors(n) => write!(
                f,
                "the frame carries {n} descriptors, other than announced or more than {MAX_DESCRIPTORS}"
            ),
            Self::Truncated => write!(f, "the frame is cut off"),
            Self::Field(tag) => write!(f, "the frame's field {tag:?} is missing or invalid"),
        }
    }
}

impl std::error::Error for WireError {}

impl Header {
    /// A header for a body of `length` bytes, in this side's range of versions.
    pub fn new(kind: Kind, descriptors: u8, length: u32) -> Self {
        Self { oldest: OLDEST, newest: NEWEST, kind, descriptors, length }
    }

    /// The header as bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&[self.oldest, self.newest, self.kind as u8, self.descriptors]);
        bytes[8..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Reads a header. The checks that do not need a common version come first, so that a newer
    /// peer, whatever else it sends, is told the versions and not something misleading.
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Self, WireError> {
        let [m0, m1, m2, m3, oldest, newest, kind, descriptors, l0, l1, l2, l3] = *bytes;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(WireError::NotOurs);
        }
        if oldest > newest {
            return Err(WireError::EmptyRange(oldest, newest));
        }
        if newest < OLDEST || oldest > NEWEST {
            return Err(WireError::NoCommonVersion(oldest, newest));
        }
        let kind = [Kind::Call, Kind::Control, Kind::Reply, Kind::Refusal]
            .into_iter()
            .find(|k| *k as u8 == kind)
            .ok_or(WireError::UnknownKind(kind))?;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length > MAX_BODY {
            return Err(WireError::Oversized(length));
        }
        if descriptors > MAX_DESCRIPTORS {
            return Err(WireError::Descriptors(descriptors));
        }
        Ok(Self { oldest, newest, kind, descriptors, length })
    }

    /// The newest version that both the sender of this header and this side speak.
    pub fn common_version(&self) -> u8 {
        self.newest.min(NEWEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_wire() {
        let header = Header::new(Kind::Call, 2, 77);
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        assert_eq!(header.common_version(), NEWEST);
    }

    #[test]
    fn a_newer_peer_hears_about_versions_first() {
        let mut bytes = Header::new(Kind::Call, 0, 0).encode();
        bytes[4..8].copy_from_slice(&[NEWEST + 1, NEWEST + 3, 99, 99]);
        assert_eq!(Header::decode(&bytes), Err(WireError::NoCommonVersion(NEWEST + 1, NEWEST + 3)));
    }

    #[test]
    fn a_peer_that_speaks_more_is_answered_in_ours() {
        let header = Header { newest: 200, ..Header::new(Kind::Call, 0, 0) };
        assert_eq!(Header::decode(&header.encode()).map(|h| h.common_version()), Ok(NEWEST));
    }

    #[test]
    fn bad_headers_are_told_apart() {
        let good = Header::new(Kind::Call, 0, 0).encode();
        let with = |at: usize, value: &[u8]| {
            let mut bytes = good;
            bytes[at..at + value.len()].copy_from_slice(value);
            Header::decode(&bytes)
        };
        assert_eq!(with(0, b"GET "), Err(WireError::NotOurs));
        assert_eq!(with(4, &[2, 1]), Err(WireError::EmptyRange(2, 1)));
        assert_eq!(with(6, &[7]), Err(WireError::UnknownKind(7)));
        assert_eq!(with(7, &[9]), Err(WireError::Descriptors(9)));
        assert_eq!(with(8, &[0xff; 4]), Err(WireError::Oversized(u32::MAX)));
    }
}
