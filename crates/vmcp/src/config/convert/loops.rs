//! `loopBreaker`: from the file to the layer's policy.

use std::num::NonZeroU32;
use std::time::Duration;

use vmcp_ratelimit::{LoopPolicy, Pattern};

use super::Findings;
use crate::config::file::LoopBreaker;
use crate::config::report::item;

const PATH: &str = "loopBreaker";
const REPEATS: NonZeroU32 = NonZeroU32::new(5).unwrap();
const WITHIN: Duration = Duration::from_secs(60);

pub(super) fn convert(file: LoopBreaker, findings: &mut Findings<'_>) -> LoopPolicy {
    let LoopBreaker { repeats, within, tools } = file;
    let repeats = match repeats {
        Some(0 | 1) => {
            findings.problem(format!("{PATH}.repeats"), "must be at least 2").hint =
                Some("a call that was made once has repeated nothing".to_owned());
            REPEATS
        }
        repeats => repeats.and_then(NonZeroU32::new).unwrap_or(REPEATS),
    };
    let within = within.and_then(|within| findings.positive(&format!("{PATH}.within"), within));
    for (index, _) in tools.iter().enumerate().filter(|(_, name)| name.trim().is_empty()) {
        findings.problem(item(&format!("{PATH}.tools"), index), "must not be empty");
    }
    let tools = (!tools.is_empty()).then(|| tools.into_iter().map(Pattern::new).collect());
    LoopPolicy { repeats, within: within.unwrap_or(WITHIN), tools }
}
