//! A mutex for short, panic-free critical sections. It is never held across an await. A panic elsewhere does
//! not make its content unusable.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A value behind a mutex that ignores poisoning.
#[derive(Debug, Default)]
pub(crate) struct UnpoisonedMutex<T>(Mutex<T>);

impl<T> UnpoisonedMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
