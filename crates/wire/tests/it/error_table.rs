//! Prints the answer to every error in every protocol version and for every kind of request into a checked-in
//! table. `UPDATE_EXPECT=1` updates it. Review the difference: it changes the wire contract.

use std::time::Duration;

use expect_test::expect_file;
use vmcp_domain::{
    Capability, Cause, Error, LimitScope, LimitedOperation, ProtocolVersion, QuestionKind, RateLimit,
    RelayedError, RepeatedCall, RequiredIdentity, Retry,
};
use vmcp_wire::error_response::{
    Answer, AnswerBody, AnswerPolicy, AnswerShape, LimitAnswer, RequestKind, answer_with,
};
use vmcp_wire::jsonrpc;

fn limit(scope: LimitScope, retry: Retry) -> Error {
    Error::RateLimited(Box::new(RateLimit {
        operation: LimitedOperation::Tool("search".into()),
        rule: "tools[search].perUser".to_owned(),
        scope,
        retry,
        allowance: Some((10, Duration::from_secs(60))),
        resets_at: None,
    }))
}

fn quota() -> Error {
    Error::RateLimited(Box::new(RateLimit {
        operation: LimitedOperation::Tool("search".into()),
        rule: "perUser".to_owned(),
        scope: LimitScope::User,
        retry: Retry::After(Duration::from_secs(3600)),
        allowance: Some((500, Duration::from_secs(86_400))),
        resets_at: Some("2026-11-30 00:00 (Europe/Berlin)".to_owned()),
    }))
}

fn limits() -> [Error; 5] {
    [
        limit(LimitScope::UserTool, Retry::After(Duration::from_micros(5_000_001))),
        limit(LimitScope::Server, Retry::WhenReleased),
        limit(LimitScope::Tool, Retry::Never),
        limit(LimitScope::UserTool, Retry::Blocked),
        quota(),
    ]
}

/// Every variant. A new variant must be added here, because the match below does not compile without it.
fn errors() -> Vec<Error> {
    let cause = || Cause::new("connect to 10.0.0.1:80 refused");
    let relayed = |code| Error::BackendRefused {
        backend: "files".into(),
        error: RelayedError { code, message: "what the backend said".to_owned(), data: None },
    };
    let mut all = vec![
        Error::Denied,
        Error::IdentityRequired(RequiredIdentity::Identity),
        Error::IdentityRequired(RequiredIdentity::Claim("team".to_owned())),
    ];
    all.extend(limits());
    all.extend([
        Error::LimitsUnavailable,
        Error::UnknownTool("search".into()),
        Error::UnknownResource("file:///x".into()),
        Error::UnknownPrompt("review".into()),
        Error::InvalidRequest("`cursor` must be a string".to_owned()),
        Error::Looping(Box::new(RepeatedCall {
            tool: "search".into(),
            count: 5,
            retry_after: Duration::from_millis(59_500),
        })),
        Error::UnknownTask,
        Error::BackendBusy {
            backend: "files".into(),
            retry_after: Duration::from_millis(1500),
            was_read: true,
        },
        Error::BackendFull { backend: "files".into() },
        Error::MissingCapability(QuestionKind::Elicitation.into()),
        Error::MissingCapability(Capability::Tasks),
        Error::BackendUnavailable { backend: "files".into(), cause: cause(), was_read: false },
        Error::BackendFailed { backend: "files".into(), cause: cause() },
        relayed(-32602),
        relayed(-32002),
        relayed(-32021),
        relayed(-32029),
        relayed(7),
        Error::BackendUnauthorized { backend: "files".into(), cause: cause() },
        Error::BackendTimedOut { backend: "files".into(), after: Duration::from_secs(30) },
        Error::DeadlineExceeded,
        Error::Cancelled,
        Error::Overloaded,
        Error::Internal(cause()),
    ]);
    all.iter().for_each(name_every_variant);
    all
}

