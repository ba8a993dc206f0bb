//! CEL expressions over claims of limited size, which decide which role a caller gets.

use std::sync::Arc;

use vmcp_domain::Identity;
use vmcp_expression::{Data, Expression, ExpressionValue, LoopScope};

use crate::error::CredentialError;

/// The largest claims that an expression is evaluated over, in bytes.
const CLAIMS_BYTES_MAX: usize = 16 << 10;

/// The claims of one caller, in the form for CEL.
pub(crate) struct CelClaims(Data);

impl CelClaims {
    /// Converts the claims. `iss` and `sub` are always present.
    pub(crate) fn from_identity(identity: &Identity) -> Result<Self, CredentialError> {
        let claim_error = |why| CredentialError::Claim { claim: Arc::from("*"), why };
        let text = identity.claims.to_json();
        if text.as_str().len() > CLAIMS_BYTES_MAX {
            return Err(claim_error("are too large for role matchers"));
        }
        let mut claims: serde_json::Map<String, serde_json::Value> =
            text.decode().map_err(|_| claim_error("cannot be read for role matchers"))?;
        for (name, text) in [("iss", &identity.issuer), ("sub", &identity.subject)] {
            claims.insert(name.to_owned(), text.as_str().into());
        }
        Ok(Self(serde_json::Value::Object(claims).into()))
    }
}

/// A compiled expression.
pub(crate) struct CelMatcher(Expression);

impl CelMatcher {
    /// Compiles an expression over `claims`. The error describes the problem without the setting's path.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        Expression::compile(text, &["claims"], LoopScope::AnyVariable).map(Self)
    }

    /// True when the expression evaluates to `true`. An expression that fails or yields another type does not
    /// match.
    pub(crate) fn is_match(&self, claims: &CelClaims) -> bool {
        self.0.evaluate([("claims", claims.0.clone())]) == Ok(ExpressionValue::Bool(true))
    }
}

#[cfg(test)]
mod tests;
