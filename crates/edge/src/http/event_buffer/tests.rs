use super::*;

fn text(next: ReadResult) -> String {
    match next {
        ReadResult::Message(index, message) => format!("{index}:{}", String::from_utf8_lossy(&message)),
        ReadResult::Nothing => "nothing".to_owned(),
        ReadResult::End => "end".to_owned(),
        ReadResult::TakenOver => "taken over".to_owned(),
    }
}

#[test]
fn what_may_be_lost_is_dropped_and_what_must_arrive_is_kept() {
    let buffer = EventBuffer::non_resumable();
    let accepted = (0..1000).filter(|_| buffer.push_lossy(Bytes::from_static(b"progress"))).count();
    assert_eq!(accepted, UNREAD_MAX);
    assert!(!buffer.push_lossy(Bytes::from(vec![b'x'; UNREAD_BYTES_MAX])));
    buffer.end(Some(Bytes::from_static(b"answer")));
    let mut position = buffer.attach(0);
    let read: Vec<_> = std::iter::from_fn(|| {
        let next = buffer.next(&mut position);
        (next != ReadResult::End).then(|| text(next))
    })
    .collect();
    assert_eq!(read.len(), UNREAD_MAX + 1);
    assert_eq!(read.last().unwrap(), "64:answer");
    assert!(!buffer.push(Bytes::from_static(b"late")));
}

#[test]
fn a_client_that_comes_back_goes_on_where_it_broke_off() {
    let buffer = EventBuffer::resumable(7);
    for message in ["a", "b", "c"] {
        buffer.push(Bytes::from_static(message.as_bytes()));
    }
    let mut before = buffer.attach(0);
    assert_eq!(text(buffer.next(&mut before)), "0:a");
    assert_eq!(text(buffer.next(&mut before)), "1:b");
    let mut after = buffer.attach(1);
    assert_eq!(text(buffer.next(&mut before)), "taken over");
    assert_eq!(text(buffer.next(&mut after)), "1:b");
    assert_eq!(text(buffer.next(&mut after)), "2:c");
    assert_eq!(text(buffer.next(&mut after)), "nothing");
}

#[test]
fn what_was_sent_is_kept_within_bounds_only() {
    let buffer = EventBuffer::resumable(0);
    let mut position = buffer.attach(0);
    for _ in 0..1000 {
        buffer.push(Bytes::from_static(b"x"));
        buffer.next(&mut position);
    }
    assert_eq!(buffer.lock().messages.len(), REPLAY_MAX);
    assert_eq!(text(buffer.next(&mut buffer.attach(3))), format!("{}:x", 1000 - REPLAY_MAX));
    let once = EventBuffer::non_resumable();
    let mut position = once.attach(0);
    once.push(Bytes::from_static(b"x"));
    once.next(&mut position);
    let inner = once.lock();
    assert_eq!((inner.messages.len(), inner.bytes, inner.unread_bytes), (0, 0, 0));
}
