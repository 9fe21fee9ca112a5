//! "Did you mean": the name that someone most likely wanted.

/// The one of `names` nearest to `wanted`, if any is near: a third of its letters may differ, and case does not count.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = wanted.chars().count();
    // Nobody mistypes a name into a page of text, and the comparison takes the square of its length.
    if letters > 200 {
        return None;
    }
    let lower = wanted.to_lowercase();
    let most = (letters / 3).clamp(1, 6);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

/// `a`, `b` and `c`, in backticks; at most eight, then how many more.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 8;
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => String::new(),
        1 => names[0].clone(),
        n if n <= MOST => format!("{} and {}", names[..n - 1].join(", "), names[n - 1]),
        n => format!("{} and {} more", names[..MOST].join(", "), n - MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_none() {
        let names = ["mini_batch_size", "run_max_try", "name"];
        assert_eq!(nearest("minibatch_size", names), Some("mini_batch_size"));
        assert_eq!(nearest("NAME", names), Some("name"));
        assert_eq!(nearest("run_max_tyr", names), Some("run_max_try"));
        assert_eq!(nearest("colour", names), None);
    }

    #[test]
    fn a_long_list_is_cut() {
        assert_eq!(listed(["a"]), "`a`");
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` and `c`");
        assert!(listed(["x"; 20]).ends_with(" and 12 more"));
    }
}
