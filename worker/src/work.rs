//! What a node has to do: tasks as received, handed to slots in pieces, acknowledged when all of a task is answered.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fanfold_shared::backend::Delivery;
use fanfold_shared::message::Task;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::cloud::Local;

/// A slot without work for so long may run copies of what others hold and have not started (design.md, "Child processes").
const STARVING: Duration = Duration::from_secs(1);

/// A task in hand. It is acknowledged when every mini-batch of it was answered and the answers are safe; when it is dropped
/// before, it goes back to the queue.
pub struct Hold {
    /// The mini-batches of the task.
    pub mini_batches: Range<u64>,
    /// Their attempt.
    pub attempt: u32,
    /// Nothing else runs on the node meanwhile.
    pub alone: bool,
    /// The items that are meant, where that is not all of the one mini-batch.
    pub part: Option<Range<u64>>,
    /// When it came.
    pub since: Instant,
    open: Mutex<Open>,
    /// Files that were brought here for mini-batches of it that are not answered.
    local: Mutex<BTreeMap<u64, Arc<Local>>>,
}

struct Open {
    /// One bit for each mini-batch: answered.
    answered: Vec<u64>,
    remaining: u64,
    /// What carries the task: one delivery, several if it was published again or lost with a connection; none when it is leased.
    deliveries: Vec<Delivery<Task>>,
}

impl Hold {
    /// A task just received.
    pub fn new(delivery: Delivery<Task>) -> Arc<Hold> {
        let (mini_batches, attempt) = (delivery.mini_batches.clone(), delivery.attempt);
        let remaining = mini_batches.end - mini_batches.start;
        let answered = vec![0; remaining.div_ceil(64) as usize];
        Arc::new(Hold {
            mini_batches,
            attempt,
            alone: delivery.alone,
            part: delivery.part.clone(),
            since: Instant::now(),
            open: Mutex::new(Open { answered, remaining, deliveries: vec![delivery] }),
            local: Mutex::default(),
        })
    }

    /// The files of this mini-batch that were brought here.
    pub fn local(&self, mini_batch: u64) -> Option<Arc<Local>> {
        lock(&self.local).get(&mini_batch).cloned()
    }

    /// Whether nobody has answered for this mini-batch yet.
    pub fn is_open(&self, mini_batch: u64) -> bool {
        let bit = mini_batch - self.mini_batches.start;
        lock(&self.open).answered[(bit / 64) as usize] >> (bit % 64) & 1 == 0
    }

    /// The mini-batches that nobody has answered for yet, as runs, ascending.
    pub fn open_runs(&self) -> Vec<Range<u64>> {
        let open = lock(&self.open);
        let mut runs: Vec<Range<u64>> = Vec::new();
        for bit in 0..self.mini_batches.end - self.mini_batches.start {
            if open.answered[(bit / 64) as usize] >> (bit % 64) & 1 == 1 {
                continue;
            }
            let mini_batch = self.mini_batches.start + bit;
            match runs.last_mut() {
                Some(last) if last.end == mini_batch => last.end += 1,
                _ => runs.push(mini_batch..mini_batch + 1),
            }
        }
        runs
    }

    /// The task as it came.
    pub fn task(&self) -> Task {
        Task {
            mini_batches: self.mini_batches.clone(),
            attempt: self.attempt,
            alone: self.alone,
            part: self.part.clone(),
        }
    }

    /// Takes what carries it out of it: from then on the task is held without, and dropping it gives nothing back. Empty: it is held so
    /// already, or all of it is answered.
    pub fn lease(&self) -> Vec<Delivery<Task>> {
        std::mem::take(&mut lock(&self.open).deliveries)
    }

    /// Whether it is held without a delivery, and not answered.
    pub fn is_leased(&self) -> bool {
        let open = lock(&self.open);
        open.deliveries.is_empty() && open.remaining > 0
    }

