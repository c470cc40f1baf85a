//! Without arguments each program runs a demonstration, which fails if its result is wrong.

use std::path::Path;

use crate::support::{output, run};

macro_rules! demonstrations {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let program = Path::new(env!(concat!("CARGO_BIN_EXE_", stringify!($name))));
            assert!(!output(program, &[]).is_empty());
            let refused = run(program, &["--bogus", "value"]);
            assert_eq!(refused.status.code(), Some(1));
            let refused = run(program, &["--listen", "nonsense"]);
            assert_eq!(refused.status.code(), Some(1));
        })*
    };
}

demonstrations! {
    http_peek_proxy
    http_reverse_proxy
    sni_router
    starttls_server
}
