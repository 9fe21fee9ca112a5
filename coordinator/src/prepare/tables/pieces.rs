//! A file in pieces, of which the next is read while one is looked at.

use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use super::fill;

/// Bytes of a piece.
pub(super) const PIECE: usize = 256 << 10;
/// Pieces that are read ahead, and the length of a file from which on that is worth a thread.
const AHEAD: usize = 4;
const WORTH: u64 = 4 << 20;

/// Gives a file piece by piece.
pub(super) trait Pieces {
    /// Puts the next piece in place of `piece`, which is full but for the last one of the file. Returns its length; 0: there is none.
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<usize>;
}

impl<R: Read> Pieces for R {
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<usize> {
        piece.resize(PIECE, 0);
        fill(self, piece)
    }
}

/// Has `take` take the pieces of `file`, read by another thread where that pays.
pub(super) fn of_file<T>(mut file: &File, take: impl FnOnce(&mut dyn Pieces) -> T) -> T {
    if file.metadata().map_or(0, |metadata| metadata.len()) < WORTH {
        return take(&mut file);
    }
    thread::scope(|scope| {
        let (full, pieces) = sync_channel(AHEAD);
        let (empty, used) = channel();
        let read_ahead = move || read(file, &full, &used);
        match thread::Builder::new().name("read ahead".into()).spawn_scoped(scope, read_ahead) {
            // It ends with these channels, not later than its next piece.
            Ok(_) => take(&mut Ahead { pieces, empty }),
            // Without a thread it takes longer.
            Err(_) => take(&mut file),
        }
    })
}

type Piece = io::Result<(Vec<u8>, usize)>;

fn read(mut file: &File, full: &SyncSender<Piece>, used: &Receiver<Vec<u8>>) {
    loop {
        let mut piece = used.try_recv().unwrap_or_default();
        let read = file.next(&mut piece).map(|read| (piece, read));
        let ends = !matches!(read, Ok((_, 1..)));
        if full.send(read).is_err() || ends {
            return;
        }
    }
}

struct Ahead {
    pieces: Receiver<Piece>,
    empty: Sender<Vec<u8>>,
}

impl Pieces for Ahead {
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<usize> {
        // The reader has ended: so has the file.
        let Ok(next) = self.pieces.recv() else { return Ok(0) };
        let (next, read) = next?;
        let _ = self.empty.send(std::mem::replace(piece, next));
        Ok(read)
    }
}
