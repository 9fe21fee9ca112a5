//! `pipe`: hands each item to bare Python children over pipes and writes what they answer into one file.
//!
//! It does the least that a program with Python children can do: no ledger, no fsync, no logs, no timeouts, no retries. A frame is
//! a length (u32, big-endian) and a JSON list of mini-batches, here always one mini-batch; each child has up to `depth` frames
//! unanswered. One thread for each child feeds it and reads it, one more writes the file.
//!
//! Prints `{"seconds": …}`: from the first hand-over, all children being ready, to the last row written.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

/// See the module documentation.
pub fn run(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [items, out, children, depth, per, python, script] = arguments else {
        return Err(
            "usage: fanfold-yardstick pipe ITEMS OUT CHILDREN DEPTH ITEMS_PER_MINI_BATCH PYTHON CHILD_SCRIPT".into()
        );
    };
    let (children, depth, per) = (children.parse::<usize>()?, depth.parse::<usize>()?, per.parse::<usize>()?);

    // Before the clock: what the yardstick is asked to hand over, as it goes over the pipe.
    let items = fs::read_to_string(items)?;
    let items: Vec<&str> = items.lines().collect();
    let frames: Vec<Vec<u8>> = items.chunks(per).map(|mini_batch| frame(&[mini_batch])).collect();
    let children: Vec<Child> = (0..children).map(|_| start(python, script)).collect::<io::Result<_>>()?;
    let out = File::create(out)?;

    let next = AtomicUsize::new(0);
    let (answers, waiting) = mpsc::channel();
    let started = Instant::now();
    let (rows, bytes) = thread::scope(|scope| {
        let writer = scope.spawn(move || write_rows(out, waiting));
        let feeders: Vec<_> = children
            .into_iter()
            .map(|child| {
                let (frames, next, answers) = (&frames, &next, answers.clone());
                scope.spawn(move || feed(child, frames, next, depth, &answers))
            })
            .collect();
        drop(answers);
        for feeder in feeders {
            feeder.join().expect("a feeder does not panic")?;
        }
        writer.join().expect("the writer does not panic")
    })?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{}", serde_json::json!({ "seconds": seconds, "rows": rows, "bytes": bytes }));
    Ok(())
}

/// Starts a child and waits until it is ready.
fn start(python: &str, script: &str) -> io::Result<Child> {
    let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut ready = [0];
    child.stdout.as_mut().expect("it was piped").read_exact(&mut ready)?;
    Ok(child)
}

/// A frame with these mini-batches.
fn frame(mini_batches: &[&[&str]]) -> Vec<u8> {
    let body = serde_json::to_vec(mini_batches).expect("strings are always JSON");
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    frame
}

/// Hands the child frames from the common stock, with up to `depth` unanswered, until the stock is empty.
fn feed(
    mut child: Child,
    frames: &[Vec<u8>],
    next: &AtomicUsize,
    depth: usize,
    answers: &Sender<Vec<u8>>,
) -> io::Result<()> {
    let mut to_child = child.stdin.take().expect("it was piped");
    let mut from_child = BufReader::with_capacity(1 << 16, child.stdout.take().expect("it was piped"));
    let (mut unanswered, mut more) = (0, true);
    let mut burst = Vec::new();
    loop {
        burst.clear();
        while more && unanswered < depth {
            match frames.get(next.fetch_add(1, Ordering::Relaxed)) {
                Some(frame) => {
                    burst.extend_from_slice(frame);
                    unanswered += 1;
                }
                None => more = false,
            }
        }
        to_child.write_all(&burst)?;
        if unanswered == 0 {
            break;
        }
        let mut length = [0; 4];
        from_child.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        from_child.read_exact(&mut body)?;
        unanswered -= 1;
        if answers.send(body).is_err() {
            break; // the writer failed and says why
        }
    }
    drop(to_child); // the child ends at the end of its input
    child.wait()?;
    Ok(())
}

/// Writes the rows of all answers; returns how many there were, and their bytes.
fn write_rows(out: File, answers: Receiver<Vec<u8>>) -> io::Result<(usize, usize)> {
    let mut out = BufWriter::with_capacity(1 << 20, out);
    let (mut rows, mut bytes) = (0, 0);
    for body in answers {
        let results: Vec<Vec<Cow<'_, str>>> = serde_json::from_slice(&body)?;
        for row in results.iter().flatten() {
            out.write_all(row.as_bytes())?;
            out.write_all(b"\n")?;
            rows += 1;
            bytes += row.len() + 1;
        }
    }
    out.flush()?;
    Ok((rows, bytes))
}
