//! The program without arguments.

use crate::support::run;

#[tokio::test]
async fn the_demonstration_ends_by_itself_and_prints_its_table() {
    for options in [
        &["--duration=300ms"][..],
        &["--duration=300ms", "--no-splice"],
    ] {
        let output = run(options).await;
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stdout}{stderr}");
        for word in ["bulk", "requests", "GiB/s", "p99"] {
            assert!(stdout.contains(word), "no {word} in: {stdout}");
        }
    }
}

#[tokio::test]
async fn the_demonstration_finds_one_wrong_bit() {
    let output = run(&["--duration", "300ms", "--corrupt"]).await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("hash"), "{stderr}");
}
