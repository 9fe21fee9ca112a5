//! How many tasks a node holds: enough that no process waits for the network, little enough that another node finds some.

/// The work held ahead for each process.
const AHEAD_NS: f64 = 0.75e9;
/// The most tasks held.
const MOST: u16 = 4096;

/// Tasks to hold before anything is known, and where they take long: one for each process and one more.
pub fn least(processes: u32) -> u16 {
    (processes + 1).min(u32::from(MOST)) as u16
}

/// Tasks to hold from now on, where `now` are held and one takes a process `task_ns`. Changes by factors of 2, as each change
/// costs a new consumer.
pub fn follow(now: u16, processes: u32, task_ns: f64) -> u16 {
    let least = least(processes);
    let wanted = (f64::from(processes) * AHEAD_NS / task_ns.max(1.0)).clamp(f64::from(least), f64::from(MOST));
    let mut next = f64::from(now.max(least));
    while next * 2.0 <= wanted {
        next *= 2.0;
    }
    // Not at once: what swings by a factor of 2 stays where it is.
    while next >= wanted * 2.0 {
        next /= 2.0;
    }
    (next as u16).clamp(least, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_tasks_are_held_for_most_of_a_second_and_long_ones_singly() {
        assert_eq!(follow(3, 2, 3600e9), 3, "one for each process and one more");
        assert_eq!(follow(3, 2, 10e6), 96, "150 would be 0.75 s of work");
        assert_eq!(follow(96, 2, 10e6), 96);
        assert_eq!(follow(96, 2, 20e6), 96, "75 is not far from it");
        assert_eq!(follow(96, 2, 3600e9), 3);
        assert!(follow(3, 16, 1.0) > MOST / 2);
        assert_eq!(follow(0, 1, f64::INFINITY), 2);
    }

    #[test]
    fn it_settles() {
        for task_ns in [1.0, 1e3, 1e6, 1e7, 1e8, 1e9, 1e12] {
            for start in [2, 100, MOST] {
                let settled = follow(start, 4, task_ns);
                assert_eq!(follow(settled, 4, task_ns), settled, "{task_ns} from {start}");
            }
        }
    }
}
