//! CEL expressions over claims of bounded size: who takes which role.

use std::sync::Arc;

use vmcp_domain::Identity;
use vmcp_expression::{Data, Expression, ExpressionValue, LoopScope};

use crate::error::CredentialError;

/// The largest claims an expression is evaluated over.
const CLAIMS_BYTES_MAX: usize = 16 << 10;

/// The claims of one caller as CEL sees them.
pub(crate) struct CelClaims(Data);

impl CelClaims {
    /// The claims as the issuer made them; `iss` and `sub` are there also when they were taken out.
    pub(crate) fn from_identity(identity: &Identity) -> Result<Self, CredentialError> {
        let wrong = |why| CredentialError::Claim { claim: Arc::from("*"), why };
        let text = identity.claims.to_json();
        if text.as_str().len() > CLAIMS_BYTES_MAX {
            return Err(wrong("are too large for role matchers"));
        }
        let mut claims: serde_json::Map<String, serde_json::Value> =
            text.decode().map_err(|_| wrong("cannot be read for role matchers"))?;
        for (name, text) in [("iss", &identity.issuer), ("sub", &identity.subject)] {
            claims.insert(name.to_owned(), text.as_str().into());
        }
        Ok(Self(serde_json::Value::Object(claims).into()))
    }
}

/// A compiled expression.
pub(crate) struct CelMatcher(Expression);

impl CelMatcher {
    /// Compiles an expression over `claims`. The error says what is wrong without a path.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        Expression::compile(text, &["claims"], LoopScope::AnyVariable).map(Self)
    }

    /// Whether the expression is true. One that fails or is no truth value is not.
    pub(crate) fn is_match(&self, claims: &CelClaims) -> bool {
        self.0.evaluate([("claims", claims.0.clone())]) == Ok(ExpressionValue::Bool(true))
    }
}

#[cfg(test)]
mod tests;
