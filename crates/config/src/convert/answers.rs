//! How failed requests are answered: the key `answer`, and `answer` and `code` of the limits.

use vmcp_wire::code;
use vmcp_wire::error_response::{AnswerShape, LimitAnswer};

use crate::convert::Findings;
use crate::file::AnswerForm;
use crate::report::Problem;

/// The path of the code of limited calls.
const CODE: &str = "rateLimiting.code";

/// The form of answers to failed tool calls. ToolHive's operator sets `TOOLHIVE_RUNTIME`; what runs under it is
/// expected to answer as ToolHive does.
pub(super) fn shape(form: Option<AnswerForm>, findings: &Findings<'_>) -> AnswerShape {
    let is_under_operator = || (findings.env)("TOOLHIVE_RUNTIME").as_deref() == Some("kubernetes");
    match form {
        Some(form) => to_shape(form),
        None if is_under_operator() => AnswerShape::Reference,
        None => AnswerShape::Auto,
    }
}

/// The answer to rate-limited requests. Without a form of its own it has that of other failures.
pub(super) fn for_limits(
    form: Option<AnswerForm>,
    code: Option<i64>,
    others: Option<AnswerForm>,
    findings: &mut Findings<'_>,
) -> LimitAnswer {
    let code = code.unwrap_or(code::RATE_LIMITED);
    if code == 0 {
        findings.push(Problem::new(CODE, "must not be 0").with_hint("leave it out for 429"));
    }
    if code == code::RATE_LIMITED_LEGACY {
        findings.add_warning(
            CODE,
            "is sent in versions with sessions only; 2026-07-28 forbids it, and 429 is sent there",
        );
    } else if code::is_defined_by_json_rpc(code) {
        let message = format!("{code} has another meaning in JSON-RPC, so clients misread a limit");
        findings.push(Problem::new(CODE, message).with_hint("leave it out for 429"));
    } else if code::is_forbidden_in_2026_07_28(code) {
        let message = format!("{code} is reserved by the specification of 2026-07-28");
        findings.push(Problem::new(CODE, message).with_hint("leave it out for 429"));
    }
    LimitAnswer { shape: shape(form.or(others), findings), code }
}

fn to_shape(form: AnswerForm) -> AnswerShape {
    match form {
        AnswerForm::Auto => AnswerShape::Auto,
        AnswerForm::Reference => AnswerShape::Reference,
        AnswerForm::ToolError => AnswerShape::ToolError,
        AnswerForm::JsonRpcError => AnswerShape::JsonRpcError,
        AnswerForm::Http429 => AnswerShape::Http429,
    }
}
