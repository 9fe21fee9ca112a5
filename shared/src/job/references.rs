//! `${inputs.x}`, `${side_inputs.x}` and `${output}` in arguments. `$` and `$$` alone mean nothing and stay.

/// A piece of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// As it is.
    Text(&'a str),
    /// What stands between `${` and `}`.
    Reference(&'a str),
}

/// The pieces of an argument, in order.
pub(crate) fn pieces(mut text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let Some(start) = text.find("${") {
        let Some(len) = text[start + 2..].find('}') else { break };
        if start > 0 {
            pieces.push(Piece::Text(&text[..start]));
        }
        pieces.push(Piece::Reference(&text[start + 2..start + 2 + len]));
        text = &text[start + 2 + len + 1..];
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_closed_braces_are_references() {
        use Piece::*;
        assert_eq!(
            pieces("a${inputs.x}/b${output}"),
            [Text("a"), Reference("inputs.x"), Text("/b"), Reference("output")]
        );
        for plain in ["$", "$$", "$HOME", "a$", "${", "${inputs.x", "{x}"] {
            assert_eq!(pieces(plain), [Text(plain)]);
        }
        assert_eq!(pieces("$${output}"), [Text("$"), Reference("output")]);
        assert_eq!(pieces(""), []);
    }
}
