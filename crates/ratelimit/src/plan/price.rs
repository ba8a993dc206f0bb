//! Prices by expression: the cost of a call from its content, and its final cost from its result.

use std::fmt;

use vmcp_domain::{Caller, Reply, Tool, ToolHints};
use vmcp_expression::{Data, Expression, ExpressionValue, LoopScope};
use vmcp_json::Json;

/// The variables of a price before the call.
const BEFORE: &[&str] = &["args", "tool", "claims"];
/// The variables of a price after the call.
const AFTER: &[&str] = &["args", "tool", "claims", "cost", "result"];

/// The members of the variables that the gateway itself defines.
const MEMBERS: [(&str, &[&str]); 2] = [
    ("tool", &["name", "backend", "annotations"]),
    ("result", &["bytes", "isError", "content", "structuredContent", "_meta"]),
];

/// The largest arguments, claims or member of a result over which an expression is evaluated, in bytes. The
/// evaluation happens before a limit can refuse the call.
const DATA_BYTES_MAX: usize = 256 << 10;
/// The same bound for an expression with a loop, which takes a hundred times as long.
const LOOP_BYTES_MAX: usize = 64 << 10;

/// A price in tokens, given by an expression.
#[derive(Debug)]
pub struct Price {
    text: String,
    expression: Expression,
    tokens_max: u32,
}

/// Why a call has no price: its content lacks a value that the expression needs, or has a value of another
/// type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// The text may quote the content of the call, so only the caller may see it.
    #[error("{0}")]
    QuotesCall(String),
    /// The text is the same for every such call and quotes nothing.
    #[error("{0}")]
    Plain(String),
}

impl PriceError {
    /// The text for the log, which quotes no argument.
    pub(crate) fn for_log(&self) -> &str {
        match self {
            Self::QuotesCall(_) => {
                "the expression cannot be evaluated for this call; the caller's error says why"
            }
            Self::Plain(text) => text,
        }
    }
}

impl fmt::Display for Price {
    /// Writes the expression.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Price {
    /// A price from the content of a call. `args` are its arguments, `tool` is `{name, backend,
    /// annotations}`, and `claims` are those of the caller.
    ///
    /// # Errors
    /// A sentence without a subject that says what is wrong with the expression.
    pub fn new_before_call(text: &str) -> Result<Self, String> {
        Self::compile(text, BEFORE)
    }

    /// A price from the result of a call. It has all variables of [`Price::new_before_call`], and two more.
    /// `cost` is what the call paid before. `result` is `{bytes, isError, content, structuredContent,
    /// _meta}`, without the members that the result lacks.
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
            to_tokens(expression.evaluate([]))
                .map_err(|error| format!("is not a price expression: {error}"))?;
        }
        Ok(Self { text: text.to_owned(), expression, tokens_max: u32::MAX })
    }

    /// The same price with an upper bound, in tokens.
    #[must_use]
    pub fn with_tokens_max(self, most: u32) -> Self {
        Self { tokens_max: most, ..self }
    }

    /// The cost of a call, in tokens. Fractions are rounded up and negative values cost nothing. A value
    /// above `u32::MAX` becomes `u32::MAX`, which is more than any bucket holds.
    ///
    /// # Errors
    /// [`PriceError`] if the expression cannot be evaluated for this call, or its value is not a number.
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

/// Converts the value of an expression to tokens.
fn to_tokens(outcome: Result<ExpressionValue, String>) -> Result<u32, PriceError> {
    match outcome.map_err(PriceError::QuotesCall)? {
        ExpressionValue::Int(whole) => Ok(u32::try_from(whole.max(0)).unwrap_or(u32::MAX)),
        ExpressionValue::Float(number) if number.is_finite() => Ok(rounded_up(number)),
        ExpressionValue::Float(_) | ExpressionValue::Bool(_) | ExpressionValue::Other => {
            Err(PriceError::Plain("does not evaluate to a number".to_owned()))
        }
    }
}

impl Price {
    fn bytes_max(&self) -> usize {
        if self.expression.has_loop() { LOOP_BYTES_MAX } else { DATA_BYTES_MAX }
    }

    /// The variable `result`, with the members that the expression uses.
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

/// The call that is priced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PricedCall<'a> {
    pub(crate) tool: &'a Tool,
    pub(crate) caller: &'a Caller,
    pub(crate) arguments: Option<&'a Json>,
    /// What the call paid before, in tokens, and its result.
    pub(crate) after: Option<(u32, &'a Reply)>,
}

impl PricedCall<'_> {
    /// The variable `claims`; empty for a caller without identity.
    fn claims_data(&self, bytes_max: usize) -> Result<Data, PriceError> {
        let Caller::Known(identity) = self.caller else { return Ok(Data::from_iter([])) };
        let mut claims = identity.claims.clone();
        claims.insert("iss", Json::string(&identity.issuer));
        claims.insert("sub", Json::string(&identity.subject));
        parse_data(&claims.to_json(), "the claims of the caller", bytes_max)
    }

    /// The variable `args`; empty for a call without arguments. A member name that occurs twice, or in
    /// another letter case than in `read`, is an error: the backend might read another value than the price
    /// does.
    fn arguments_data(&self, read: &[String], bytes_max: usize) -> Result<Data, PriceError> {
        let Some(arguments) = self.arguments else { return Ok(Data::from_iter([])) };
        let arguments_data = parse_data(arguments, "the arguments", bytes_max)?;
        let ambiguous = |fault| PriceError::QuotesCall(format!("the arguments have no one price: {fault}"));
        arguments.check_member_names_deep(read).map_err(ambiguous)?;
        Ok(arguments_data)
    }
}

/// Rounds up and saturates; exact for every price that a bucket can hold.
fn rounded_up(number: f64) -> u32 {
    let whole = number.ceil().clamp(0.0, f64::from(u32::MAX));
    // The value is whole and in range, so the cast loses nothing.
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
