//! Whole buffers through each operation once.
use bytes::{Buf, BufMut, Bytes};
use tokio_evbuffer::*;

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8).collect()
}

#[test]
fn bytes_survive_every_way_through() {
    for n in [0, 1, 511, 513, 4096, 16383, 16384, 16385, 65537] {
        let data = pattern(n);
        let mut a = EvBuffer::new();
        for piece in data.chunks(100) {
            a.add(piece).unwrap();
        }
        assert_eq!(a, data);
        let mut b = EvBuffer::new();
        b.add_buffer_reference(&mut a).unwrap();
        a.add(b"tail").unwrap();
        assert_eq!(b, data);
        b.prepend(b"head").unwrap();
        let mut c = EvBuffer::new();
        b.remove_buffer(&mut c, n / 2 + 2).unwrap();
        c.add_buffer(&mut b).unwrap();
        assert_eq!(c.take_bytes(4).unwrap(), "head");
        assert_eq!(c, data);
        assert_eq!(c.pullup(n).unwrap(), data);
        c.put_slice(b"xyz");
        c.advance(n);
        assert_eq!(c, b"xyz"[..]);
        let mut room = c.reserve(40_000).unwrap();
        assert!(room.slices_mut().map(|s| s.len()).sum::<usize>() >= 40_000);
        assert_eq!(room.put(&data), data.len().min(room.capacity()));
        room.commit(n.min(40_000)).unwrap();
        c.drain(3).unwrap();
        assert_eq!(c, data[..n.min(40_000)]);
        c.clear().unwrap();
        assert!(c.capacity() <= 16 * 1024, "{}", c.capacity());
        c.shrink_to_fit();
        assert_eq!(c.capacity(), 0);
    }
    let owned = EvBuffer::from(Bytes::from_static(b"x"));
    assert_eq!(owned.len(), 1);
}
