//! Live progress: a bar on a terminal, a line a second elsewhere.

use std::{
    io::{IsTerminal, stderr},
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use tokio::{task::JoinSet, time::interval};

use super::load::Tally;
use crate::output::print;

const FRAME: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(1);

/// Shows the progress of a measurement until it is finished or dropped.
pub(super) struct Progress {
    showing: JoinSet<()>,
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn start(name: &'static str, length: Duration, tally: Arc<Tally>) -> Self {
        let bar = ProgressBar::new(length.as_millis() as u64).with_prefix(name);
        bar.set_style(style());
        let mut showing = JoinSet::new();
        if stderr().is_terminal() {
            showing.spawn(draw(bar.clone(), tally));
        } else {
            showing.spawn(print_lines(name, tally));
        }
        Self { showing, bar }
    }

    /// Removes the bar. The table shows its figures.
    pub(super) async fn finish(mut self) {
        self.showing.shutdown().await;
        self.bar.finish_and_clear();
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:>12} [{bar:40}] {msg}")
        .expect("the template is well-formed")
        .progress_chars("=> ")
}

async fn draw(bar: ProgressBar, tally: Arc<Tally>) {
    let began = Instant::now();
    let mut frames = interval(FRAME);
    loop {
        frames.tick().await;
        let elapsed = began.elapsed();
        bar.set_position(elapsed.as_millis() as u64);
        bar.set_message(line(&tally, elapsed));
    }
}

async fn print_lines(name: &'static str, tally: Arc<Tally>) {
    let began = Instant::now();
    let mut lines = interval(LINE);
    lines.tick().await;
    loop {
        lines.tick().await;
        print(format_args!(
            "{name:>12}: {}",
            line(&tally, began.elapsed())
        ));
    }
}

fn line(tally: &Tally, elapsed: Duration) -> String {
    let rate = tally.bytes() as f64 / elapsed.as_secs_f64().max(f64::EPSILON);
    format!(
        "{}, {}/s, {} requests",
        HumanBytes(tally.bytes()),
        HumanBytes(rate as u64),
        HumanCount(tally.requests()),
    )
}