/// Does not compile without a new variant, which must be added to [`errors`].
fn name_every_variant(error: &Error) {
    match error {
        Error::Denied
        | Error::RateLimited(_)
        | Error::LimitsUnavailable
        | Error::UnknownTool(_)
        | Error::UnknownResource(_)
        | Error::UnknownPrompt(_)
        | Error::InvalidRequest(_)
        | Error::Looping(_)
        | Error::BackendBusy { .. }
        | Error::IdentityRequired(_)
        | Error::BackendFull { .. }
        | Error::UnknownTask
        | Error::MissingCapability(_)
        | Error::BackendUnavailable { .. }
        | Error::BackendFailed { .. }
        | Error::BackendRefused { .. }
        | Error::BackendUnauthorized { .. }
        | Error::BackendTimedOut { .. }
        | Error::DeadlineExceeded
        | Error::Cancelled
        | Error::Overloaded
        | Error::Internal(_) => {}
    }
}

const CALL: RequestKind = RequestKind::CallTool { may_be_structured: true };

fn line(answer: &Answer) -> String {
    let body = match &answer.body {
        AnswerBody::Error(error) => {
            let text = String::from_utf8(jsonrpc::write_error(None, error)).unwrap();
            let object =
                text.strip_prefix(r#"{"jsonrpc":"2.0","error":"#).and_then(|rest| rest.strip_suffix('}'));
            format!("error {}", object.unwrap())
        }
        AnswerBody::ToolResult(members) => format!("result {}", members.to_json().as_str()),
    };
    let headers: Vec<String> =
        answer.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let headers = if headers.is_empty() { String::new() } else { format!(" [{}]", headers.join("] [")) };
    format!("{}{headers} {body}", answer.status)
}

#[test]
fn every_error_has_its_answer() {
    let mut table = String::new();
    for error in errors() {
        let code = match &error {
            Error::BackendRefused { error, .. } => format!(" (backend's code {})", error.code),
            _ => String::new(),
        };
        table += &format!("{}{code}\n", error.class());
        for (label, version) in
            [("session", ProtocolVersion::V2025_11_25), ("2026-07-28", ProtocolVersion::V2026_07_28)]
        {
            for (verb_label, kind, policy) in [
                ("tools/call", CALL, AnswerPolicy::DEFAULT),
                ("reference", CALL, AnswerPolicy::REFERENCE),
                ("other", RequestKind::Other, AnswerPolicy::DEFAULT),
            ] {
                let answer = answer_with(&error, version, kind, policy);
                let text = line(&answer);
                assert!(!text.contains("10.0.0.1"), "a private cause reached the client: {text}");
                table += &format!("  {label:<10} {verb_label:<10} {text}\n");
            }
        }
    }
    table += "\nlimited tools/call by answer shape, code -32029\n";
    for shape in [
        AnswerShape::Auto,
        AnswerShape::Reference,
        AnswerShape::ToolError,
        AnswerShape::JsonRpcError,
        AnswerShape::Http429,
    ] {
        for (label, version) in
            [("session", ProtocolVersion::V2025_11_25), ("2026-07-28", ProtocolVersion::V2026_07_28)]
        {
            let error = limit(LimitScope::UserTool, Retry::After(Duration::from_micros(5_000_001)));
            let policy = AnswerPolicy { shape, limit: LimitAnswer { shape, code: -32029 } };
            let answer = answer_with(&error, version, CALL, policy);
            table += &format!("  {:<12} {label:<10} {}\n", format!("{shape:?}"), line(&answer));
        }
    }
    expect_file!["error_table.txt"].assert_eq(&table);
}

#[test]
fn a_denied_tool_and_an_absent_one_are_answered_alike() {
    let absent = Error::UnknownTool("gone".into());
    for version in [ProtocolVersion::V2025_11_25, ProtocolVersion::V2026_07_28] {
        let [denied, absent] =
            [&Error::Denied, &absent].map(|error| answer_with(error, version, CALL, AnswerPolicy::DEFAULT));
        assert_eq!(denied, absent);
    }
}

#[test]
fn a_tool_with_an_output_schema_gets_no_structured_content() {
    let kind = RequestKind::CallTool { may_be_structured: false };
    for error in errors() {
        let answer = answer_with(&error, ProtocolVersion::V2025_11_25, kind, AnswerPolicy::DEFAULT);
        if let AnswerBody::ToolResult(members) = answer.body {
            assert!(members.get("structuredContent").is_none(), "{error}");
        }
    }
}
