//! Writing to a connection that is gone, in a process that has restored the default action of SIGPIPE: a command line
//! tool, or a library in a program whose `main` is not Rust.

#![cfg(all(feature = "net", target_os = "linux"))]

mod support;

use std::{os::unix::process::ExitStatusExt, process::Command, time::Duration};

use tokio::{io::AsyncWriteExt, time::sleep};
use tokio_evbuffer::{BufferEvent, relay};

use support::{net::tcp_pair, tasks::soon};

const SIGPIPE: i32 = 13;
const SIG_DFL: usize = 0;

/// The environment variable by which a test gives its child a task.
const ROLE: &str = "EVBUFFER_SIGPIPE_ROLE";

#[allow(unsafe_code)]
fn restore_default_action() {
    // SAFETY: the declaration is that of `signal` in the C library, in which a handler has the size of a pointer.
    unsafe extern "C" {
        fn signal(signal: i32, handler: usize) -> usize;
    }
    // SAFETY: `SIG_DFL` is a valid handler, and no other thread of the child changes the action.
    unsafe { signal(SIGPIPE, SIG_DFL) };
}

async fn write_to_a_connection_that_is_gone(role: &str) {
    let ((mut client, a), (server, b)) = (tcp_pair().await, tcp_pair().await);
    match role {
        "tokio" => {
            tokio::spawn(async move {
                let (mut a, mut b) = (a, b);
                let _ = tokio::io::copy_bidirectional(&mut a, &mut b).await;
            });
        }
        "relay" => {
            tokio::spawn(relay(a, b));
        }
        _ => {
            drop(b);
            let bev = BufferEvent::new(a);
            drop(client);
            for _ in 0..50 {
                let _ = bev.output().add(b"more");
                sleep(Duration::from_millis(2)).await;
            }
            return;
        }
    }
    drop(server);
    for _ in 0..50 {
        if client.write_all(b"more").await.is_err() {
            break;
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// Runs `role` in a separate process. Returns the signal that killed it.
fn killed_by(role: &str) -> Option<i32> {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--include-ignored"])
        .env(ROLE, role)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    status.signal()
}

#[test]
#[ignore = "run by the other tests"]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    restore_default_action();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let work = write_to_a_connection_that_is_gone(&role);
    runtime.block_on(soon("the end", work));
}

#[test]
fn tokio_survives_a_broken_pipe() {
    assert_eq!(killed_by("tokio"), None);
}

#[test]
fn a_relay_survives_a_broken_pipe() {
    assert_eq!(killed_by("relay"), None);
}

#[test]
fn a_bufferevent_survives_a_broken_pipe() {
    assert_eq!(killed_by("bufferevent"), None);
}
