//! A frame, as any peer may send it: reading it never panics, and what was read is the same after
//! it was sent on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quantum_config::wire::{HEADER, Header, Kind, MAX_BODY, Reply, Request, WireError};

fuzz_target!(|bytes: &[u8]| {
    let Some((head, rest)) = bytes.split_first_chunk::<HEADER>() else { return };
    let header = match Header::decode(head) {
        Ok(header) => header,
        Err(error) => return says_something(&error),
    };
    assert_eq!(header.encode(), *head, "a header is written as it was read");
    // Nobody hands a reader more than the header announced.
    let body = &rest[..rest.len().min(header.length as usize)];
    match Request::decode(&header, body) {
        Ok(request) => request_survives(&request),
        Err(error) => says_something(&error),
    }
    match Reply::decode(&header, body) {
        Ok(reply) => reply_survives(&reply),
        Err(error) => says_something(&error),
    }
    // The same body under the header that suits it.
    let length = u32::try_from(body.len()).expect("a short body");
    for kind in [Kind::Call, Kind::Control] {
        let header = Header::new(kind, header.descriptors, length);
        if let Ok(request) = Request::decode(&header, body) {
            request_survives(&request);
        }
    }
    if let Ok(reply) = Reply::decode(&Header::new(Kind::Reply, 0, length), body) {
        reply_survives(&reply);
    }
});

fn says_something(error: &WireError) {
    assert!(!error.to_string().is_empty());
}

/// Splits a frame of ours, which must be one.
fn parts(frame: &[u8]) -> (Header, &[u8]) {
    let (head, body) = frame.split_first_chunk::<HEADER>().expect("a header");
    let header = Header::decode(head).expect("a header of ours");
    assert_eq!(header.length as usize, body.len(), "the header says how much follows");
    (header, body)
}

fn request_survives(request: &Request) {
    let encoded = match request {
        Request::Call(call) => call.encode(),
        Request::Control(control) => control.encode(),
    };
    let frame = match encoded {
        Ok(frame) => frame,
        // What is let out by a sender may be added here, and make it too long.
        Err(WireError::Oversized(length)) => return assert!(length > MAX_BODY),
        Err(error) => panic!("what was read cannot be sent: {error}"),
    };
    let (header, body) = parts(&frame);
    assert_eq!(Request::decode(&header, body).as_ref(), Ok(request));
}

fn reply_survives(reply: &Reply) {
    let frame = reply.encode();
    let (header, body) = parts(&frame);
    let back = Reply::decode(&header, body).expect("a reply of ours");
    assert_eq!(back.exit, reply.exit);
    assert_eq!(back, *reply);
}
