//! What the users of `compose/` may do on the real servers, and what not.

use std::future::Future;

use fanfold_shared::fleet::names;
use fanfold_shared::ids::JobId;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind, ExchangeKind};

use crate::servers::{Redis, Secrets, Servers};

const ACCESS_REFUSED: u16 = 403;

/// A user of the broker, who opens a channel for each thing to try: a refusal closes it.
struct User {
    connection: Connection,
}

impl User {
    async fn connect(servers: &Servers, secrets: &Secrets, name: &str) -> User {
        let [address, _] = servers.addresses(secrets, name);
        let address = std::fs::read_to_string(address).unwrap();
        let connection = Connection::connect(&address, ConnectionProperties::default()).await;
        User { connection: connection.expect("the user may connect") }
    }

    /// `None`: it was done. Otherwise the broker's code.
    async fn tries<T, F: Future<Output = lapin::Result<T>>>(&self, what: impl FnOnce(Channel) -> F) -> Option<u16> {
        let channel = self.connection.create_channel().await.expect("a channel");
        match what(channel).await {
            Ok(_) => None,
            Err(error) => match error.kind() {
                ErrorKind::ProtocolError(error) => Some(error.get_id()),
                other => panic!("not the broker's word: {other:?}"),
            },
        }
    }

    async fn publishes(&self, exchange: &str, key: &str) -> Option<u16> {
        self.tries(async |channel: Channel| {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let properties = BasicProperties::default();
            channel
                .basic_publish(exchange.into(), key.into(), BasicPublishOptions::default(), b"x", properties)
                .await?
                .await?;
            // A refusal comes as the end of the channel; whatever is asked next hears of it.
            channel.confirm_select(ConfirmSelectOptions::default()).await
        })
        .await
    }

    async fn consumes(&self, queue: &str) -> Option<u16> {
        self.tries(async |channel: Channel| {
            channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await
        })
        .await
    }

    async fn declares(&self, queue: &str, exclusive: bool) -> Option<u16> {
        let options = QueueDeclareOptions { durable: !exclusive, exclusive, ..QueueDeclareOptions::default() };
        self.tries(async |channel: Channel| channel.queue_declare(queue.into(), options, FieldTable::default()).await)
            .await
    }

    async fn declares_exchange(&self, exchange: &str) -> Option<u16> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        self.tries(async |channel: Channel| {
            channel.exchange_declare(exchange.into(), ExchangeKind::Direct, options, FieldTable::default()).await
        })
        .await
    }

    async fn binds(&self, queue: &str, exchange: &str, key: &str) -> Option<u16> {
        self.tries(async |channel: Channel| {
            channel
                .queue_bind(
                    queue.into(),
                    exchange.into(),
                    key.into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
        })
        .await
    }

    async fn deletes(&self, queue: &str) -> Option<u16> {
        self.tries(async |channel: Channel| channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await)
            .await
    }
}

