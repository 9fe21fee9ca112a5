//! Names that carry what is known of them through the sort.

use fanfold_shared::items::Fingerprint;

/// Behind the name: a byte that no name has, so that names sort as they do without. Then the fingerprint.
const CARRIED: usize = 1 + Fingerprint::SIZE;

/// A name for the sort; that of an object with its fingerprint behind it.
pub(super) fn carried(name: &[u8], known: Option<Fingerprint>) -> Vec<u8> {
    let mut carried = Vec::with_capacity(name.len() + CARRIED);
    carried.extend_from_slice(name);
    if let Some(known) = known {
        carried.push(0);
        carried.extend_from_slice(&known.encode());
    }
    carried
}

/// Takes them apart again; `known`: of all names of the sort something is known.
pub(super) fn apart(carried: &[u8], known: bool) -> (&[u8], Option<Fingerprint>) {
    match known {
        false => (carried, None),
        true => {
            let (name, fingerprint) = carried.split_at(carried.len() - CARRIED);
            let fingerprint = fingerprint[1..].try_into().expect("it was put there");
            (name, Some(Fingerprint::decode(fingerprint)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_they_do_without() {
        let fingerprint = Some(Fingerprint::File { size: u64::MAX - 2, mtime_ns: -1 });
        let mut names: Vec<Vec<u8>> =
            ["a/b", "a", "a b", "a.png", ""].iter().map(|name| carried(name.as_bytes(), fingerprint)).collect();
        names.sort();
        let names: Vec<_> = names.iter().map(|carried| apart(carried, true)).collect();
        assert_eq!(names.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [&b""[..], b"a", b"a b", b"a.png", b"a/b"]);
        assert!(names.iter().all(|(_, known)| *known == fingerprint));
    }
}
