//! Which deliveries of a channel are settled, so that one acknowledgement says many.

use std::collections::VecDeque;

/// Which deliveries of a channel are settled: their tags count up from 1 without gaps, though two consumers may bring them out of order.
pub(super) struct Unsettled {
    /// The tag of the first of `states`.
    first: u64,
    states: VecDeque<Fate>,
}

impl Default for Unsettled {
    fn default() -> Unsettled {
        Unsettled { first: 1, states: VecDeque::new() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    /// To be acknowledged.
    Acked,
    /// The broker was told.
    Done,
}

impl Unsettled {
    /// A delivery came.
    pub(super) fn delivered(&mut self, tag: u64) {
        while self.first + (self.states.len() as u64) <= tag {
            self.states.push_back(Fate::Open);
        }
    }

    /// What became of one.
    pub(super) fn get(&mut self, tag: u64) -> Option<&mut Fate> {
        let at = tag.checked_sub(self.first)?;
        self.states.get_mut(usize::try_from(at).ok()?)
    }

    /// What to say to the broker for everything that was marked `Acked`: a tag, and whether it stands for all before it as well.
    pub(super) fn acks(&mut self, marked: &[u64]) -> Vec<(u64, bool)> {
        let (mut last, mut first_left) = (None, self.first);
        while let Some(fate) = self.states.front().copied().filter(|fate| *fate != Fate::Open) {
            self.states.pop_front();
            if fate == Fate::Acked {
                last = Some(first_left);
            }
            first_left += 1;
        }
        self.first = first_left;
        let mut acks: Vec<(u64, bool)> = last.map(|tag| (tag, true)).into_iter().collect();
        for &tag in marked {
            if let Some(fate) = self.get(tag)
                && *fate == Fate::Acked
            {
                *fate = Fate::Done;
                acks.push((tag, false));
            }
        }
        acks
    }
}
