//! Converts `loopBreaker` into the policy of its layer.

use std::num::NonZeroU32;
use std::time::Duration;

use vmcp_domain::NamePattern;
use vmcp_loopbreaker::LoopPolicy;

use super::Findings;
use crate::file::LoopBreaker;
use crate::report::item_path;

const PATH: &str = "loopBreaker";
const REPEATS_DEFAULT: NonZeroU32 = NonZeroU32::new(5).unwrap();
const WITHIN_DEFAULT: Duration = Duration::from_secs(60);

pub(super) fn convert(file: LoopBreaker, findings: &mut Findings<'_>) -> LoopPolicy {
    let LoopBreaker { repeats, within, tools } = file;
    let repeats = match repeats {
        Some(0 | 1) => {
            findings.add_problem(format!("{PATH}.repeats"), "must be at least 2").hint =
                Some("a call that was made once has repeated nothing".to_owned());
            REPEATS_DEFAULT
        }
        repeats => repeats.and_then(NonZeroU32::new).unwrap_or(REPEATS_DEFAULT),
    };
    let within = within.and_then(|within| findings.require_positive(&format!("{PATH}.within"), within));
    for (index, _) in tools.iter().enumerate().filter(|(_, name)| name.trim().is_empty()) {
        findings.add_problem(item_path(&format!("{PATH}.tools"), index), "must not be empty");
    }
    let tools = (!tools.is_empty()).then(|| tools.into_iter().map(NamePattern::new).collect());
    LoopPolicy { repeats, within: within.unwrap_or(WITHIN_DEFAULT), tools }
}
