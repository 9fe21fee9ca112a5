//! Tells other services of the jobs' states, on the exchange `fanfold.events`: in order, at least once, however often service and broker die
//! meanwhile. Events wait in the store until the broker has confirmed them; nobody listening is no reason to keep them.

use std::time::Duration;

use fanfold_shared::backend::rabbitmq::{Broker, Outgoing, Properties, Publisher, Unroutable};
use fanfold_shared::clock::{rfc3339, wall_us};
use fanfold_shared::fleet::{JobEvent, names};
use fanfold_shared::ids::JobId;
use fanfold_shared::state::JobState;

use super::store::JobStore;
use crate::report::Status;

/// Published at once.
const GROUP: u32 = 64;
/// The wait for the broker's word.
const LIMIT: Duration = Duration::from_secs(10);

/// The event that `job` came into `state`. `status` has its figures, as far as they are known.
pub fn event(job: &JobId, name: &str, state: JobState, cause: Option<&str>, status: Option<&Status>) -> JobEvent {
    let counts = status.map(|status| status.counts.clone()).unwrap_or_default();
    JobEvent {
        version: 1,
        job_id: job.clone(),
        name: name.into(),
        state: state.name().into(),
        cause: cause.map(str::to_string),
        time: rfc3339(wall_us()),
        items: counts.items,
        items_succeeded: counts.items_succeeded,
        items_failed: counts.items_failed,
        output: status.and_then(|status| status.output.file.clone()),
    }
}

/// Publishes what waits in the store.
pub struct Events {
    publisher: Publisher,
}

impl Events {
    /// Over `broker`.
    pub fn new(broker: &Broker) -> Events {
        Events { publisher: broker.publisher(Unroutable::Drop, 1 << 20) }
    }

    /// Publishes a group. False: nothing waits, or the broker does not take it now.
    pub fn publish(&self, store: &JobStore) -> bool {
        let Ok(untold) = store.untold(GROUP) else { return false };
        let Some(&(last, ..)) = untold.last() else { return false };
        let messages = untold.into_iter().map(|(seq, routing_key, body)| Outgoing {
            exchange: names::EVENTS.into(),
            routing_key,
            body,
            properties: Properties {
                content_type: Some("application/json".into()),
                // The same if it has to be published again: who can't bear an event twice knows it by this.
                message_id: Some(format!("event-{seq}")),
                ..Properties::default()
            },
        });
        let confirmed = self.publisher.publish_and_wait(messages.collect(), LIMIT);
        matches!(confirmed, Ok(true)) && store.told(last).is_ok()
    }
}
