//! What a Tokio user writes first compiles.

use std::{io, sync::Arc, thread};

use bytes::Bytes;
use tokio_evbuffer::{
    BufferError, BufferEvent, EvBuffer, Event, SharedEvBuffer,
    bufferevent::CloseReason,
    shared::{Closed, WaitError},
};

#[test]
fn a_buffer_is_made_from_and_compared_with_what_holds_bytes() {
    let mut buffer = EvBuffer::new();
    buffer.add("te").unwrap();
    buffer.add(b"xt").unwrap();
    assert!(buffer == "text" && buffer == b"text" && buffer == b"text"[..]);
    assert!(buffer == Bytes::from_static(b"text"));
    let (text, owned) = (EvBuffer::from("text"), EvBuffer::from("text".to_owned()));
    assert!(text == buffer && owned == buffer);
    assert!(EvBuffer::from([b'a', b'b']) == "ab" && EvBuffer::from(b"ab") == "ab");
    assert!(EvBuffer::from(Box::<[u8]>::from(*b"ab")) == "ab");

    assert_eq!(buffer.to_vec(), b"text");
    assert_eq!((buffer.get(0), buffer.get(4)), (Some(b't'), None));
    assert!(buffer.starts_with(b"te") && buffer.ends_with(b"xt"));
    let mut joined = Vec::new();
    for chunk in &buffer {
        joined.extend_from_slice(chunk);
    }
    assert_eq!(joined, b"text");
    assert_eq!(Vec::from(EvBuffer::from("text")), b"text");
    assert_eq!(Bytes::from(buffer), "text");
}

#[test]
fn one_message_goes_to_many_tasks() {
    let message = EvBuffer::from("to all").share();
    let buffers = [const { None::<SharedEvBuffer> }; 3].map(Option::unwrap_or_default);
    thread::scope(|scope| {
        for buffer in &buffers {
            let message = message.clone();
            scope.spawn(move || buffer.add_shared(&message).unwrap());
        }
    });
    assert!(buffers.iter().all(|buffer| buffer.to_vec() == b"to all"));
    let lent = EvBuffer::from("to all");
    assert_eq!(buffers[0].add_buffer_reference(&lent), Ok(6));
}

#[test]
fn errors_and_ends_convert_and_compare() {
    assert_eq!(BufferError::from(Closed), BufferError::Closed);
    assert_eq!(BufferError::from(WaitError::Closed), BufferError::Closed);
    assert_eq!(Event::Eof, Event::Eof);
    assert_ne!(CloseReason::Finished, CloseReason::Aborted);
    let refused = io::Error::from_raw_os_error(111);
    let stream = io::Error::from(WaitError::Stream(Arc::new(refused)));
    assert_eq!(stream.raw_os_error(), Some(111));
    let _ = BufferEvent::builder().clone();
}
