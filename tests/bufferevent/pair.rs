//! Two `BufferEvent`s that are joined in memory.

use tokio_evbuffer::{
    BufferEvent, Watermarks,
    bufferevent::{Direction, IntoInnerError, PauseReason, Side},
};

use crate::support::tasks::yield_many;

#[tokio::test]
async fn watermarks_apply_as_for_a_socket() {
    let (a, b) = BufferEvent::pair();
    b.set_watermarks(Side::Input, Watermarks::new(10, 100).unwrap());
    a.output().add(&vec![1; 300_000]).unwrap();
    yield_many().await;
    assert_eq!(b.input().len(), 100);
    assert!(
        b.paused(Direction::Read)
            .contains(PauseReason::HighWatermark)
    );
    assert!(a.paused(Direction::Write).contains(PauseReason::Peer));
    let (sent, left) = (a.metrics().bytes_out, a.output().len() as u64);
    assert_eq!(sent + left, 300_000);
    let mut taken = 0;
    while taken < 300_000 {
        b.input().readable(1).await.unwrap();
        taken += b.input().drain(usize::MAX).unwrap();
    }
    a.flush().await.unwrap();
}

#[tokio::test]
async fn data_moves_when_both_sides_are_enabled() {
    let (a, b) = BufferEvent::pair();
    b.disable(Direction::Read);
    a.output().add(b"wait").unwrap();
    yield_many().await;
    assert_eq!(b.input().len(), 0);
    b.enable(Direction::Read);
    a.disable(Direction::Write);
    yield_many().await;
    assert_eq!(b.input().len(), 4, "it was on its way");
    a.output().add(b"more").unwrap();
    yield_many().await;
    assert_eq!((b.input().len(), a.output().len()), (4, 4));
    a.enable(Direction::Write);
    b.input().readable(8).await.unwrap();
}

#[tokio::test]
async fn into_inner_of_a_pair_is_refused() {
    let (a, b) = BufferEvent::pair();
    let Err(IntoInnerError::WrongType(a)) = a.into_inner::<tokio::io::DuplexStream>().await else {
        panic!("it is of no type");
    };
    a.output().add(b"untouched").unwrap();
    b.input().readable(9).await.unwrap();
}
