//! What is rewritten in answers of endpoints: `proxy-cookie-domain`, `proxy-cookie-path`, `proxy-redirect-from`, `-to`.

use super::read::Reader;
use super::text::Text;
use super::value;

/// Texts and what they are replaced by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerRewrites {
    /// The domain of cookies.
    pub cookie_domain: Option<(String, String)>,
    /// The beginning of the path of cookies.
    pub cookie_path: Option<(String, String)>,
    /// The beginning of `Location` and of the URL in `Refresh`.
    pub redirect: Option<(String, Text)>,
}

pub(super) fn read(reader: &mut Reader<'_>) -> AnswerRewrites {
    let from = reader.value("proxy-redirect-from", value::field_text).filter(|from| !is_off(from));
    let to = reader.value("proxy-redirect-to", |text| value::field_text(text).and_then(|text| Text::parse(&text)));
    if from.is_some() && !reader.has("proxy-redirect-to") {
        reader.complain("proxy-redirect-from", "proxy-redirect-to is missing, so this has no effect");
    }
    AnswerRewrites {
        cookie_domain: reader.value("proxy-cookie-domain", pair).flatten(),
        cookie_path: reader.value("proxy-cookie-path", pair).flatten(),
        redirect: from.filter(|from| !from.is_empty()).zip(to),
    }
}

fn is_off(text: &str) -> bool {
    matches!(text, "off" | "default")
}

/// `off`, or two words.
fn pair(text: &str) -> Result<Option<(String, String)>, String> {
    let text = value::field_text(text)?;
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    match words[..] {
        ["off"] => Ok(None),
        [from, to] if !format!("{from}{to}").contains([';', '$', '~', ',']) => {
            Ok(Some((from.to_owned(), to.to_owned())))
        }
        _ => Err(format!("{text:?} is neither \"off\" nor two words, the old and the new one")),
    }
}
