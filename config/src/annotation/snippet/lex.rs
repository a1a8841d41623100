//! nginx's grammar: words, quoted or not, that end with `;` or open a block.

/// Directives within directives.
const DEEPEST: usize = 4;

/// One directive with its words, the name first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    /// Where it begins, from 1.
    pub(super) line: usize,
    pub(super) words: Vec<String>,
    pub(super) block: Option<Vec<Directive>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    End,
    Open,
    Close,
}

/// Takes a snippet apart; an error names the line.
pub(super) fn parse(text: &str) -> Result<Vec<Directive>, String> {
    let tokens = tokens(text)?;
    let mut rest = &tokens[..];
    let directives = directives(&mut rest, 0)?;
    match rest.first() {
        None => Ok(directives),
        Some((line, _)) => Err(format!("line {line}: a `}}` closes nothing; the whole snippet is refused")),
    }
}

/// Directives until the end of the block.
fn directives(rest: &mut &[(usize, Token)], depth: usize) -> Result<Vec<Directive>, String> {
    let mut all = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut begun = 1;
    while let Some(((line, token), tail)) = rest.split_first() {
        let fail = |why: &str| Err(format!("line {line}: {why}; the whole snippet is refused"));
        if *token == Token::Close {
            return if words.is_empty() { Ok(all) } else { fail("a `;` is missing") };
        }
        *rest = tail;
        if words.is_empty() {
            begun = *line;
        }
        match token {
            Token::Word(word) => words.push(word.clone()),
            Token::End if words.is_empty() => {}
            Token::End => all.push(Directive { line: begun, words: std::mem::take(&mut words), block: None }),
            Token::Open if words.is_empty() || depth == DEEPEST => return fail("a block is not understood"),
            Token::Open => {
                let inner = directives(rest, depth + 1)?;
                match rest.split_first() {
                    Some(((_, Token::Close), tail)) => *rest = tail,
                    _ => return fail("a `}` is missing"),
                }
                all.push(Directive { line: begun, words: std::mem::take(&mut words), block: Some(inner) });
            }
            Token::Close => {}
        }
    }
    if words.is_empty() {
        return Ok(all);
    }
    Err(format!("line {begun}: a `;` is missing; the whole snippet is refused"))
}

/// Words and signs, each with its line.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\n' => line += 1,
            _ if letter.is_whitespace() => {}
            '#' => while letters.next_if(|letter| *letter != '\n').is_some() {},
            ';' => tokens.push((line, Token::End)),
            '{' => tokens.push((line, Token::Open)),
            '}' => tokens.push((line, Token::Close)),
            '"' | '\'' => {
                let begun = line;
                let word = quoted(&mut letters, letter, &mut line)
                    .ok_or_else(|| format!("line {begun}: a quote is not closed; the whole snippet is refused"))?;
                tokens.push((begun, Token::Word(word)));
            }
            _ => tokens.push((line, Token::Word(bare(&mut letters, letter)))),
        }
    }
    Ok(tokens)
}

type Letters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// The rest of a word in quotes.
fn quoted(letters: &mut Letters<'_>, quote: char, line: &mut usize) -> Option<String> {
    let mut word = String::new();
    loop {
        match letters.next()? {
            letter if letter == quote => return Some(word),
            '\\' => word.push_str(&escaped(letters.next()?)),
            letter => {
                *line += usize::from(letter == '\n');
                word.push(letter);
            }
        }
    }
}

/// The rest of a word without quotes; `${` does not open a block, nor does a `{` within an expression.
fn bare(letters: &mut Letters<'_>, first: char) -> String {
    let mut word = String::from(first);
    while let Some(&letter) = letters.peek() {
        let ends = letter.is_whitespace() || letter == ';' || (letter == '{' && !word.ends_with('$'));
        if ends {
            break;
        }
        letters.next();
        match letter {
            '\\' => word.push_str(&letters.next().map_or_else(|| "\\".to_owned(), escaped)),
            _ => word.push(letter),
        }
        if letter == '{' {
            while let Some(letter) = letters.next_if(|letter| *letter != ';' && !letter.is_whitespace()) {
                word.push(letter);
                if letter == '}' {
                    break;
                }
            }
        }
    }
    word
}

/// What a backslash and a letter stand for; a letter without a meaning keeps its backslash.
fn escaped(letter: char) -> String {
    match letter {
        'n' => "\n".to_owned(),
        'r' => "\r".to_owned(),
        't' => "\t".to_owned(),
        '"' | '\'' | '\\' => letter.to_string(),
        _ => format!("\\{letter}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_taken_apart_as_nginx_does() {
        let parsed = parse("a \"b; c\" 'd\\'e' ${f}g;\nif ($x ~ ^/\\d+$) { h; }").unwrap();
        assert_eq!(parsed[0].words, ["a", "b; c", "d'e", "${f}g"]);
        assert_eq!((parsed[1].line, &*parsed[1].words), (2, &["if", "($x", "~", "^/\\d+$)"].map(str::to_owned)[..]));
        assert_eq!(parsed[1].block.as_ref().unwrap()[0].words, ["h"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z ;{}#$\"'\\\\\n]{0,80}") {
            let _ = parse(&text);
        }
    }
}
