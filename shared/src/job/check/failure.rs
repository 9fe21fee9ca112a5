//! What a job bears: tries and thresholds.

use crate::job::reader::Reader;
use crate::job::spec::OnFailure;

pub(super) struct Failure {
    pub(super) error_threshold: i64,
    pub(super) allowed_failed_count: Option<u64>,
    pub(super) allowed_failed_percent: Option<f64>,
    pub(super) run_max_try: u32,
    pub(super) on_failure: OnFailure,
}

/// Reads the thresholds, `run_max_try` and `on_failure`.
pub(super) fn read(reader: &mut Reader) -> Failure {
    Failure {
        error_threshold: reader.whole("error_threshold", -1..=i64::MAX).unwrap_or(-1),
        // -1, and 100 percent, are how the original switches them off.
        allowed_failed_count: reader
            .whole("allowed_failed_count", -1..=i64::MAX)
            .and_then(|count| u64::try_from(count).ok()),
        allowed_failed_percent: reader.real("allowed_failed_percent", 0.0..=100.0).filter(|percent| *percent < 100.0),
        run_max_try: reader.whole("run_max_try", 1..=i64::from(u32::MAX)).map_or(3, |tries| tries as u32),
        on_failure: reader
            .choice("on_failure", &[OnFailure::Drop, OnFailure::Bisect].map(|choice| (choice.name(), choice)))
            .unwrap_or_default(),
    }
}
