//! How long commits take, in this process: for the metrics of a service.

use std::sync::OnceLock;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// The seconds that commits took, from the first byte written to the end of the transaction.
pub fn commit_seconds() -> &'static Histogram {
    static SECONDS: OnceLock<Histogram> = OnceLock::new();
    // From half a millisecond, a sync of a good disk, to 16 seconds.
    SECONDS.get_or_init(|| Histogram::new(exponential_buckets(0.0005, 2.0, 16)))
}