/// The broker: what is there is made by the coordinator; then the worker tries its own work, and everything else.
pub fn of_the_broker(servers: &Servers, secrets: &Secrets) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let job = JobId("score-1a2b3c4d".into());
        let (tasks, results) = (names::tasks_queue(&job), names::results_queue(&job));
        let (tickets, own) = (names::nodes_queue("default"), names::worker_queue("host-abc123"));
        let coordinator = User::connect(servers, secrets, "coordinator").await;
        for exchange in [names::TASKS, names::RESULTS, names::CONTROL, names::NODES] {
            assert_eq!(coordinator.declares_exchange(exchange).await, None, "{exchange}");
        }
        // The queue of tickets is among the definitions, for workers that are there before the first job.
        for (queue, exchange) in [(&tasks, names::TASKS), (&results, names::RESULTS)] {
            assert_eq!(coordinator.declares(queue, false).await, None, "{queue}");
            assert_eq!(coordinator.binds(queue, exchange, &job.0).await, None, "{queue}");
        }
        assert_eq!(coordinator.declares("somebody-elses", false).await, Some(ACCESS_REFUSED));

        let worker = User::connect(servers, secrets, "worker").await;
        assert_eq!(worker.declares(&own, true).await, None);
        assert_eq!(worker.binds(&own, names::CONTROL, "host-abc123").await, None);
        assert_eq!(worker.publishes(names::RESULTS, &job.0).await, None);
        for queue in [&own, &tickets, &tasks] {
            assert_eq!(worker.consumes(queue).await, None, "{queue}");
        }

        for exchange in [names::TASKS, names::NODES, names::CONTROL] {
            assert_eq!(worker.publishes(exchange, &job.0).await, Some(ACCESS_REFUSED), "publishes to {exchange}");
        }
        // The default exchange reaches every queue by its name.
        assert_eq!(worker.publishes("", &tasks).await, Some(ACCESS_REFUSED));
        assert_eq!(worker.publishes("", names::JOBS).await, Some(ACCESS_REFUSED));
        assert_eq!(worker.consumes(&results).await, Some(ACCESS_REFUSED));
        assert_eq!(worker.binds(&own, names::RESULTS, &job.0).await, Some(ACCESS_REFUSED), "a copy of all results");
        assert_eq!(worker.binds(&own, names::TASKS, &job.0).await, Some(ACCESS_REFUSED), "a copy of all tasks");
        assert_eq!(worker.binds(&tickets, names::CONTROL, "x").await, Some(ACCESS_REFUSED));
        for queue in
            [&tasks, &results, &tickets, &names::tasks_queue(&JobId("new-1a2b3c4d".into())), &"anything".to_string()]
        {
            assert_eq!(worker.declares(queue, false).await, Some(ACCESS_REFUSED), "declares {queue}");
            assert_eq!(worker.deletes(queue).await, Some(ACCESS_REFUSED), "deletes {queue}");
        }
        let purged = worker.tries(async |channel: Channel| {
            channel.queue_purge(results.as_str().into(), QueuePurgeOptions::default()).await
        });
        assert_eq!(purged.await, Some(ACCESS_REFUSED));
        assert_eq!(worker.declares_exchange("fanfold.mine").await, Some(ACCESS_REFUSED));
        let gone = worker.tries(async |channel: Channel| {
            channel.exchange_delete(names::RESULTS.into(), ExchangeDeleteOptions::default()).await
        });
        assert_eq!(gone.await, Some(ACCESS_REFUSED));

        for queue in [&tasks, &results, &tickets] {
            assert_eq!(coordinator.deletes(queue).await, None, "{queue}");
        }
    });
    let guest = format!("amqp://guest:guest@127.0.0.1:{}/fanfold", servers.broker_port);
    let guest = runtime.block_on(Connection::connect(&guest, ConnectionProperties::default()));
    assert!(guest.is_err(), "RabbitMQ's own default user must not be there");
}

/// Redis: neither user may do more than its program does.
pub fn of_redis(servers: &Servers, secrets: &Secrets) {
    let mut anybody = Redis { stream: std::net::TcpStream::connect(("127.0.0.1", servers.redis_port)).unwrap() };
    assert!(anybody.says("PING").starts_with("-NOAUTH"));
    let mut health = Redis::connect(servers.redis_port, "health", "anything");
    assert_eq!(health.says("PING"), "+PONG");
    assert!(health.says("GET fanfold:v1:workers").starts_with("-NOPERM"));

    let allowed = [
        ("worker", "HINCRBY fanfold:v1:hand-overs:score-1a2b3c4d 0-1:1 1"),
        ("worker", "SET fanfold:v1:worker:host-abc123 {} EX 30"),
        ("worker", "ZADD fanfold:v1:workers 1 host-abc123"),
        ("coordinator", "ZRANGEBYSCORE fanfold:v1:workers 0 +inf"),
        ("coordinator", "MGET fanfold:v1:worker:host-abc123"),
        ("coordinator", "DEL fanfold:v1:hand-overs:score-1a2b3c4d"),
    ];
    for (user, command) in allowed {
        let mut redis = Redis::connect(servers.redis_port, user, &secrets.password(&format!("redis_{user}")));
        let answer = redis.says(command);
        assert!(!answer.starts_with('-'), "{user}: {command}: {answer}");
    }
    for user in ["worker", "coordinator"] {
        let mut redis = Redis::connect(servers.redis_port, user, &secrets.password(&format!("redis_{user}")));
        let refused = [
            "SET outside 1",
            "DEL outside",
            "MGET outside",
            "EVAL return 0",
            "FCALL f 0",
            "BLPOP fanfold:v1:x 0",
            "SUBSCRIBE fanfold:v1:x",
            "PUBLISH fanfold:v1:x y",
            "KEYS *",
            "SCAN 0",
            "FLUSHALL",
            "CONFIG GET *",
            "ACL LIST",
            "CLIENT LIST",
            "MONITOR",
            "SHUTDOWN",
            "REPLICAOF 127.0.0.1 1",
            "MODULE LIST",
        ];
        for command in refused {
            let answer = redis.says(command);
            assert!(answer.starts_with("-NOPERM"), "{user}: {command}: {answer}");
        }
    }
}
