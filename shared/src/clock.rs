//! The time: reading it, and writing it the way the log tree wants it (always UTC).
//!
//! Instants are microseconds since the epoch, durations within one machine are nanoseconds of CLOCK_MONOTONIC (what
//! Python's `time.monotonic_ns()` reads). [`Stamper`] writes without allocating and works the calendar out only once
//! for each second it meets; the functions are for places that write one instant now and then.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::Offset;

use crate::text::push_padded;

/// Now, microseconds since the epoch.
pub fn wall_us() -> u64 {
    // A clock set before 1970 is shown as 1970: nothing but the display depends on it.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// CLOCK_MONOTONIC in nanoseconds: comparable between the processes of one machine until it is rebooted.
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds since boot, those in suspension included: what `/proc` says of the start of processes.
pub fn boot_ns() -> u64 {
    clock_ns(libc::CLOCK_BOOTTIME)
}

/// Processor time of the calling thread, nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that the call fills in; Linux has had these clocks for longer than we support it.
    let outcome = unsafe { libc::clock_gettime(clock, &mut time) };
    debug_assert_eq!(outcome, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Writes instants into buffers; remembers the calendar of the last second.
#[derive(Clone, Debug)]
pub struct Stamper {
    second: u64,
    /// `2026-11-21T02:38:55`
    text: [u8; 19],
}

impl Default for Stamper {
    fn default() -> Self {
        let mut stamper = Stamper { second: 0, text: [0; 19] };
        stamper.turn_to(0);
        stamper
    }
}

impl Stamper {
    /// Appends `2026-11-21T02:38:55.226929`: the form of the overview and of the reports.
    pub fn write_iso(&mut self, out: &mut Vec<u8>, us: u64) {
        self.look_up(us);
        out.extend_from_slice(&self.text);
        out.push(b'.');
        push_padded(out, us % 1_000_000, 6);
    }

    /// Appends `2026-11-21 02:38:55,049`: the form of Python's `logging`, hence of every `…|LEVEL|…` line.
    pub fn write_log(&mut self, out: &mut Vec<u8>, us: u64) {
        self.look_up(us);
        out.extend_from_slice(&self.text[..10]);
        out.push(b' ');
        out.extend_from_slice(&self.text[11..]);
        out.push(b',');
        push_padded(out, us % 1_000_000 / 1000, 3);
    }

    fn look_up(&mut self, us: u64) {
        let second = us / 1_000_000;
        if second != self.second {
            self.turn_to(second);
        }
    }

    fn turn_to(&mut self, second: u64) {
        self.second = second;
        // Beyond the year 9999 there is no such instant; the last one is shown instead.
        let timestamp = i64::try_from(second).ok().and_then(|s| Timestamp::from_second(s).ok());
        let time = Offset::UTC.to_datetime(timestamp.unwrap_or(Timestamp::MAX));
        let mut text = Vec::with_capacity(self.text.len());
        push_padded(&mut text, time.year() as u64, 4);
        for (mark, value) in [
            (b'-', time.month()),
            (b'-', time.day()),
            (b'T', time.hour()),
            (b':', time.minute()),
            (b':', time.second()),
        ] {
            text.push(mark);
            push_padded(&mut text, value as u64, 2);
        }
        self.text.copy_from_slice(&text);
    }
}

/// `2026-11-21T02:38:55.226929`
pub fn iso(us: u64) -> String {
    let mut out = Vec::with_capacity(26);
    Stamper::default().write_iso(&mut out, us);
    String::from_utf8(out).expect("digits and punctuation")
}

/// `2026-11-21T02:38:55.226929Z` (RFC 3339): the form of every JSON that leaves the program.
pub fn rfc3339(us: u64) -> String {
    iso(us) + "Z"
}

/// Microseconds since the epoch of what [`rfc3339`] wrote; None for anything that is no instant since 1970.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let time: Timestamp = text.parse().ok()?;
    u64::try_from(time.as_microsecond()).ok()
}

/// `2026112102`: year, month, day and hour, as in the names of the progress overviews.
pub fn hour(us: u64) -> String {
    iso(us)[..13].replace(['-', 'T'], "")
}

/// `45 s`, `3 min 05 s`, `2 h 07 min`, `3 d 04 h`: a duration for people, given in seconds.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// For `#[serde(with = "fanfold_shared::clock::serde_us")]`: microseconds in memory, RFC 3339 in the JSON.
pub mod serde_us {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes RFC 3339.
    pub fn serialize<S: Serializer>(us: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::rfc3339(*us))
    }

    /// Reads RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_rfc3339(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not an RFC 3339 time")))
    }
}

/// [`serde_us`] for instants that may not have come yet.
pub mod serde_us_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    /// Writes RFC 3339 or null.
    pub fn serialize<S: Serializer>(us: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        us.map(super::rfc3339).serialize(serializer)
    }

    /// Reads RFC 3339 or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        match super::parse_rfc3339(&text) {
            Some(us) => Ok(Some(us)),
            None => Err(D::Error::custom(format!("`{text}` is not an RFC 3339 time"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THEN: u64 = 1_795_228_735_226_929;

    #[test]
    fn instants_are_written_as_the_original_writes_them() {
        let mut out = Vec::new();
        let mut stamper = Stamper::default();
        stamper.write_iso(&mut out, THEN);
        out.push(b'\n');
        stamper.write_log(&mut out, THEN - 177_880);
        out.push(b'\n');
        stamper.write_log(&mut out, 0);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2026-11-21T02:38:55.226929\n2026-11-21 02:38:55,049\n1970-01-01 00:00:00,000"
        );
        assert_eq!(hour(THEN), "2026112102");
        assert_eq!(rfc3339(THEN), "2026-11-21T02:38:55.226929Z");
        assert_eq!(parse_rfc3339("2026-11-21T02:38:55.226929Z"), Some(THEN));
        assert_eq!(parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn durations_read_like_speech() {
        let read: Vec<String> = [-1.0, 0.04, 9.44, 59.0, 185.0, 7_620.0, 273_600.0].map(duration).to_vec();
        assert_eq!(read, ["0.0 s", "0.0 s", "9.4 s", "59 s", "3 min 05 s", "2 h 07 min", "3 d 04 h"]);
    }

    #[test]
    fn the_monotonic_clock_runs_forwards_and_the_wall_clock_is_past_2026() {
        let before = monotonic_ns();
        assert!(monotonic_ns() >= before);
        assert!(wall_us() > 1_767_225_600_000_000);
    }

    proptest! {
        #[test]
        fn the_remembered_second_is_never_the_wrong_one(instants in prop::collection::vec(0u64..20_000_000_000_000_000, 1..20)) {
            let mut stamper = Stamper::default();
            for us in instants {
                let mut out = Vec::new();
                stamper.write_iso(&mut out, us);
                let text = String::from_utf8(out).unwrap();
                prop_assert_eq!(&text, &iso(us));
                prop_assert_eq!(parse_rfc3339(&(text + "Z")), Some(us));
            }
        }
    }
}
