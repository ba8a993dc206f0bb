//! Comparison of member names without regard to letter case. Go's `encoding/json` matches members that way
//! and takes the last of several. Without this check such a backend could execute another value than the one
//! a policy judged.

use std::borrow::Cow;
use std::collections::HashSet;

use icu_casemap::CaseMapper;

use crate::members::{Members, decode_key};
use crate::value::Json;

/// True when two names differ at most in letter case: Unicode simple case folding, in which U+017F equals `s`
/// and U+212A equals `k`. U+0130 and U+0131 also equal `i`, as in some runtimes.
#[must_use]
pub fn eq_ignore_case(left: &str, right: &str) -> bool {
    if left.is_ascii() && right.is_ascii() {
        return left.eq_ignore_ascii_case(right);
    }
    left.chars().map(fold_char).eq(right.chars().map(fold_char))
}

/// Returns the spelling that all names equal under [`eq_ignore_case`] share.
#[must_use]
pub fn fold_case(name: &str) -> Cow<'_, str> {
    if name.is_ascii() {
        return match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
    }
    Cow::Owned(name.chars().map(fold_char).collect())
}

fn fold_char(c: char) -> char {
    match c {
        // Java and .NET compare character by character, and both of these fold to `i` there.
        '\u{130}' | '\u{131}' => 'i',
        c => CaseMapper::new().simple_fold(c),
    }
}

/// A member that two readers may understand differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguity {
    /// A name occurs twice.
    #[error("`{0}` occurs twice")]
    Duplicate(String),
    /// A name differs only in letter case from one that the reader knows.
    #[error("`{given}` differs from `{known}` only in letter case; write `{known}`")]
    CaseMismatch {
        /// The name as it was sent.
        given: String,
        /// The name that the reader knows.
        known: String,
    },
}

impl Members {
    /// Rejects members that another reader would understand differently: one that ignores letter case, or
    /// takes another of several. A name of `known` may occur only once and only in this spelling. Other names
    /// are not checked.
    ///
    /// # Errors
    /// The first member that breaks this rule.
    pub fn check_member_names(&self, known: &[&str]) -> Result<(), Ambiguity> {
        for (index, (key, _)) in self.0.iter().enumerate() {
            let name = decode_key(key);
            let Some(one) = known.iter().find(|one| eq_ignore_case(one, &name)) else { continue };
            if **one != *name {
                return Err(Ambiguity::CaseMismatch { given: name.into_owned(), known: (*one).to_owned() });
            }
            let earlier = self.0.get(..index).unwrap_or_default();
            if earlier.iter().any(|(key, _)| decode_key(key) == name) {
                return Err(Ambiguity::Duplicate(name.into_owned()));
            }
        }
        Ok(())
    }
}

impl Json {
    /// Rejects a value in which, at any depth, the names of two members of an object differ at most in letter
    /// case, or a member differs from a name of `read` only in letter case.
    ///
    /// # Errors
    /// The first such member.
    pub fn check_member_names_deep<N: AsRef<str>>(&self, read: &[N]) -> Result<(), Ambiguity> {
        if self.is_object() {
            let members = self.members().unwrap_or_default();
            let mut seen: HashSet<Cow<'_, str>> = HashSet::with_capacity(members.len());
            for (key, value) in &members.0 {
                let name = decode_key(key);
                let differs = |known: &&N| known.as_ref() != name && eq_ignore_case(known.as_ref(), &name);
                if let Some(known) = read.iter().find(differs) {
                    let known = known.as_ref().to_owned();
                    return Err(Ambiguity::CaseMismatch { given: name.into_owned(), known });
                }
                if !seen.insert(Cow::Owned(fold_case(&name).into_owned())) {
                    return Err(Ambiguity::Duplicate(name.into_owned()));
                }
                value.check_member_names_deep(read)?;
            }
        } else if self.as_str().starts_with('[') {
            for element in self.elements().unwrap_or_default() {
                element.check_member_names_deep(read)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
