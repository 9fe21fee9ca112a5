//! The values of a row's keys as bytes that sort as the values do, and come before everything else of it.

use fanfold_shared::items::KeyValue;

const NONE: u8 = 1;
const TEXT: u8 = 2;
/// Behind a text; a zero in it is followed by [`ZERO`] instead.
const END: [u8; 2] = [0, 0];
const ZERO: [u8; 2] = [0, 0xff];

/// Appends a value.
pub(super) fn push(key: &mut Vec<u8>, value: Option<&[u8]>) {
    let Some(text) = value else { return key.push(NONE) };
    key.push(TEXT);
    for (at, part) in text.split(|byte| *byte == 0).enumerate() {
        if at > 0 {
            key.extend_from_slice(&ZERO);
        }
        key.extend_from_slice(part);
    }
    key.extend_from_slice(&END);
}

/// How many bytes the first `values` values take.
pub(super) fn len(bytes: &[u8], values: usize) -> usize {
    let mut at = 0;
    for _ in 0..values {
        let kind = bytes[at];
        at += 1;
        if kind == NONE {
            continue;
        }
        loop {
            at += memchr::memchr(0, &bytes[at..]).expect("a text has an end") + 2;
            if bytes[at - 1] == END[1] {
                break;
            }
        }
    }
    at
}

/// The values again.
pub(super) fn values(mut key: &[u8]) -> Vec<KeyValue> {
    let mut values = Vec::new();
    while let Some(kind) = key.first() {
        let len = len(key, 1);
        values.push((*kind == TEXT).then(|| {
            let mut text = Vec::with_capacity(len);
            let mut rest = &key[1..len - END.len()];
            while let Some(zero) = memchr::memchr(0, rest) {
                text.extend_from_slice(&rest[..=zero]);
                rest = &rest[zero + ZERO.len()..];
            }
            text.extend_from_slice(rest);
            text.into()
        }));
        key = &key[len..];
    }
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(values: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut key = Vec::new();
        values.iter().for_each(|value| push(&mut key, value.as_deref()));
        key
    }

    fn any_values() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
        let text = prop::collection::vec(prop::sample::select(&[0u8, 1, 2, b'a', 0xff][..]), 0..5);
        prop::collection::vec(prop::option::of(text), 2)
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_values_and_can_be_read_again(a in any_values(), b in any_values(), behind in any_values()) {
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
            let mut bytes = key(&a);
            let own = bytes.len();
            bytes.extend(key(&behind));
            prop_assert_eq!(len(&bytes, 2), own);
            let read: Vec<Option<Vec<u8>>> = values(&bytes[..own]).into_iter().map(|v| v.map(|v| v.to_vec())).collect();
            prop_assert_eq!(read, a);
        }
    }
}
