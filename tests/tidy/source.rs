//! Rust as text whose comments and literals are blanked out: enough for names, paths and braces.

/// The line on which `#[cfg(test)]` opens an inline module.
pub fn test_module_line(code: &str) -> Option<usize> {
    let lines: Vec<&str> = code.lines().collect();
    (0..lines.len()).find(|&at| {
        lines[at].starts_with("#[cfg(")
            && lines[at].split(|c: char| !c.is_alphanumeric()).any(|word| word == "test")
            && lines[at + 1..]
                .iter()
                .find(|line| !line.starts_with("#["))
                .is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    })
}

/// Puts a space in place of each byte of comments and literals, and keeps the line ends.
pub fn blank_literals_and_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let (length, is_code) = match literal_or_comment(rest) {
            Some(length) if !after_word || !rest.starts_with(['r', 'b']) => (length, false),
            _ => (first.len_utf8(), true),
        };
        let (piece, tail) = rest.split_at(length);
        if is_code {
            code.push_str(piece);
        } else {
            code.extend(piece.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        }
        rest = tail;
    }
    code
}

/// Length of the comment or literal at the start of `rest`.
fn literal_or_comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        let mut depth = 0;
        for (at, _) in rest.char_indices() {
            depth += i32::from(rest[at..].starts_with("/*"));
            depth -= i32::from(rest[..at].ends_with("*/") && at > 3);
            if depth == 0 {
                return Some(at);
            }
        }
        return Some(rest.len());
    }
    let prefix = rest.len() - rest.trim_start_matches(['b', 'r', 'c']).len();
    let (prefix, body) = rest.split_at(prefix.min(2));
    if prefix.contains('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", &body[..hashes]);
        let inner = body[hashes..].strip_prefix('"')?;
        return inner.find(&end).map(|at| prefix.len() + hashes + 1 + at + end.len());
    }
    let quote = body.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inner = &body[1..];
    // A quote that neither escapes nor closes behind one character begins a lifetime.
    if quote == '\'' && !inner.starts_with('\\') && inner.chars().nth(1) != Some('\'') {
        return None;
    }
    let mut escaped = false;
    let end = inner.char_indices().find(|&(_, c)| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    });
    end.map(|(at, _)| prefix.len() + 1 + at + 1)
}

/// A path as written, groups taken apart: `use std::{fs, net::{self, Ipv4Addr}}` has three. A macro
/// keeps its exclamation mark.
pub struct NamedPath {
    /// Counted from 0.
    pub line: usize,
    /// At least one.
    pub segments: Vec<String>,
}

/// Every path in `code`, single names among them, in order.
pub fn paths(code: &str) -> Vec<NamedPath> {
    let mut found = Vec::new();
    // Prefixes of the groups that are open; an ordinary brace stands for an empty prefix.
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut current: Vec<String> = Vec::new();
    let mut line = 0;
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let prefix = groups.last().cloned().unwrap_or_default();
        if first.is_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            let is_macro = tail.starts_with('!') && !tail.starts_with("!=");
            let word = if is_macro { format!("{word}!") } else { word.to_owned() };
            if current.is_empty() {
                current = prefix;
            }
            current.push(word);
            if !tail.starts_with("::") {
                found.push(NamedPath { line, segments: std::mem::take(&mut current) });
                rest = tail;
            } else {
                rest = &tail[2..];
            }
            continue;
        }
        match first {
            '\n' => line += 1,
            '{' if !current.is_empty() => groups.push(std::mem::take(&mut current)),
            '{' => groups.push(prefix),
            '}' => drop(groups.pop()),
            ' ' => {}
            _ => current.clear(),
        }
        rest = &rest[first.len_utf8()..];
    }
    found
}

/// A function: its lines, and what stands between its parentheses.
pub struct Function {
    /// The line of `fn`, counted from 0.
    pub first_line: usize,
    /// The line of the closing brace, or of the parameters' end where there is no body.
    pub last_line: usize,
    /// As written.
    pub parameters: String,
}

/// Every function in `code`, nested ones and ones without a body among them.
pub fn functions(code: &str) -> Vec<Function> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let line_of = |at: usize| code[..at].matches('\n').count();
    let starts = code.match_indices("fn ").map(|(at, _)| at).filter(|&at| {
        // Neither the end of a longer word nor the type of a function.
        !code[..at].ends_with(is_word) && code[at + 3..].starts_with(is_word)
    });
    starts
        .filter_map(|at| {
            let open = parameter_list(code, at)?;
            let close = closing(code, open)?;
            let end = body(code, close + 1).map_or(Some(close), |body| closing(code, body))?;
            Some(Function {
                first_line: line_of(at),
                last_line: line_of(end),
                parameters: code[open + 1..close].to_owned(),
            })
        })
        .collect()
}

/// The first parenthesis behind a function's name and generics.
fn parameter_list(code: &str, function: usize) -> Option<usize> {
    let mut generics = 0;
    for (offset, c) in code[function..].char_indices() {
        let at = function + offset;
        match c {
            '(' if generics == 0 => return Some(at),
            '<' => generics += 1,
            '>' if !code[..at].ends_with('-') => generics -= 1,
            _ => {}
        }
    }
    None
}

/// The brace that opens a function's body, unless a semicolon stands in its place.
fn body(code: &str, mut at: usize) -> Option<usize> {
    loop {
        at += code[at..].find(['{', ';', '(', '['])?;
        match &code[at..=at] {
            "{" => return Some(at),
            ";" => return None,
            // The return type and the bounds may hold both.
            _ => at = closing(code, at)? + 1,
        }
    }
}

/// The bracket that closes the one at `open`.
fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0;
    for (offset, c) in code[open..].char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(open + offset);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_is_not() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            ("a(\"b\\\"c\", d)", "a(      , d)"),
            ("a(r#\"b\"c\"#, d)", "a(        , d)"),
            ("a(b\"b\", 'c', '\\'', b'\\n', d)", "a(    ,    ,     ,      , d)"),
            ("fn a<'b>(c: &'b str)", "fn a<'b>(c: &'b str)"),
            ("bar\"b\"", "bar   "),
            ("for b in r {}", "for b in r {}"),
        ] {
            assert_eq!(blank_literals_and_comments(text), code, "{text}");
        }
    }

    #[test]
    fn paths_come_out_of_their_groups() {
        let code = "use std::{fs, net::{self, Ipv4Addr}};\nfn f() { a::b(c) != d!() }";
        let found: Vec<String> = paths(code).iter().map(|path| path.segments.join("::")).collect();
        let expected = [
            "use",
            "std::fs",
            "std::net::self",
            "std::net::Ipv4Addr",
            "fn",
            "f",
            "a::b",
            "c",
            "d!",
        ];
        assert_eq!(found, expected);
        assert_eq!(paths(code).last().map(|path| path.line), Some(1));
    }

    #[test]
    fn functions_are_found_with_their_ends() {
        let code = "fn f() {\n if a < b { c([0; 4]); }\n}\ntrait A {\n fn g(&self) -> [u8; 4];\n}\n\
                    fn h<F: Fn(u8) -> u8>(\n a: F,\n) where F: B {\n}\n";
        let found: Vec<_> = functions(code)
            .iter()
            .map(|f| (f.first_line, f.last_line, f.parameters.trim().to_owned()))
            .collect();
        let expected = [(0, 2, ""), (4, 4, "&self"), (6, 9, "a: F,")];
        assert_eq!(found, expected.map(|(first, last, text)| (first, last, text.to_owned())));
    }
}