    /// The same task came once more: its earlier delivery was lost with a connection, or there are two of them. They are settled together:
    /// one that was given back now would only come again.
    pub fn renew(&self, delivery: Delivery<Task>) {
        let mut open = lock(&self.open);
        if open.deliveries.is_empty() {
            // Leased, or answered: the message has done what it is for.
            drop(open);
            delivery.ack();
        } else {
            open.deliveries.push(delivery);
        }
    }

    /// The answers for these mini-batches are safe. Answering twice (a copy) changes nothing.
    pub fn answered(&self, mini_batches: impl Iterator<Item = u64>) {
        let mut open = lock(&self.open);
        let mut done_with = Vec::new();
        for mini_batch in mini_batches {
            done_with.extend(lock(&self.local).remove(&mini_batch));
            let bit = mini_batch - self.mini_batches.start;
            let (word, mask) = ((bit / 64) as usize, 1 << (bit % 64));
            if open.answered[word] & mask == 0 {
                open.answered[word] |= mask;
                open.remaining -= 1;
            }
        }
        let deliveries = match open.remaining {
            0 => std::mem::take(&mut open.deliveries),
            _ => Vec::new(),
        };
        // Neither files are removed under the lock nor messages settled.
        drop(open);
        deliveries.into_iter().for_each(Delivery::ack);
        drop(done_with);
    }
}

/// Consecutive mini-batches of one task.
#[derive(Clone)]
pub struct Piece {
    /// The task.
    pub hold: Arc<Hold>,
    /// Which of its mini-batches.
    pub mini_batches: Range<u64>,
}

/// The mini-batches that a node has and no slot has taken; and which slots want some.
pub struct Work {
    state: Mutex<State>,
    /// Signalled when pieces were taken or answered.
    changed: Condvar,
    wakers: Vec<EventFd>,
}

struct State {
    /// What a slot may take.
    pieces: VecDeque<Piece>,
    /// Mini-batches in `pieces`.
    waiting: u64,
    /// Where files have to be brought here first: what still needs that.
    coming: VecDeque<Piece>,
    /// Mini-batches whose files are being brought.
    in_fetch: u64,
    /// Mini-batches that may be ready, or about to be, before a slot takes them; None: nothing has to be brought.
    ahead: Option<u64>,
    /// For each slot: since when it has been ready without work.
    idle_since: Vec<Option<Instant>>,
    /// For each slot: whether it holds mini-batches.
    holding: Vec<bool>,
    drained: bool,
}

