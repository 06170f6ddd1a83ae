//! Just enough of Rust's grammar to find paths: identifiers and punctuation without comments,
//! strings and characters, and the module path that each identifier path resolves to.

/// A token and the line it starts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A path from the crate's root, such as `["mem", "Gpa"]`, and the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

fn is_ident(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Splits source text; comments, string and character literals vanish.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut i, mut line, mut out) = (0, 1, Vec::new());
    while i < chars.len() {
        let start = i;
        let c = at(i);
        let mut text = None;
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && at(i) != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            loop {
                match (at(i), at(i + 1)) {
                    ('/', '*') => (depth, i) = (depth + 1, i + 2),
                    ('*', '/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 || i >= chars.len() {
                    break;
                }
            }
        } else if c.is_alphanumeric() || c == '_' {
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            let word: String = chars[start..i].iter().collect();
            let raw = matches!(word.as_str(), "r" | "br" | "cr");
            let hashes = (0..).take_while(|n| at(i + n) == '#').count();
            if raw && at(i + hashes) == '"' {
                i = raw_string_end(&chars, i + hashes, hashes);
            } else if !(matches!(word.as_str(), "b" | "c") && matches!(at(i), '"' | '\'')) {
                text = Some(word);
            }
        } else if c == '"' {
            i = quoted_end(&chars, i);
        } else if c == '\'' {
            // A lifetime has no closing quote after its first character.
            if at(i + 1) == '\\' || at(i + 2) == '\'' {
                i = quoted_end(&chars, i);
            } else {
                i += 1;
            }
        } else if c == ':' && at(i + 1) == ':' {
            i += 2;
            text = Some("::".into());
        } else {
            i += 1;
            if !c.is_whitespace() {
                text = Some(c.into());
            }
        }
        if let Some(text) = text {
            out.push(Token { text, line });
        }
        let end = i.min(chars.len());
        line += chars[start..end].iter().filter(|c| **c == '\n').count();
    }
    out
}

fn raw_string_end(chars: &[char], open: usize, hashes: usize) -> usize {
    (open + 1..chars.len())
        .find(|&i| {
            chars[i] == '"' && (1..=hashes).all(|n| chars.get(i + n).is_some_and(|c| *c == '#'))
        })
        .map_or(chars.len(), |i| i + 1 + hashes)
}

fn quoted_end(chars: &[char], open: usize) -> usize {
    let mut i = open + 1;
    while i < chars.len() && chars[i] != chars[open] {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// Every path through `crate` or `super` in a file whose module path is `module`, from the root.
pub(crate) fn paths(source: &str, module: &[String]) -> Vec<Path> {
    let tokens = tokens(source);
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    let mut found = Vec::new();
    // One entry per open brace: the inline module it opened, if any.
    let mut braces: Vec<Option<String>> = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        match text(i) {
            "{" => {
                let opens_module = i >= 2 && text(i - 2) == "mod";
                braces.push(opens_module.then(|| text(i - 1).to_owned()));
            }
            "}" => {
                braces.pop();
            }
            "crate" | "super" | "self" if i == 0 || text(i - 1) != "::" => {
                let mut here = module.to_vec();
                here.extend(braces.iter().flatten().cloned());
                let mut tree = Tree {
                    tokens: &tokens,
                    at: i,
                    found: &mut found,
                };
                tree.walk(&here, true);
                i = tree.at;
                continue;
            }
            // `use {crate::mem, super::x}`: the group's own paths are met one by one.
            "use" if text(i + 1) == "{" => i += 1,
            _ => {}
        }
        i += 1;
    }
    found
}

struct Tree<'a> {
    tokens: &'a [Token],
    at: usize,
    found: &'a mut Vec<Path>,
}

impl Tree<'_> {
    fn text(&self) -> &str {
        self.tokens.get(self.at).map_or("", |t| t.text.as_str())
    }

    /// Reads one path or `use` tree that starts in `base`.
    fn walk(&mut self, base: &[String], first: bool) {
        let mut segments = base.to_vec();
        let mut first = first;
        let line = self.tokens.get(self.at).map_or(0, |t| t.line);
        loop {
            match self.text() {
                "crate" => segments.clear(),
                "super" => {
                    segments.pop();
                }
                "self" => {}
                "{" => {
                    self.at += 1;
                    while !matches!(self.text(), "}" | "") {
                        if self.text() == "," {
                            self.at += 1;
                        } else {
                            self.walk(&segments, false);
                        }
                    }
                    self.at += 1;
                    return;
                }
                "*" => segments.push("*".into()),
                name if is_ident(name) => segments.push(name.into()),
                _ => {
                    // `foo::<T>` and the like: the path has ended.
                    self.at += usize::from(!first);
                    break;
                }
            }
            first = false;
            self.at += 1;
            if self.text() == "as" {
                self.at += 2;
                segments.push("as".into());
                break;
            }
            if self.text() != "::" {
                break;
            }
            self.at += 1;
        }
        self.found.push(Path { segments, line });
    }
}
