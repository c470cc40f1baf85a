//! The table of ends of relays in `docs/ENDS.md`: each cell is run with real streams, with the sides in both orders, and the
//! page has to say what was seen.

#![cfg(all(feature = "net", target_os = "linux"))]

use crate::end_cells::{
    Cells, check, lines,
    relay::{Cause, add},
    streams::{Lent, Other, Tcp, Unix},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_of_the_table_of_ends_is_as_documented() {
    check("relay ends", || async {
        let mut cells = Cells::new();
        add::<Tcp>(&mut cells);
        add::<Lent>(&mut cells);
        add::<Unix>(&mut cells);
        add::<Other>(&mut cells);
        lines(cells.run().await, Cause::title)
    })
    .await;
}
