//! Access to arguments by a path of property names.

use vmcp_json::{Ambiguity, Json};

/// The value at `path`. `null` counts as absent, as the specification requires.
///
/// # Errors
/// When a member on the path occurs twice or in another letter case, because the backend may then read
/// another value.
pub(crate) fn value_at(arguments: &Json, path: &[String]) -> Result<Option<Json>, Ambiguity> {
    let mut value = arguments.clone();
    for step in path {
        let Ok(members) = value.members() else { return Ok(None) };
        members.check_member_names(&[step])?;
        let Some(inner) = members.get(step) else { return Ok(None) };
        value = inner.clone();
    }
    Ok((!value.is_null()).then_some(value))
}
