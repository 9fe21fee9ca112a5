//! `triangle`: what the broker can do. Tasks are published and confirmed, two consumers publish a result for each and wait for its confirm
//! before they acknowledge the task, and one more consumes and acknowledges the results. Quorum queues, batches of 64, prefetch 64.
//!
//! Prints `{"seconds": …}`: from the first publish to the acknowledgement of the last result.

use std::time::Instant;

use futures_util::future::{join, join_all};
use futures_util::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, PublisherConfirm, Result};

/// Bytes of a task, and of a result, for each mini-batch.
const BYTES: usize = 200;
/// Consumers of tasks.
const WORKERS: usize = 2;
/// Unacknowledged deliveries of each.
const PREFETCH: u16 = 64;
/// Messages that are confirmed or acknowledged together.
const TOGETHER: usize = 64;

/// See the module documentation.
pub fn run(arguments: &[String]) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let [url, n, pack] = arguments else {
        return Err("usage: fanfold-yardstick triangle URL MINI_BATCHES MINI_BATCHES_PER_MESSAGE".into());
    };
    let (n, pack) = (n.parse::<usize>()?, pack.parse::<usize>()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let seconds = runtime.block_on(triangle(url, n.div_ceil(pack), pack * BYTES))?;
    println!("{}", serde_json::json!({ "seconds": seconds }));
    Ok(())
}

async fn channel(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

async fn triangle(url: &str, messages: usize, bytes: usize) -> Result<f64> {
    let (_tasks_connection, tasks) = channel(url).await?;
    let (_results_connection, results) = channel(url).await?;
    let (task_queue, result_queue) = ("yardstick-tasks", "yardstick-results");
    for queue in [task_queue, result_queue] {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        tasks.queue_declare(queue.into(), durable, arguments).await?;
    }
    let mut connections = Vec::new();
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let (connection, channel) = channel(url).await?;
        let consumer = consumer(&channel, task_queue, PREFETCH).await?;
        connections.push(connection);
        workers.push(tokio::spawn(work(channel, consumer, result_queue, vec![b'r'; bytes])));
    }
    let mut consumer = consumer(&results, result_queue, 1024).await?;
    let started = Instant::now();
    let publish = async {
        let (body, mut left, mut waiting) = (vec![b't'; bytes], messages, Vec::new());
        while left > 0 {
            let count = left.min(4 * TOGETHER);
            let sent = send(&tasks, task_queue, &body, count).await?;
            confirmed(std::mem::replace(&mut waiting, sent)).await?;
            left -= count;
        }
        confirmed(waiting).await
    };
    let collect = async {
        let mut seen = 0;
        while seen < messages {
            let (tag, count) = take(&mut consumer, 512).await?;
            results.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
            seen += count;
        }
        // Acknowledgements are not answered: this round trip is.
        results.basic_qos(1, BasicQosOptions::default()).await
    };
    let (published, collected) = join(publish, collect).await;
    published.and(collected)?;
    let seconds = started.elapsed().as_secs_f64();
    workers.iter().for_each(tokio::task::JoinHandle::abort);
    for queue in [task_queue, result_queue] {
        tasks.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    }
    Ok(seconds)
}

async fn consumer(channel: &Channel, queue: &str, prefetch: u16) -> Result<Consumer> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await
}

async fn work(channel: Channel, mut consumer: Consumer, results: &str, body: Vec<u8>) -> Result<()> {
    // Acknowledged by another task, so that the next results are published meanwhile.
    let (sent, mut waiting) = tokio::sync::mpsc::channel::<(u64, Vec<PublisherConfirm>)>(4);
    let acknowledge = async {
        while let Some((mut tag, confirms)) = waiting.recv().await {
            confirmed(confirms).await?;
            while let Ok((next, more)) = waiting.try_recv() {
                confirmed(more).await?;
                tag = next;
            }
            channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
        Ok(())
    };
    let publish = async {
        loop {
            let (tag, count) = take(&mut consumer, TOGETHER).await?;
            let confirms = send(&channel, results, &body, count).await?;
            if sent.send((tag, confirms)).await.is_err() {
                return Ok(());
            }
        }
    };
    let (acknowledged, published) = join(acknowledge, publish).await;
    acknowledged.and(published)
}

/// Publishes messages; returns the confirms that are still to come.
async fn send(channel: &Channel, queue: &str, body: &[u8], count: usize) -> Result<Vec<PublisherConfirm>> {
    let sends = (0..count).map(|_| {
        let persistent = BasicProperties::default().with_delivery_mode(2);
        channel.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), body, persistent)
    });
    join_all(sends).await.into_iter().collect()
}

async fn confirmed(confirms: Vec<PublisherConfirm>) -> Result<()> {
    for confirm in join_all(confirms).await {
        assert!(confirm?.is_ack(), "the broker takes everything");
    }
    Ok(())
}

/// What is there, at least one delivery and `most` at most: the last tag, and how many.
async fn take(consumer: &mut Consumer, most: usize) -> Result<(u64, usize)> {
    let first = consumer.next().await.expect("the queue is there")?;
    let (mut tag, mut count) = (first.delivery_tag, 1);
    while count < most {
        let Some(Some(next)) = consumer.next().now_or_never() else { break };
        tag = next?.delivery_tag;
        count += 1;
    }
    Ok((tag, count))
}
