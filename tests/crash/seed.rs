//! Numbers that look random and are the same for the same seed (SplitMix64).

/// Where a sequence stands.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True in so many cases of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }

    /// A number from `low` to `high` of which each order of magnitude is as likely as any other.
    pub fn magnitude(&mut self, low: f64, high: f64) -> f64 {
        let unit = self.next() as f64 / u64::MAX as f64;
        low * (high / low).powf(unit)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.between(0, of.len() as u64 - 1) as usize]
    }
}

/// The seed that `FANFOLD_CRASH_SEED` names: one job with it is run instead of the usual ones.
pub fn asked() -> Option<u64> {
    number("FANFOLD_CRASH_SEED")
}

/// How often the program is killed at random: `FANFOLD_CRASH_KILLS`, or 200.
pub fn kills() -> u64 {
    number("FANFOLD_CRASH_KILLS").unwrap_or(200)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}
