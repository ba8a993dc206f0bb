//! The cost of embedding on this machine, on one thread: medians of processor time.
//!
//! Run with `cargo run --release -p vmcp-embedding --example speed`.

use std::hint::black_box;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use vmcp_embedding::{MiniLm, StaticVectors, tokenize};

const DESCRIPTION: &str = "create issue: Creates a new issue in a GitHub repository. Requires the owner, the name of \
                           the repository and a title; a body, labels, assignees and a milestone are optional.";

fn main() {
    println!("memory at start: {}", memory());
    let begun = Instant::now();
    let model = MiniLm::new();
    black_box(model.vectors(&["first".to_owned()]));
    println!("MiniLM, made and used once: {} µs; memory {}", begun.elapsed().as_micros(), memory());

    for words in [1, 4, 6, 8, 14, 30, 62, 254] {
        let text = vec!["word"; words].join(" ");
        let count = tokenize(&text, 256).len();
        let micros = median(if words > 60 { 21 } else { 101 }, || model.vectors(std::slice::from_ref(&text)));
        println!("MiniLM query of {count:3} pieces: {micros:8.0} µs");
    }
    let count = tokenize(DESCRIPTION, 256).len();
    for batch in [1, 4, 8, 16] {
        let texts = vec![DESCRIPTION.to_owned(); batch];
        let micros = median(21, || model.vectors(&texts)) / batch as f64;
        println!("MiniLM document of {count} pieces in batches of {batch:2}: {micros:8.0} µs each");
    }
    let model = StaticVectors::new();
    for text in ["will it rain in Paris tomorrow", DESCRIPTION] {
        let texts = vec![text.to_owned(); 100];
        let micros = median(21, || model.vectors(&texts)) / 100.0;
        println!("static vectors of {:3} pieces: {micros:8.1} µs", tokenize(text, 256).len());
    }
    println!("memory at the end: {}", memory());
}

/// The median processor time of this thread for one run, in microseconds. Wall-clock time would include the
/// load of other processes.
fn median<T>(runs: usize, mut run: impl FnMut() -> T) -> f64 {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
    };
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let begun = now();
            black_box(run());
            now() - begun
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

/// The resident memory of the process, as the kernel counts it. Most of it is the pages of the binary with
/// the model.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("RssAnon"));
    let parts: Vec<String> =
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    if parts.is_empty() { "unknown".to_owned() } else { parts.join(", ") }
}
