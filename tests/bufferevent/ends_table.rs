//! The table of ends of BufferEvents in `docs/ENDS.md`: each cell is run with real streams, and the page has to say what
//! was seen.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_evbuffer::{Watermarks, pipe};

use crate::{
    end_cells::{
        Cells,
        bufferevent::{End, Over, Pair, add},
        check, lines,
        streams::{Other, Tcp, Unix},
    },
    support::data::pattern,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_of_the_table_of_ends_is_as_documented() {
    check("bufferevent ends", || async {
        let mut cells = Cells::new();
        add::<Over<Tcp>>(&mut cells);
        add::<Over<Unix>>(&mut cells);
        add::<Over<Other>>(&mut cells);
        add::<Pair>(&mut cells);
        lines(cells.run().await, End::title)
    })
    .await;
}

/// A pipe in memory follows the same rule.
#[tokio::test]
async fn a_pipe_ends_in_order_or_with_an_error_after_its_bytes() {
    let data = pattern(100_000);
    for in_order in [true, false] {
        let (mut writer, mut reader) = pipe(Watermarks::NONE);
        writer.write_all(&data).await.unwrap();
        match in_order {
            true => drop(writer),
            false => writer.close_with(io::ErrorKind::ConnectionReset.into()),
        }
        let mut got = Vec::new();
        let end = reader.read_to_end(&mut got).await;
        assert!(got == data);
        match in_order {
            true => assert_eq!(end.unwrap(), data.len()),
            false => assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset),
        }
    }
}
