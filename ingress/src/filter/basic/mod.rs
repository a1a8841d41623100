//! Names and passwords (`auth-type: basic`; RFC 7617).
//!
//! Pure. Costly hashes are computed elsewhere: [`Users::check`] says what there is to do.

mod crypt;

use std::collections::HashMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::annotation::PasswordFormat;
use http::header::{AUTHORIZATION, HeaderMap};
use k8s_openapi::api::core::v1::Secret;

use crypt::Hash;

/// The key of a Secret that holds a password file.
const FILE_KEY: &str = "auth";

/// Who may come.
#[derive(Default, PartialEq, Eq)]
pub struct Users(HashMap<String, Hash>);

impl fmt::Debug for Users {
    /// How many; never who.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.0.len())
    }
}

/// What somebody claims to be.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password, in whatever encoding it came.
    pub password: Vec<u8>,
}

impl fmt::Debug for Credentials {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?})", self.user)
    }
}

/// What is to be done to know whether a password is right.
#[derive(Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing: it is known.
    Known(bool),
    /// To ask [`Users::verify`], which takes milliseconds up to seconds.
    Costly,
}

impl Users {
    /// Reads a Secret. What is wrong with a line is told, without what it says, and its user cannot come.
    ///
    /// An error says why there is none to read.
    pub fn of(secret: &Secret, format: PasswordFormat) -> Result<(Self, Vec<String>), String> {
        let bytes = |key: &str| secret.data.as_ref()?.get(key).map(|value| value.0.clone());
        let text = |key: &str| secret.string_data.as_ref()?.get(key).map(|value| value.clone().into_bytes());
        match format {
            PasswordFormat::File => match text(FILE_KEY).or_else(|| bytes(FILE_KEY)) {
                Some(file) => Ok(Self::read(&String::from_utf8_lossy(&file))),
                None => Err(format!("has no key {FILE_KEY:?}; put the password file there, or write auth-map")),
            },
            PasswordFormat::Map => {
                let keys = secret.data.iter().flat_map(|data| data.keys());
                let keys = keys.chain(secret.string_data.iter().flat_map(|data| data.keys()));
                let line = |key: &String| {
                    let hash = text(key).or_else(|| bytes(key)).unwrap_or_default();
                    format!("{key}:{}\n", String::from_utf8_lossy(&hash).trim())
                };
                Ok(Self::read(&keys.map(line).collect::<String>()))
            }
        }
    }

    /// Reads a password file: `name:hash`, a line each; of two lines with one name the first counts, as in nginx.
    #[must_use]
    pub fn read(file: &str) -> (Self, Vec<String>) {
        let (mut users, mut problems) = (HashMap::new(), Vec::new());
        let lines = file.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let Some((user, rest)) = line.split_once(':') else {
                problems.push(format!("line {number} is not of the form name:hash"));
                continue;
            };
            match Hash::parse(rest.split(':').next().unwrap_or_default()) {
                Ok(hash) => drop(users.entry(user.to_owned()).or_insert(hash)),
                Err(why) => problems.push(format!("the hash in line {number} {why}; this user cannot come")),
            }
        }
        (Self(users), problems)
    }

    /// What it takes to check somebody.
    #[must_use]
    pub fn check(&self, who: &Credentials) -> Check {
        match self.0.get(&who.user) {
            Some(hash) if hash.is_costly() => Check::Costly,
            hash => Check::Known(hash.is_some_and(|hash| hash.is_of(&who.password))),
        }
    }

    /// Checks somebody, however long that takes.
    #[must_use]
    pub fn verify(&self, who: &Credentials) -> bool {
        self.0.get(&who.user).is_some_and(|hash| hash.is_of(&who.password))
    }
}

impl Credentials {
    /// What the one `Authorization` field says; `None` if that is of another kind or malformed.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return None };
        let (scheme, rest) = field.to_str().ok()?.split_once(' ')?;
        let decoded = STANDARD.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
        Some(Self { user, password: decoded[colon + 1..].to_vec() })
    }
}

/// The value of `WWW-Authenticate` that asks for a name and a password.
#[must_use]
pub(super) fn challenge(realm: &str) -> String {
    format!("Basic realm=\"{}\"", realm.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(user: &str, password: &str) -> Credentials {
        Credentials { user: user.to_owned(), password: password.into() }
    }

    #[test]
    fn a_file_is_read_line_by_line() {
        let file = "# people\n\nann:{PLAIN}one\r\nbob:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/:Bob\nann:{PLAIN}two\nnobody\n\
                    old:abNANd1rDfiNc\n";
        let (users, problems) = Users::read(file);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("line 6") && problems[1].contains("line 7"));
        assert_eq!(users.check(&who("ann", "one")), Check::Known(true));
        assert_eq!(users.check(&who("ann", "two")), Check::Known(false));
        assert_eq!(users.check(&who("eve", "one")), Check::Known(false));
        assert_eq!(users.check(&who("old", "secret")), Check::Known(false));
        assert_eq!(users.check(&who("bob", "secret")), Check::Costly);
        assert!(users.verify(&who("bob", "secret")) && !users.verify(&who("bob", "x")));
    }

    #[test]
    fn an_authorization_field_is_taken_apart() {
        let of = |fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(AUTHORIZATION, field.parse().unwrap());
            }
            Credentials::of(&headers)
        };
        assert_eq!(of(&["Basic YTpiOmM="]), Some(who("a", "b:c")));
        assert_eq!(of(&["basic  YTpiOmM="]), Some(who("a", "b:c")));
        for fields in
            [&[][..], &["Basic"], &["Bearer YTpi"], &["Basic YQ=="], &["Basic !"], &["Basic YTpi", "Basic YTpi"]]
        {
            assert_eq!(of(fields), None, "{fields:?}");
        }
    }

    #[test]
    fn nobody_is_printed() {
        let (users, _) = Users::read("ann:{PLAIN}hunter2");
        assert_eq!(format!("{users:?} {:?}", who("ann", "hunter2")), "Users(1) Credentials(\"ann\")");
    }
}
