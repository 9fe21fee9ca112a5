//! What to make of a server that refuses: is it that object, or this machine with its credentials?
//!
//! An object that is refused while another one is given out is a failed item. Where nothing is given out, it says nothing about the objects: the attempt
//! failed, and another node may have better credentials. So that it gets the mini-batch, this one takes nothing for a while, longer each
//! time, and then tries with one mini-batch; after some such times it can't work.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::uri::Place;
use fanfold_store::{Client, StoreError, Why};

/// After so many refusals with nothing between them the node can't work.
const MOST: u32 = 8;
/// Nothing is taken for so long after the first of them; twice as long after each other one.
const PAUSE: Duration = Duration::from_secs(1);
/// And never longer.
const LONGEST: Duration = Duration::from_secs(30);
/// Between two looks at whether the node is to end.
const LOOK: Duration = Duration::from_millis(20);

/// How a node fares with the servers that it asks.
#[derive(Default)]
pub(super) struct Refusals {
    state: Mutex<State>,
    /// Who tries while it is in doubt tries alone.
    trial: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Times without anything that was given out between them.
    in_row: u32,
    until: Option<Instant>,
    /// Of each place what it has given out last.
    granted: HashMap<Place, Client>,
}

/// Whether another machine may get another answer.
pub(super) fn is_refusal(why: &Why) -> bool {
    matches!(why, Why::Denied(_) | Why::Unauthenticated(_) | Why::Tls(_))
}

/// The first pause. Tests may say otherwise where points to die at are compiled in.
fn pause() -> Duration {
    if !cfg!(feature = "failpoints") {
        return PAUSE;
    }
    let told = std::env::var("FANFOLD_REFUSED_PAUSE_MS").ok().and_then(|told| told.parse().ok());
    told.map_or(PAUSE, Duration::from_millis)
}

impl Refusals {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object was given out.
    pub fn granted(&self, client: &Client) {
        let mut state = self.state();
        (state.in_row, state.until) = (0, None);
        let place = client.uri().place();
        match state.granted.get_mut(place) {
            Some(last) => *last = client.clone(),
            None => drop(state.granted.insert(place.clone(), client.clone())),
        }
    }

    /// Whether it is only that object which is refused: what was given out before still is.
    pub fn is_of_the_object(&self, refused: &StoreError) -> bool {
        let granted = self.state().granted.get(refused.uri.place()).cloned();
        let Some(granted) = granted else { return false };
        match granted.head() {
            Ok(_) => true,
            // Who is not let in is not told this.
            Err(error) => matches!(error.why, Why::Missing(_) | Why::Changed(_)),
        }
    }

    /// Nothing was given out. True: that is too often.
    pub fn refused(&self) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        // What was asked for at the same time says nothing new.
        if state.until.is_none_or(|until| until <= now) {
            let pause = pause().saturating_mul(1 << state.in_row.min(16)).min(LONGEST);
            state.in_row += 1;
            state.until = Some(now + pause);
        }
        state.in_row >= MOST
    }

    /// Whether nothing was given out when it was asked for last.
    pub fn is_in_doubt(&self) -> bool {
        self.state().in_row > 0
    }

    /// Whether nothing is to be taken now.
    pub fn is_pause(&self) -> bool {
        self.state().until.is_some_and(|until| until > Instant::now())
    }

    /// Waits until it may be tried again, and for who tries already. None: there is no doubt, or it is over.
    pub fn turn(&self, is_over: &dyn Fn() -> bool) -> Option<MutexGuard<'_, ()>> {
        if !self.is_in_doubt() {
            return None;
        }
        let turn = self.trial.lock().unwrap_or_else(PoisonError::into_inner);
        while self.is_pause() && !is_over() {
            thread::sleep(LOOK);
        }
        self.is_in_doubt().then_some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_at_once_counts_once_and_the_next_time_is_later() {
        let refusals = Refusals::default();
        assert!(!refusals.is_in_doubt() && refusals.turn(&|| false).is_none());
        assert!(!refusals.refused() && !refusals.refused());
        assert_eq!(refusals.state().in_row, 1);
        let mut last = Duration::ZERO;
        for round in 2..=MOST {
            let past = Instant::now();
            refusals.state().until = Some(past);
            assert_eq!(refusals.refused(), round == MOST);
            let pause = refusals.state().until.unwrap() - past;
            assert!(pause > last || pause >= LONGEST, "{pause:?}");
            last = pause;
        }
        assert!(refusals.is_pause() && refusals.turn(&|| true).is_some(), "the end is not waited for");
    }
}
