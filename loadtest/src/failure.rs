//! Why the load test itself could not go on: what was being done, what came in the way, what to do.
//!
//! A call that fails is not a [`Failure`]: it is a finding, and goes into the report.

use std::fmt;

/// The result of everything here that can stop the run.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Something that stops the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    doing: String,
    why: String,
    remedy: Option<&'static str>,
}

impl Failure {
    /// `doing` begins with a verb and names the object: "opening /run/x".
    pub(crate) fn new(doing: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { doing: doing.into(), why: why.to_string(), remedy: None }
    }

    /// The same failure with what the reader can do about it.
    #[must_use]
    pub(crate) fn with_remedy(self, remedy: &'static str) -> Self {
        Self { remedy: Some(remedy), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.why)?;
        self.remedy.map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl std::error::Error for Failure {}

/// Says what was being done when an error came.
pub(crate) trait Doing<T> {
    /// Turns the error into a [`Failure`]; `what` is called only then.
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|why| Failure::new(what(), why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let bare = Err::<(), _>("no such file").doing(|| "opening x").expect_err("an error");
        assert_eq!(bare.to_string(), "opening x: no such file");
        assert_eq!(bare.with_remedy("create it").to_string(), "opening x: no such file; create it");
    }
}