impl Work {
    /// No work, for so many slots.
    pub fn new(slots: usize) -> nix::Result<Work> {
        let wakers = (0..slots)
            .map(|_| EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK))
            .collect::<nix::Result<_>>()?;
        let state = State {
            pieces: VecDeque::new(),
            waiting: 0,
            coming: VecDeque::new(),
            in_fetch: 0,
            ahead: None,
            idle_since: vec![None; slots],
            holding: vec![false; slots],
            drained: false,
        };
        Ok(Work { state: Mutex::new(state), changed: Condvar::new(), wakers })
    }

    /// From now on files are brought here before a slot gets a mini-batch: `ahead` of them at the most wait for one.
    pub fn bring_first(&self, ahead: u64) {
        lock(&self.state).ahead = Some(ahead);
    }

    /// Adds a task behind all others. Once drained, it goes back to the queue instead.
    pub fn add(&self, hold: Arc<Hold>) {
        let mini_batches = hold.mini_batches.clone();
        let mut state = lock(&self.state);
        if state.drained {
            drop(state);
            return drop(hold);
        }
        if state.ahead.is_some() {
            state.coming.push_back(Piece { hold, mini_batches });
            self.changed.notify_all();
            return;
        }
        state.waiting += mini_batches.end - mini_batches.start;
        state.pieces.push_back(Piece { hold, mini_batches });
        self.wake_idle(&state);
    }

    /// Waits for a mini-batch whose files are to be brought here. None: there is none any more.
    pub fn next_to_fetch(&self) -> Option<Piece> {
        let mut state = lock(&self.state);
        loop {
            if state.drained {
                return None;
            }
            let room = state.ahead.is_some_and(|ahead| state.waiting + state.in_fetch < ahead);
            if room && let Some(front) = state.coming.front_mut() {
                let start = front.mini_batches.start;
                let piece = Piece { hold: front.hold.clone(), mini_batches: start..start + 1 };
                front.mini_batches.start += 1;
                if front.mini_batches.is_empty() {
                    state.coming.pop_front();
                }
                state.in_fetch += 1;
                return Some(piece);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The files of a mini-batch can't be brought, as the node is to end: it goes back to the queue with its task. No slot may see it, even if the
    /// node is not drained yet.
    pub fn not_fetched(&self, piece: Piece) {
        lock(&self.state).in_fetch -= 1;
        self.changed.notify_all();
        drop(piece);
    }

    /// The files of a mini-batch are not to be brought now: it waits again, before all others.
    pub fn not_now(&self, piece: Piece) {
        let mut state = lock(&self.state);
        state.in_fetch -= 1;
        self.changed.notify_all();
        if state.drained {
            drop(state);
            return drop(piece);
        }
        match state.coming.front_mut() {
            Some(front)
                if Arc::ptr_eq(&front.hold, &piece.hold) && front.mini_batches.start == piece.mini_batches.end =>
            {
                front.mini_batches.start = piece.mini_batches.start;
            }
            _ => state.coming.push_front(piece),
        }
    }

    /// Tasks of which nothing was begun to be brought go back to the queue: they may be for others.
    pub fn let_go_of_coming(&self) {
        let mut state = lock(&self.state);
        let coming = std::mem::take(&mut state.coming);
        let is_whole = |piece: &Piece| piece.mini_batches == piece.hold.mini_batches;
        let (whole, begun): (Vec<_>, Vec<_>) = coming.into_iter().partition(is_whole);
        state.coming = begun.into();
        self.changed.notify_all();
        drop(state);
        drop(whole);
    }

    /// The files of a mini-batch are here (those that can be had): a slot may take it. Once drained, it goes back to the queue instead.
    pub fn fetched(&self, piece: Piece, local: Option<Arc<Local>>) {
        let mini_batch = piece.mini_batches.start;
        if let Some(local) = local
            && piece.hold.is_open(mini_batch)
        {
            lock(&piece.hold.local).insert(mini_batch, local);
        }
        let mut state = lock(&self.state);
        state.in_fetch -= 1;
        if state.drained {
            self.changed.notify_all();
            drop(state);
            return drop(piece);
        }
        state.waiting += 1;
        match state.pieces.back_mut() {
            Some(last) if Arc::ptr_eq(&last.hold, &piece.hold) && last.mini_batches.end == mini_batch => {
                last.mini_batches.end += 1;
            }
            _ => state.pieces.push_back(piece),
        }
        self.changed.notify_all();
        self.wake_idle(&state);
    }

    /// Puts mini-batches that a process did not run back, before all others. Once drained, they go back to the queue instead.
    pub fn give_back(&self, pieces: impl IntoIterator<Item = Piece>) {
        let mut state = lock(&self.state);
        if state.drained {
            drop(state);
            return pieces.into_iter().for_each(drop);
        }
        for piece in pieces {
            state.waiting += piece.mini_batches.end - piece.mini_batches.start;
            state.pieces.push_front(piece);
        }
        self.wake_idle(&state);
    }

    /// Takes these tasks out again, where nothing of them was taken yet. Returns the others.
    pub fn withdraw(&self, holds: Vec<Arc<Hold>>) -> Vec<Arc<Hold>> {
        let mut state = lock(&self.state);
        let mut withdrawn = Vec::new();
        let begun = holds
            .into_iter()
            .filter(|hold| {
                let of_it = |piece: &Piece| Arc::ptr_eq(&piece.hold, hold) && piece.mini_batches == hold.mini_batches;
                if let Some(at) = state.coming.iter().position(of_it) {
                    withdrawn.extend(state.coming.remove(at));
                    return false;
                }
                let Some(at) = state.pieces.iter().position(of_it) else { return true };
                let piece = state.pieces.remove(at);
                state.waiting -= hold.mini_batches.end - hold.mini_batches.start;
                withdrawn.extend(piece);
                false
            })
            .collect();
        self.changed.notify_all();
        drop(state);
        // Not under the lock: it goes back to the queue.
        drop(withdrawn);
        begun
    }

    /// Takes up to `most` consecutive mini-batches for `slot`. `spare`: the slot has something to run already, so it leaves
    /// what other slots without work could run at once.
    pub fn take(&self, slot: usize, most: u64, spare: bool) -> Option<Piece> {
        let mut state = lock(&self.state);
        if state.drained {
            return None;
        }
        let reserved = match spare {
            true => state.holding.iter().enumerate().filter(|(other, holds)| *other != slot && !**holds).count() as u64,
            false => 0,
        };
        // In the first round every slot gets its share of little work.
        let slots = state.holding.len() as u64;
        let most = most.min(state.waiting.saturating_sub(reserved)).min(state.waiting.div_ceil(slots));
        if most == 0 {
            return None;
        }
        let front = state.pieces.front_mut()?;
        let end = front.mini_batches.end.min(front.mini_batches.start + most);
        let taken = Piece { hold: front.hold.clone(), mini_batches: front.mini_batches.start..end };
        front.mini_batches.start = end;
        let all_of_it = front.mini_batches.is_empty();
        if all_of_it {
            state.pieces.pop_front();
        }
        state.waiting -= taken.mini_batches.end - taken.mini_batches.start;
        state.holding[slot] = true;
        state.idle_since[slot] = None;
        // There is room for a piece, or for files of a mini-batch; else nobody has waited for this.
        if all_of_it || state.ahead.is_some() {
            self.changed.notify_all();
        }
        Some(taken)
    }

    /// A slot says whether it is ready for work and whether it holds any.
    pub fn report(&self, slot: usize, ready: bool, holds: bool) {
        let mut state = lock(&self.state);
        if state.holding[slot] != holds {
            state.holding[slot] = holds;
            if !holds {
                self.changed.notify_all();
            }
        }
        let idle = ready && !holds;
        match (idle, state.idle_since[slot]) {
            (true, None) => state.idle_since[slot] = Some(Instant::now()),
            (false, Some(_)) => state.idle_since[slot] = None,
            _ => (),
        }
    }

    /// Whether some slot has been idle for a second with nothing to take.
    pub fn starving(&self) -> bool {
        let state = lock(&self.state);
        state.waiting == 0 && state.idle_since.iter().flatten().any(|since| since.elapsed() >= STARVING)
    }

    /// Waits until fewer than `pieces` pieces wait, or all work was answered if that is 0; at most `wait`. True: so it is.
    pub fn wait_below(&self, pieces: usize, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        let mut state = lock(&self.state);
        loop {
            let coming = state.coming.len() + state.in_fetch as usize;
            let below = match pieces {
                0 => coming == 0 && state.pieces.is_empty() && state.holding.iter().all(|holds| !holds),
                _ => state.pieces.len() + coming < pieces,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if below || left.is_zero() {
                return below;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// No more work is handed out; what waits goes back to the queue, and every slot hears of it.
    pub fn drain(&self) {
        let mut state = lock(&self.state);
        state.drained = true;
        state.waiting = 0;
        let (pieces, coming) = (std::mem::take(&mut state.pieces), std::mem::take(&mut state.coming));
        self.changed.notify_all();
        drop(state);
        drop((pieces, coming));
        self.wake_all();
    }

    /// Whether any mini-batch waits to be taken.
    pub fn waits(&self) -> bool {
        lock(&self.state).waiting > 0
    }

    /// Wakes one slot.
    pub fn wake(&self, slot: usize) {
        wake(&self.wakers[slot]);
    }

    /// Wakes every slot.
    pub fn wake_all(&self) {
        self.wakers.iter().for_each(wake);
    }

    /// Becomes readable when the slot should look around.
    pub fn waker(&self, slot: usize) -> BorrowedFd<'_> {
        self.wakers[slot].as_fd()
    }

    /// Makes the waker quiet again.
    pub fn quiet(&self, slot: usize) {
        // Nothing to read means that it is quiet.
        let _ = self.wakers[slot].read();
    }

    fn wake_idle(&self, state: &State) {
        let idle = state.idle_since.iter().zip(&self.wakers).filter(|(since, _)| since.is_some());
        idle.for_each(|(_, waker)| wake(waker));
    }
}

fn wake(waker: &EventFd) {
    // It fails only if 2^64 - 2 wake-ups were never looked at.
    let _ = waker.write(1);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfold_shared::backend::{Backend, embedded::Embedded};

    fn task(mini_batches: Range<u64>) -> (Embedded, Delivery<Task>) {
        let backend = Embedded::new();
        backend.publish_tasks(vec![Task { mini_batches, attempt: 1, alone: false, part: None }]).unwrap();
        let delivery = backend.receive_tasks(1, Duration::ZERO).unwrap().remove(0);
        (backend, delivery)
    }

    fn unsettled(backend: &Embedded) -> bool {
        !backend.receive_tasks(1, Duration::ZERO).unwrap().is_empty()
    }

    #[test]
    fn a_task_is_acknowledged_when_its_last_mini_batch_is_answered() {
        let (backend, delivery) = task(100..300);
        let hold = Hold::new(delivery);
        hold.answered(150..300);
        hold.answered(140..200);
        assert!(hold.is_open(139) && !hold.is_open(140));
        hold.answered(100..140);
        drop(hold);
        assert!(!unsettled(&backend));
    }

    #[test]
    fn an_unfinished_task_goes_back() {
        let (backend, delivery) = task(0..3);
        let hold = Hold::new(delivery);
        hold.answered(0..2);
        drop(hold);
        assert!(unsettled(&backend));
    }

    #[test]
    fn little_work_is_shared_and_nobody_hoards_what_others_could_run() {
        let (_backend, delivery) = task(0..4);
        let work = Work::new(2).unwrap();
        work.add(Hold::new(delivery));
        assert_eq!(work.take(0, 100, false).unwrap().mini_batches, 0..2, "half of it, for two slots");
        assert_eq!(work.take(0, 100, true).unwrap().mini_batches, 2..3, "one is left for the slot that has none");
        assert!(work.take(0, 100, true).is_none());
        assert_eq!(work.take(1, 100, false).unwrap().mini_batches, 3..4);
    }

    #[test]
    fn what_is_not_answered_is_known_in_runs() {
        let (_backend, delivery) = task(10..20);
        let hold = Hold::new(delivery);
        assert_eq!(hold.open_runs(), vec![10..20; 1]);
        hold.answered(12..14);
        hold.answered(19..20);
        assert_eq!(hold.open_runs(), [10..12, 14..19]);
    }

    #[test]
    fn a_leased_task_gives_nothing_back() {
        let (backend, delivery) = task(0..2);
        let hold = Hold::new(delivery);
        hold.lease().into_iter().for_each(Delivery::ack);
        assert!(hold.lease().is_empty());
        hold.answered(0..1);
        drop(hold);
        assert!(!unsettled(&backend));
    }

    #[test]
    fn copies_of_a_task_are_settled_together() {
        let (former, delivery) = task(0..1);
        let (backend, again) = task(0..1);
        let hold = Hold::new(delivery);
        hold.renew(again);
        assert!(!unsettled(&former), "none is let go before");
        hold.answered(0..1);
        assert!(!unsettled(&former) && !unsettled(&backend), "both are acknowledged");
        let ((one, first), (two, second)) = (task(0..1), task(0..1));
        let given_back = Hold::new(first);
        given_back.renew(second);
        drop(given_back);
        assert!(unsettled(&one) && unsettled(&two), "or both go back");
        let (late, delivery) = task(0..1);
        hold.renew(delivery);
        assert!(!unsettled(&late), "what is answered needs no message any more");
    }

    #[test]
    fn only_what_nobody_has_begun_is_withdrawn() {
        let (backend, delivery) = task(0..4);
        let (_other, begun) = task(4..8);
        let work = Work::new(2).unwrap();
        let holds = [Hold::new(begun), Hold::new(delivery)];
        holds.iter().for_each(|hold| work.add(hold.clone()));
        let taken = work.take(0, 1, false).unwrap();
        let left = work.withdraw(holds.into());
        assert_eq!(left.len(), 1);
        assert!(Arc::ptr_eq(&left[0], &taken.hold));
        assert!(unsettled(&backend), "the other one went back");
        assert_eq!(work.take(1, 100, false).unwrap().mini_batches, 5..7);
    }

    #[test]
    fn what_has_to_be_brought_here_is_taken_when_it_is_here_and_not_too_much_of_it() {
        let (backend, delivery) = task(0..5);
        let work = Work::new(1).unwrap();
        work.bring_first(2);
        work.add(Hold::new(delivery));
        assert!(work.take(0, 9, false).is_none(), "nothing is here yet");
        let (first, second) = (work.next_to_fetch().unwrap(), work.next_to_fetch().unwrap());
        assert_eq!((&first.mini_batches, &second.mini_batches), (&(0..1), &(1..2)));
        assert!(!work.wait_below(0, Duration::ZERO), "what is being brought is work, too");
        std::thread::scope(|scope| {
            let third = scope.spawn(|| work.next_to_fetch().unwrap().mini_batches);
            work.fetched(first, None);
            work.fetched(second, None);
            assert_eq!(work.take(0, 9, false).unwrap().mini_batches, 0..2, "what was brought travels together");
            assert_eq!(third.join().unwrap(), 2..3, "then there is room for the next");
        });
        work.drain();
        assert!(work.next_to_fetch().is_none());
        assert!(unsettled(&backend));
    }

    #[test]
    fn what_is_not_to_be_brought_now_waits_again_or_goes_back_as_a_whole() {
        let ((backend, delivery), (other, begun)) = (task(0..3), task(3..5));
        let work = Work::new(1).unwrap();
        work.bring_first(9);
        work.add(Hold::new(begun));
        let first = work.next_to_fetch().unwrap();
        work.add(Hold::new(delivery));
        work.let_go_of_coming();
        assert!(unsettled(&backend) && !unsettled(&other), "one was begun");
        let second = work.next_to_fetch().unwrap();
        work.not_now(second);
        work.not_now(first);
        work.let_go_of_coming();
        assert!(unsettled(&other), "nothing of it is begun any more");
        assert!(work.wait_below(0, Duration::ZERO));
    }

    #[test]
    fn draining_gives_everything_back_and_hands_out_nothing() {
        let (backend, delivery) = task(0..4);
        let work = Work::new(1).unwrap();
        work.add(Hold::new(delivery));
        work.drain();
        assert!(work.take(0, 1, false).is_none());
        assert!(unsettled(&backend));
        let (backend, late) = task(0..4);
        work.add(Hold::new(late));
        assert!(unsettled(&backend), "what comes afterwards as well");
        let (backend, late) = task(0..4);
        let hold = Hold::new(late);
        work.give_back([Piece { mini_batches: hold.mini_batches.clone(), hold }]);
        assert!(unsettled(&backend));
    }
}
