//! Prices by expression: what a call costs by what it asks for, and what it turned out to cost by what came back.

use std::fmt;

use vmcp_domain::{Caller, Json, Reply, Tool, ToolHints};
use vmcp_expression::{Data, Expression, ExpressionValue, LoopScope};

/// What a price may ask for before a call.
const BEFORE: &[&str] = &["args", "tool", "claims"];
/// What a price may ask for after it.
const AFTER: &[&str] = &["args", "tool", "claims", "cost", "result"];

/// The members of variables that are the gateway's own.
const MEMBERS: [(&str, &[&str]); 2] = [
    ("tool", &["name", "backend", "annotations"]),
    ("result", &["bytes", "isError", "content", "structuredContent", "_meta"]),
];

/// The largest arguments, or member of a result, that an expression is computed over, in bytes. It is computed before a limit
/// can refuse.
const DATA_BYTES_MAX: usize = 256 << 10;
/// The same for an expression with a loop, which takes a hundred times as long.
const LOOP_BYTES_MAX: usize = 64 << 10;

/// A price that an expression names, in tokens.
#[derive(Debug)]
pub struct Price {
    text: String,
    expression: Expression,
    tokens_max: u32,
}

/// Why a call has no price: its arguments lack something that the expression asks for, or hold something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// The text may quote the call, so only the caller sees it.
    #[error("{0}")]
    QuotesCall(String),
    /// The text is the same for every such call.
    #[error("{0}")]
    Plain(String),
}

impl PriceError {
    /// The text for the log, which holds no argument.
    pub(crate) fn for_log(&self) -> &str {
        match self {
            Self::QuotesCall(_) => "the expression does not fit what the call holds; its caller is told more",
            Self::Plain(text) => text,
        }
    }
}

impl fmt::Display for Price {
    /// The expression.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Price {
    /// A price by what a call asks for: `args` are its arguments, `tool` is `{name, backend, annotations}`, `claims` are
    /// those of the caller.
    ///
    /// # Errors
    /// A sentence without a subject that says what is wrong with the expression.
    pub fn new_before_call(text: &str) -> Result<Self, String> {
        Self::compile(text, BEFORE)
    }

    /// A price by what came of a call: besides, `cost` is what was paid for it before, `result` is `{bytes, isError,
    /// content, structuredContent, _meta}` as far as it has them.
    ///
    /// # Errors
    /// As [`Price::new_before_call`].
    pub fn new_after_call(text: &str) -> Result<Self, String> {
        Self::compile(text, AFTER)
    }

    fn compile(text: &str, names: &'static [&'static str]) -> Result<Self, String> {
        let expression = Expression::compile(text, names, LoopScope::OwnItems)?;
        for (variable, members) in MEMBERS {
            if let Some(unknown) = expression.members_of(variable).find(|member| !members.contains(member)) {
                return Err(format!("asks for {variable}.{unknown}; there is only {}", members.join(", ")));
            }
        }
        if expression.is_constant() {
            to_tokens(expression.evaluate([])).map_err(|error| format!("is no price: {error}"))?;
        }
        Ok(Self { text: text.to_owned(), expression, tokens_max: u32::MAX })
    }

    /// The same price, with a greatest number of tokens.
    #[must_use]
    pub fn with_tokens_max(self, most: u32) -> Self {
        Self { tokens_max: most, ..self }
    }

    /// What a call costs. Fractions are rounded up; what is less than nothing costs nothing, and what is more than can be
    /// counted costs more than any bucket holds.
    ///
    /// # Errors
    /// When the expression cannot be computed for this call, or comes to no number.
    pub(crate) fn evaluate(&self, priced: &PricedCall<'_>) -> Result<u32, PriceError> {
        let mut variables: Vec<(&str, Data)> = Vec::with_capacity(4);
        if self.expression.uses_variable("args") {
            variables
                .push(("args", priced.arguments_data(self.expression.member_names(), self.bytes_max())?));
        }
        if self.expression.uses_variable("tool") {
            variables.push(("tool", tool_data(priced.tool)));
        }
        if self.expression.uses_variable("claims") {
            variables.push(("claims", priced.claims_data(self.bytes_max())?));
        }
        if let Some((cost, reply)) = priced.after {
            variables.push(("cost", i64::from(cost).into()));
            if self.expression.uses_variable("result") {
                variables.push(("result", self.result_data(reply)?));
            }
        }
        to_tokens(self.expression.evaluate(variables)).map(|price| price.min(self.tokens_max))
    }
}

