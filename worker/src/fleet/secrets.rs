//! What a program of the fleet knows, the scripts on its host may not read.

/// Scripts run as the same user, and may not read this program's environment, arguments or memory through `/proc`. It leaves no core
/// dump either.
pub fn keep() {
    // SAFETY: takes integers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
}
