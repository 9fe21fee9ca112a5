//! Jobs from the queue `fanfold.jobs`. A message is acknowledged when its job is durable and its sender has been answered, never before; what
//! nobody can read goes to the dead letters.

use std::time::Duration;

use fanfold_shared::backend::Closed;
use fanfold_shared::backend::rabbitmq::{Broker, Consumer, Outgoing, Properties, Publisher, Received, Unroutable};
use fanfold_shared::fleet::{JobReply, JobRequest, names, wire};
use fanfold_shared::report::{ExitCode, Failure};

use super::Service;
use super::submit::Caller;

/// Messages that the broker sends ahead. They are taken one by one: each makes a directory.
const PREFETCH: u16 = 8;
/// Between two looks at whether the service stops.
const LOOK: Duration = Duration::from_millis(250);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Before the next try at what is no fault of the message.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes jobs from the queue.
pub struct Intake {
    consumer: Consumer,
    answers: Publisher,
}

impl Intake {
    /// Over `broker`, which has the queue or will have it.
    pub fn new(broker: &Broker) -> Intake {
        Intake {
            consumer: broker.consumer(names::JOBS, PREFETCH),
            answers: broker.publisher(Unroutable::Drop, 1 << 20),
        }
    }

    /// Takes what comes within a moment.
    ///
    /// # Errors
    /// The broker is closed.
    pub fn take(&self, service: &Service) -> Result<(), Closed> {
        for message in self.consumer.receive(usize::from(PREFETCH), LOOK)? {
            self.one(service, message);
        }
        Ok(())
    }

    fn one(&self, service: &Service, message: Received) {
        let Properties { content_type, message_id, correlation_id, reply_to, .. } = message.properties.clone();
        // Our own queues are no place for answers: somebody could make us write there what he may not write himself.
        let reply_to = reply_to.filter(|queue| !queue.is_empty() && !queue.starts_with("fanfold."));
        let answer = |reply: &JobReply| match &reply_to {
            Some(queue) => self.answer(queue, correlation_id.as_deref(), reply),
            None => false,
        };
        let request: JobRequest = match wire::decode_foreign(content_type.as_deref(), &message.body) {
            Ok(request) => request,
            Err(error) => {
                let hint = Some("send `{\"job_file\": \"path/to/job.yaml\"}` as JSON or MessagePack".to_string());
                answer(&JobReply::Refused { error: error.to_string(), hint });
                super::say(&format!("a message in {} is no job request: {error}", names::JOBS));
                return message.reject();
            }
        };
        let key = message_id.filter(|id| !id.is_empty());
        let caller = Caller { key: key.as_deref(), source: "queue", who: "queue", redelivered: message.redelivered };
        match service.submit(&request, &caller) {
            Ok(accepted) => {
                let job_id = accepted.job.id.clone();
                let job_dir = service.shared().relative(&accepted.job.dir).unwrap_or(accepted.job.dir);
                answer(&JobReply::Accepted { job_id: job_id.clone(), job_dir, duplicate: accepted.duplicate });
                message.ack();
                service.acknowledged(&job_id);
            }
            // The request's own fault. Where nobody hears the answer, the dead letters keep it.
            Err(failure) if failure.exit_code() == ExitCode::Usage => {
                super::say(&format!("a job request in {} is refused: {failure}", names::JOBS));
                match answer(&refused(&failure)) {
                    true => message.ack(),
                    false => message.reject(),
                }
            }
            Err(failure) => {
                super::say(&format!("a job request in {} waits: {failure}", names::JOBS));
                message.requeue();
                service.pause_for(AGAIN);
            }
        }
    }

    /// Whether the answer is safe with the broker.
    fn answer(&self, queue: &str, correlation_id: Option<&str>, reply: &JobReply) -> bool {
        let message = Outgoing {
            exchange: String::new(),
            routing_key: queue.into(),
            body: serde_json::to_vec(reply).expect("plain types can be written"),
            properties: Properties {
                content_type: Some("application/json".into()),
                correlation_id: correlation_id.map(str::to_string),
                ..Properties::default()
            },
        };
        matches!(self.answers.publish_and_wait(vec![message], ANSWER), Ok(true))
    }
}

/// The answer to a request that can't be a job, in the words of the command line.
fn refused(failure: &Failure) -> JobReply {
    JobReply::Refused { error: failure.one_line(), hint: failure.hint() }
}