/// The tokens that an expression comes to.
fn to_tokens(outcome: Result<ExpressionValue, String>) -> Result<u32, PriceError> {
    match outcome.map_err(PriceError::QuotesCall)? {
        ExpressionValue::Int(whole) => Ok(u32::try_from(whole.max(0)).unwrap_or(u32::MAX)),
        ExpressionValue::Float(number) if number.is_finite() => Ok(rounded_up(number)),
        ExpressionValue::Float(_) | ExpressionValue::Bool(_) | ExpressionValue::Other => {
            Err(PriceError::Plain("comes to no number".to_owned()))
        }
    }
}

impl Price {
    fn bytes_max(&self) -> usize {
        if self.expression.has_loop() { LOOP_BYTES_MAX } else { DATA_BYTES_MAX }
    }

    /// What the expression asks for of a result.
    fn result_data(&self, reply: &Reply) -> Result<Data, PriceError> {
        let bytes: usize = reply.members.iter().map(|(_, value)| value.as_str().len()).sum();
        let mut members = vec![
            ("bytes", Data::from(i64::try_from(bytes).unwrap_or(i64::MAX))),
            ("isError", reply.is_error.into()),
        ];
        for name in ["content", "structuredContent", "_meta"] {
            let asked = reply.members.get(name).filter(|_| self.expression.uses_member("result", name));
            if let Some(value) = asked {
                members.push((
                    name,
                    parse_data(value, "the parts of the result that it looks at", self.bytes_max())?,
                ));
            }
        }
        Ok(members.into_iter().collect())
    }
}

/// What is priced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PricedCall<'a> {
    pub(crate) tool: &'a Tool,
    pub(crate) caller: &'a Caller,
    pub(crate) arguments: Option<&'a Json>,
    /// What was paid, and what came back.
    pub(crate) after: Option<(u32, &'a Reply)>,
}

impl PricedCall<'_> {
    /// A caller without identity has no claims.
    fn claims_data(&self, bytes_max: usize) -> Result<Data, PriceError> {
        let Caller::Known(identity) = self.caller else { return Ok(Data::from_iter([])) };
        let mut claims = identity.claims.clone();
        claims.insert("iss", Json::string(&identity.issuer));
        claims.insert("sub", Json::string(&identity.subject));
        parse_data(&claims.to_json(), "the claims of the caller", bytes_max)
    }

    /// A call without arguments has an empty object of them. A name that is given twice, or in another letter case than
    /// `read` has it, might mean something else to the backend than to the price.
    fn arguments_data(&self, read: &[String], bytes_max: usize) -> Result<Data, PriceError> {
        let Some(arguments) = self.arguments else { return Ok(Data::from_iter([])) };
        let arguments_data = parse_data(arguments, "the arguments", bytes_max)?;
        let ambiguous = |fault| PriceError::QuotesCall(format!("the arguments have no one price: {fault}"));
        arguments.check_member_names_deep(read).map_err(ambiguous)?;
        Ok(arguments_data)
    }
}

/// Saturating; exact for every price that a bucket can hold.
fn rounded_up(number: f64) -> u32 {
    let whole = number.ceil().clamp(0.0, f64::from(u32::MAX));
    // In range and whole, so nothing is cut off.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range above")]
    let tokens = whole as u32;
    tokens
}

fn parse_data(json: &Json, what: &str, bytes_max: usize) -> Result<Data, PriceError> {
    if json.as_str().len() > bytes_max {
        return Err(PriceError::Plain(format!("{what} are larger than {} KiB", bytes_max >> 10)));
    }
    Data::parse_without_nulls(json.as_str())
        .ok_or_else(|| PriceError::Plain(format!("{what} cannot be read")))
}

fn tool_data(tool: &Tool) -> Data {
    let ToolHints { title: _, read_only, destructive, idempotent, open_world } = &tool.hints;
    let hints = [
        ("readOnlyHint", read_only),
        ("destructiveHint", destructive),
        ("idempotentHint", idempotent),
        ("openWorldHint", open_world),
    ];
    let said = hints.into_iter().filter_map(|(name, hint)| Some((name, Data::from((*hint)?))));
    Data::from_iter([
        ("name", Data::from(tool.name.as_str())),
        ("backend", Data::from(tool.target.backend.as_str())),
        ("annotations", said.collect()),
    ])
}
