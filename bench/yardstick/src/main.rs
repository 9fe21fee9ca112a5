//! The yardstick: hands each item to bare Python children over pipes and writes what they answer into one file.
//!
//! It does the least that a program with Python children can do: no ledger, no fsync, no logs, no timeouts, no retries. A frame is
//! a length (u32, big-endian) and a JSON list of mini-batches, here always one mini-batch of one item; each child has up to
//! `depth` frames unanswered. One thread for each child feeds it and reads it, one more writes the file.
//!
//! Started by `bench.py`; prints `{"seconds": …}`: from the first hand-over, all children being ready, to the last row written.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

const USAGE: &str = "usage: fanfold-yardstick ITEMS OUT CHILDREN DEPTH PYTHON CHILD_SCRIPT";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [items, out, children, depth, python, script] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let (children, depth) = (children.parse::<usize>()?, depth.parse::<usize>()?);

    // Before the clock: what the yardstick is asked to hand over, as it goes over the pipe.
    let frames: Vec<Vec<u8>> = fs::read_to_string(items)?.lines().map(|item| frame(&[[item]])).collect();
    let children: Vec<Child> = (0..children).map(|_| start(python, script)).collect::<io::Result<_>>()?;
    let out = File::create(out)?;

    let next = AtomicUsize::new(0);
    let (answers, waiting) = mpsc::channel();
    let started = Instant::now();
    let rows = thread::scope(|scope| {
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
    if rows != frames.len() {
        return Err(format!("{rows} rows came back for {} items", frames.len()).into());
    }
    println!("{}", serde_json::json!({ "seconds": seconds }));
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
fn frame(mini_batches: &[[&str; 1]]) -> Vec<u8> {
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

/// Writes the rows of all answers; returns how many there were.
fn write_rows(out: File, answers: Receiver<Vec<u8>>) -> io::Result<usize> {
    let mut out = BufWriter::with_capacity(1 << 20, out);
    let mut rows = 0;
    for body in answers {
        let results: Vec<Vec<Cow<'_, str>>> = serde_json::from_slice(&body)?;
        for row in results.iter().flatten() {
            out.write_all(row.as_bytes())?;
            out.write_all(b"\n")?;
            rows += 1;
        }
    }
    out.flush()?;
    Ok(rows)
}
