//! Overrides: other sizes of a limit for the callers that it names.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::Window;
use crate::bucket::rate::Rate;

/// The callers that another size of a limit is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerSelector {
    /// The caller with this subject, of this issuer or of any issuer.
    Subject {
        /// The subject; for an API key, its name.
        subject: Arc<str>,
        /// The issuer; `None` for any.
        issuer: Option<Arc<str>>,
    },
    /// Callers in this group, see [`super::LimitPolicy::group_claims`].
    Group(Arc<str>),
    /// Callers with this claim.
    Claim {
        /// The claim's name, or a path of names separated by dots.
        claim: Arc<str>,
        /// The value, which may be one of a list; `None` for any value.
        value: Option<Arc<str>>,
    },
    /// Callers that match no other override.
    Others,
}

impl CallerSelector {
    /// How closely the selector names a caller. Of several overrides that match, the one with the largest
    /// number applies.
    #[must_use]
    pub fn specificity(&self) -> u8 {
        match self {
            Self::Subject { issuer: Some(_), .. } => 5,
            Self::Subject { issuer: None, .. } => 4,
            Self::Group(_) => 3,
            Self::Claim { value: Some(_), .. } => 2,
            Self::Claim { value: None, .. } => 1,
            Self::Others => 0,
        }
    }
}

impl fmt::Display for CallerSelector {
    /// The text depends only on the selector, not on the index of the override. Parts are length-prefixed, so
    /// different selectors have different texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut part =
            |text: Option<&str>| write!(f, ":{}:{}", text.map_or(0, str::len), text.unwrap_or("*"));
        match self {
            Self::Subject { subject, issuer } => part(Some("subject"))
                .and_then(|()| part(Some(subject)))
                .and_then(|()| part(issuer.as_deref())),
            Self::Group(group) => part(Some("group")).and_then(|()| part(Some(group))),
            Self::Claim { claim, value } => {
                part(Some("claim")).and_then(|()| part(Some(claim))).and_then(|()| part(value.as_deref()))
            }
            Self::Others => part(Some("rest")),
        }
    }
}

/// The size of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitSize {
    /// These windows.
    Windows(Vec<Window>),
    /// No call passes.
    Blocked,
    /// Every call passes: the limit does not count.
    Unlimited,
}

/// Another size of a limit for some callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The callers.
    pub selector: CallerSelector,
    /// The size.
    pub size: LimitSize,
}

/// The overrides of one limit, in descending order of specificity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(Arc<[Override]>);

impl Overrides {
    /// Sorts the overrides by specificity. Of equally specific ones the first takes precedence.
    #[must_use]
    pub fn new(mut overrides: Vec<Override>) -> Self {
        overrides.sort_by_key(|one| std::cmp::Reverse(one.selector.specificity()));
        Self(overrides.into())
    }

    /// True if the limit has one size for all callers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All overrides, in the order in which they are matched.
    pub fn iter(&self) -> impl Iterator<Item = &Override> {
        self.0.iter()
    }

    /// The index of the first override with a matching selector.
    #[must_use]
    pub fn find(&self, fits: impl Fn(&CallerSelector) -> bool) -> Option<u16> {
        let index = self.0.iter().position(|one| fits(&one.selector))?;
        u16::try_from(index).ok()
    }

    /// The selector of the override at an index.
    #[must_use]
    pub fn selector(&self, index: u16) -> Option<&CallerSelector> {
        self.0.get(usize::from(index)).map(|one| &one.selector)
    }

    /// The size at an index that [`Overrides::find`] returned; `windows` if the index is `None`.
    #[must_use]
    pub fn size<'a>(&'a self, index: Option<u16>, windows: &'a [Window]) -> LimitSizeRef<'a> {
        match index.and_then(|index| self.0.get(usize::from(index))).map(|one| &one.size) {
            None => LimitSizeRef::Windows(windows),
            Some(LimitSize::Windows(windows)) => LimitSizeRef::Windows(windows),
            Some(LimitSize::Blocked) => LimitSizeRef::Blocked,
            Some(LimitSize::Unlimited) => LimitSizeRef::Unlimited,
        }
    }
}

/// [`LimitSize`] after applying the overrides of a limit, by reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitSizeRef<'a> {
    /// These windows.
    Windows(&'a [Window]),
    /// No call passes.
    Blocked,
    /// Every call passes.
    Unlimited,
}

impl LimitSizeRef<'_> {
    /// Compares by the long-run rate of calls, then by the burst.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        let number = |size: &Self| match size {
            Self::Blocked => 0,
            Self::Windows(_) => 1,
            Self::Unlimited => 2,
        };
        match (self, other) {
            (Self::Windows(own), Self::Windows(others)) => {
                let (Some(own), Some(others)) = (slowest(own), slowest(others)) else {
                    return Ordering::Equal;
                };
                compare_long_run(own, others).then(own.burst().cmp(&others.burst()))
            }
            _ => number(self).cmp(&number(other)),
        }
    }
}

fn slowest(windows: &[Window]) -> Option<&Rate> {
    windows.iter().map(|window| &window.rate).min_by(|one, other| compare_long_run(one, other))
}

fn compare_long_run(one: &Rate, other: &Rate) -> Ordering {
    let product = |rate: &Rate, by: &Rate| u128::from(rate.configured().0) * by.configured().1.as_micros();
    product(one, other).cmp(&product(other, one))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn windows(of: &[(u64, u64)]) -> Vec<Window> {
        let rate = |(tokens, seconds): &(u64, u64)| {
            Rate::new(*tokens, Duration::from_secs(*seconds), *tokens).unwrap().into()
        };
        of.iter().map(rate).collect()
    }

    #[test]
    fn the_closest_counts_and_the_first_of_equals() {
        let group = |name: &str| CallerSelector::Group(name.into());
        let subject = |issuer: Option<&str>| CallerSelector::Subject {
            subject: "s".into(),
            issuer: issuer.map(Into::into),
        };
        let of = |selector: CallerSelector| Override { selector, size: LimitSize::Blocked };
        let all = [CallerSelector::Others, group("b"), group("a"), subject(None), subject(Some("i"))];
        let overrides = Overrides::new(all.into_iter().map(of).collect());
        let order: Vec<&CallerSelector> = overrides.iter().map(|one| &one.selector).collect();
        assert_eq!(
            order,
            [&subject(Some("i")), &subject(None), &group("b"), &group("a"), &CallerSelector::Others]
        );
        assert_eq!(overrides.find(|selector| matches!(selector, CallerSelector::Group(_))), Some(2));
        assert_eq!(overrides.find(|_| false), None);
    }

    #[test]
    fn sizes_are_compared_by_what_passes_in_the_long_run() {
        let (few, many, burst) =
            (windows(&[(10, 1), (100, 3600)]), windows(&[(200, 3600)]), windows(&[(4800, 86400)]));
        let sizes = [
            LimitSizeRef::Blocked,
            LimitSizeRef::Windows(&few),
            LimitSizeRef::Windows(&many),
            LimitSizeRef::Windows(&burst),
            LimitSizeRef::Unlimited,
        ];
        for (index, size) in sizes.iter().enumerate() {
            for (other_index, other) in sizes.iter().enumerate() {
                assert_eq!(size.compare(other), index.cmp(&other_index), "{size:?} {other:?}");
            }
        }
    }
}
