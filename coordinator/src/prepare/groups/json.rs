//! The values of some keys of a line of JSON Lines. Nothing else of the line is looked at more closely than to find where it ends: whether it is
//! JSON, whoever reads it finds out.

/// Sets `values` to those of `names`, as far as the line has them; of a name that it has twice the last one counts. Sets `seen` for
/// those that it has, null or not.
///
/// # Errors
/// The line is no object, or a value is no text: why, for the user.
pub(super) fn values(
    line: &[u8],
    names: &[&str],
    values: &mut [Option<Vec<u8>>],
    seen: &mut [bool],
) -> Result<(), String> {
    values.fill(None);
    let mut scan = Scan { line, at: 0 };
    scan.white_space();
    if !scan.eat(b'{') {
        return Err("it is not an object in JSON".into());
    }
    scan.white_space();
    if scan.eat(b'}') {
        return Ok(());
    }
    loop {
        scan.white_space();
        let key = scan.string()?;
        scan.white_space();
        if !scan.eat(b':') {
            return Err(scan.unexpected());
        }
        scan.white_space();
        let value = scan.value()?;
        let key = text_of(key)?;
        for (at, name) in names.iter().enumerate().filter(|(_, name)| name.as_bytes() == key) {
            seen[at] = true;
            values[at] = match value {
                [b'{' | b'[', ..] => return Err(format!("its `{name}` is an object or a list, and no value of a key")),
                [b'"', ..] => Some(text_of(value)?),
                b"null" => None,
                scalar => Some(scalar.to_vec()),
            };
        }
        scan.white_space();
        if scan.eat(b'}') {
            return Ok(());
        }
        if !scan.eat(b',') {
            return Err(scan.unexpected());
        }
    }
}

/// The text of a string in quotes.
fn text_of(quoted: &[u8]) -> Result<Vec<u8>, String> {
    if !quoted.contains(&b'\\') {
        return Ok(quoted[1..quoted.len() - 1].to_vec());
    }
    let text: Result<String, _> = serde_json::from_slice(quoted);
    text.map(String::into_bytes).map_err(|error| format!("a text in it can't be read: {error}"))
}

struct Scan<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// What Python's `str.strip` takes away, too: blank lines come before the line.
    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b'\t'..=b'\r' | b' ' | 0x1c..=0x1f)) {
            self.at += 1;
        }
    }

    fn unexpected(&self) -> String {
        match self.peek() {
            Some(byte) => format!("it is not JSON: an unexpected `{}`", byte.escape_ascii()),
            None => "it is not JSON: it ends in the middle".into(),
        }
    }

    /// A string, quotes included.
    fn string(&mut self) -> Result<&'a [u8], String> {
        let start = self.at;
        if !self.eat(b'"') {
            return Err(self.unexpected());
        }
        while let Some(found) = memchr::memchr2(b'"', b'\\', &self.line[self.at..]) {
            self.at += found + 1;
            if self.line[self.at - 1] == b'"' {
                return Ok(&self.line[start..self.at]);
            }
            self.at = (self.at + 1).min(self.line.len());
        }
        self.at = self.line.len();
        Err(self.unexpected())
    }

    /// A value as it stands there.
    fn value(&mut self) -> Result<&'a [u8], String> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => return self.string(),
            Some(b'{' | b'[') => {
                let mut depth = 0usize;
                loop {
                    match self.peek() {
                        Some(b'"') => {
                            self.string()?;
                            continue;
                        }
                        Some(b'{' | b'[') => depth += 1,
                        Some(b'}' | b']') => depth -= 1,
                        Some(_) => (),
                        None => return Err(self.unexpected()),
                    }
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => {
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b':' | b'"' | b'\t'..=b'\r' | b' ');
                let rest = &self.line[self.at..];
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
                if self.at == start {
                    return Err(self.unexpected());
                }
            }
        }
        Ok(&self.line[start..self.at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Result<String, String> {
        let mut found = [None, None];
        values(line.as_bytes(), &["a", "b c"], &mut found, &mut [false; 2])?;
        let text = |value: Option<Vec<u8>>| value.map_or("-".into(), |value| String::from_utf8(value).unwrap());
        Ok(found.map(text).join("|"))
    }

    #[test]
    fn values_are_the_texts_that_stand_there() {
        for (line, found) in [
            (r#"{"a": 1, "b c": "x"}"#, "1|x"),
            (" \n{\"b c\":1.0,\"z\":{\"a\":[\"}\\\"\",2]},\"a\":true}\r\n", "true|1.0"),
            (r#"{"a": null}"#, "-|-"),
            (r#"{"a": "\u00e9\n\"", "b\u0020c": ""}"#, "é\n\"|"),
            (r#"{"a": 1, "a": 2, "b c": NaN}"#, "2|NaN"),
            ("{}", "-|-"),
        ] {
            assert_eq!(told(line).unwrap(), found, "{line}");
        }
    }

    #[test]
    fn what_has_no_values_is_told_why() {
        for (line, why) in [
            ("[1]", "not an object"),
            (r#"{"a": [1]}"#, "`a` is an object or a list"),
            (r#"{"a": 1"#, "ends in the middle"),
            (r#"{"a" 1}"#, "unexpected `1`"),
            (r#"{"a": }"#, "unexpected `}`"),
            (r#"{"a": "x"#, "ends in the middle"),
            (r#"{"a": "\"#, "ends in the middle"),
            (r#"{"a": "\ud800"}"#, "can't be read"),
            (r#"{a: 1}"#, "unexpected `a`"),
        ] {
            let error = told(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
