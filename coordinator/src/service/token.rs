//! The token of the HTTP interface: made at the first start, compared in constant time, shown to nobody.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fanfold_shared::report::{During, ExitCode, Report, Result};
use secrecy::{ExposeSecret, SecretString};

/// A shorter token could be guessed.
const LEAST: usize = 16;

/// What a caller has to show.
pub struct Token {
    secret: SecretString,
}

/// Why a token can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Too short, or not one line of visible characters.
    #[error("`{}` holds no token: {LEAST} or more visible characters on one line", .0.display())]
    Invalid(PathBuf),
    /// Others could read it.
    #[error("others can read the token in `{}`", .0.display())]
    Public(PathBuf),
}

impl Report for TokenError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            TokenError::Invalid(path) => {
                format!(
                    "make one with `head -c 32 /dev/urandom | base64 > {}`, or name a file that does not exist",
                    path.display()
                )
            }
            TokenError::Public(path) => {
                format!("chmod go= {}; if somebody may have read it, make a new one", path.display())
            }
        })
    }
}

impl Token {
    /// Reads the token from `path`; where there is no file, makes one with 256 random bits that only its owner can read.
    ///
    /// # Errors
    /// The file can't be read or made, is readable by others, or holds no token.
    pub fn read_or_make(path: &Path) -> Result<Token> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                let mut random = [0; 32];
                fs::File::open("/dev/urandom")
                    .and_then(|mut source| source.read_exact(&mut random))
                    .during("read", "/dev/urandom")?;
                let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
                file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all()).during("write", path)?;
                Ok(Token { secret: text.into() })
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Token::read(path),
            Err(error) => Err(Err::<(), _>(error).during("create", path).expect_err("an error").into()),
        }
    }

    fn read(path: &Path) -> Result<Token> {
        let mode = fs::metadata(path).during("look at", path)?.permissions().mode();
        if mode & 0o004 != 0 {
            return Err(TokenError::Public(path.to_path_buf()).into());
        }
        let text = fs::read_to_string(path).during("read", path)?;
        let text = text.trim();
        if text.len() < LEAST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Invalid(path.to_path_buf()).into());
        }
        Ok(Token { secret: text.to_string().into() })
    }

    /// Whether `shown` is the token. How long that takes tells nothing of where they differ.
    pub fn is(&self, shown: &str) -> bool {
        // Of the digests, so not even the length is told.
        let digest = |text: &str| blake3::hash(text.as_bytes());
        digest(self.secret.expose_secret()) == digest(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        Token::read_or_make(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim().len(), 64);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Token::read_or_make(&path).unwrap();
        assert!(again.is(text.trim()) && !again.is("") && !again.is(&text.trim()[1..]));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Token::read_or_make(&path).is_err_and(|error| error.to_string().starts_with("others can read")));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short\n").unwrap();
        assert!(Token::read_or_make(&path).is_err_and(|error| error.to_string().contains("holds no token")));
    }
}
