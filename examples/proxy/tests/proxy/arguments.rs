//! Wrong arguments are reported in one line.

use tokio::net::TcpListener;

use crate::support::run;

/// Runs the program, which must refuse to start with one line that contains all of `parts`.
async fn assert_refused(arguments: &[&str], parts: &[&str]) {
    let output = run(arguments).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed on stdout");
    for part in parts {
        assert!(
            stderr.contains(part),
            "{arguments:?}: no {part} in: {stderr}"
        );
    }
}

#[tokio::test]
async fn unknown_and_missing_arguments_are_one_line() {
    assert_refused(&["--bogus"], &["--bogus"]).await;
    assert_refused(&["extra"], &["extra"]).await;
    assert_refused(&["--listen", "127.0.0.1:0"], &["--connect"]).await;
    assert_refused(&["--connect", "127.0.0.1:1"], &["--listen"]).await;
    assert_refused(&["--listen"], &["--listen"]).await;
    assert_refused(&["--idle", "5s"], &["--listen"]).await;
}

#[tokio::test]
async fn a_wrong_value_is_one_line_that_names_the_option() {
    let addresses = ["--listen", "127.0.0.1:0", "--connect", "127.0.0.1:1"];
    for (option, value) in [
        ("--idle", "5q"),
        ("--idle", "18446744073709551615"),
        ("--idle", "0"),
        ("--linger", "soon"),
        ("--grace", "-1s"),
        ("--connect-timeout", ""),
        ("--keepalive", "often"),
        ("--user-timeout", "0s"),
        ("--stats", "0"),
        ("--max-connections", "0"),
        ("--max-connections", "99999999999999999999"),
        ("--backlog", "0"),
        ("--buffer", "big"),
        ("--rate-limit", "0"),
        ("--total-rate-limit", "fast"),
        ("--memory", "much"),
    ] {
        let argument = format!("{option}={value}");
        let arguments = [&addresses[..], &[&argument]].concat();
        assert_refused(&arguments, &[option]).await;
    }
}

#[tokio::test]
async fn a_wrong_address_is_one_line_that_names_it() {
    for address in [
        "nonsense",
        "127.0.0.1",
        "127.0.0.1:",
        ":80",
        "127.0.0.1:65536",
        "::1:80",
        "a b:1",
    ] {
        assert_refused(
            &["--listen", address, "--connect", "127.0.0.1:1"],
            &["--listen", address],
        )
        .await;
        assert_refused(
            &["--listen", "127.0.0.1:0", "--connect", address],
            &["--connect", address],
        )
        .await;
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_resolved_is_one_line() {
    // A label of 64 letters is invalid, which is found out without a name server.
    let upstream = &format!("{}.invalid:80", "x".repeat(64));
    assert_refused(
        &["--listen", "127.0.0.1:0", "--connect", upstream],
        &[upstream],
    )
    .await;
}

#[tokio::test]
async fn a_busy_port_is_one_line_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let busy = taken.local_addr().unwrap().to_string();
    assert_refused(&["--listen", &busy, "--connect", "127.0.0.1:1"], &[&busy]).await;
}
