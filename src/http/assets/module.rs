//! A module of the stage page: what it imports and exports, and its text as the body of a function.
//!
//! Only the forms that the page uses are read. Everything else is an error with its line, because a
//! form that is read wrongly would fail in a browser only.

use super::scan::{Kind, Token, Trouble, is_word, scan};

/// A name, and the name under which the other side knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding {
    /// The name in the module that provides it.
    pub from: String,
    /// The name in the module that receives it.
    pub to: String,
}

/// An import, or an export of what another module exports.
#[derive(Clone, Debug)]
pub struct Link {
    /// Path of the other module, from `src/web`.
    pub path: String,
    /// The names that are taken from it.
    pub takes: Takes,
    /// The place of the statement, for errors.
    pub at: usize,
}

/// The names that a link takes from the other module.
#[derive(Clone, Debug)]
pub enum Takes {
    /// Nothing: the module runs.
    Nothing,
    /// All of it, as an object of this name.
    Whole(String),
    /// Some names.
    Some(Vec<Binding>),
    /// Some names, for those that import this module.
    Passed(Vec<Binding>),
    /// All names, for those that import this module.
    PassedAll,
}

/// A place in the text that depends on the other files.
#[derive(Clone, Debug)]
enum Hole {
    /// `import("…")`, with the path.
    Load(String),
    /// The path of a file, relative to `import.meta.url`.
    File(String),
    /// `import.meta.url`.
    OwnAddress,
}

/// A module.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its path, from `src/web`.
    pub path: String,
    /// The modules that run before it.
    pub links: Vec<Link>,
    /// The names that it declares and exports.
    pub exports: Vec<Binding>,
    /// Paths of the modules that it loads when it needs them.
    pub loads: Vec<(String, usize)>,
    /// Paths of other files that it names by `new URL("…", import.meta.url)`.
    pub files: Vec<(String, usize)>,
    /// Whether it waits at its top level.
    pub waits: bool,
    pieces: Vec<Piece>,
}

/// A piece of the text of a module.
#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Hole(Hole),
}

/// Reads a module.
///
/// # Errors
/// A form that is not supported, with its line.
pub fn read(path: &str, text: &str) -> Result<Module, Trouble> {
    let tokens = scan(path, text)?;
    let code: Vec<usize> =
        (0..tokens.len()).filter(|at| tokens[*at].kind != Kind::Comment).collect();
    let mut reader = Reader {
        text,
        tokens: &tokens,
        code: &code,
        at: 0,
        skipped: vec![false; tokens.len()],
        holes: Vec::new(),
        module: Module {
            path: path.to_owned(),
            links: Vec::new(),
            exports: Vec::new(),
            loads: Vec::new(),
            files: Vec::new(),
            waits: false,
            pieces: Vec::new(),
        },
    };
    while reader.at < code.len() {
        reader.step()?;
    }
    reader.check_exports()?;
    let pieces = reader.pieces();
    Ok(Module { pieces, ..reader.module })
}

impl Module {
    /// Returns the text, with what `load` returns for each `import("…")`.
    pub fn body(&self, load: impl Fn(&str) -> String) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Hole(Hole::Load(path)) => load(path),
            Piece::Hole(Hole::File(path)) => format!("{:?}", format!("/{path}")),
            Piece::Hole(Hole::OwnAddress) => {
                format!("new URL({:?},import.meta.url).href", format!("/{}", self.path))
            }
        };
        self.pieces.iter().map(piece).collect()
    }
}

/// The state of a read.
struct Reader<'a> {
    text: &'a str,
    tokens: &'a [Token],
    /// Indexes of the tokens that are no comments.
    code: &'a [usize],
    /// The next of these.
    at: usize,
    /// The tokens that are not in the body.
    skipped: Vec<bool>,
    /// Replacements of the skipped tokens that begin at these.
    holes: Vec<(usize, Hole)>,
    module: Module,
}

impl<'a> Reader<'a> {
    fn token(&self, at: usize) -> Option<&'a Token> {
        Some(&self.tokens[*self.code.get(at)?])
    }

    /// Returns the text of a token; nothing after the end.
    fn word(&self, at: usize) -> &'a str {
        self.token(at).map_or("", |token| &self.text[token.place.clone()])
    }

    fn trouble(&self, at: usize, why: &str) -> Trouble {
        let place = self.token(at).map_or(self.text.len(), |token| token.place.start);
        Trouble::at(&self.module.path, self.text, place, why)
    }

    /// Reads one token, or a statement that begins with it.
    fn step(&mut self) -> Result<(), Trouble> {
        let at = self.at;
        self.at += 1;
        let Some(token) = self.token(at) else { return Ok(()) };
        if token.kind != Kind::Word || at > 0 && self.word(at - 1) == "." {
            return Ok(());
        }
        match (self.word(at), self.word(at + 1)) {
            ("import", "(") => self.load(at),
            ("import", ".") => self.own_address(at),
            ("import" | "export", ":") => Ok(()),
            ("import" | "export", _) if token.depth > 0 => {
                Err(self.trouble(at, "import and export stand at the top level"))
            }
            ("import", _) => self.import(at),
            ("export", _) => self.export(at),
            ("await", _) if token.depth == 0 => {
                self.module.waits = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Leaves the tokens from `from` to `to`, which is not among them, out of the body.
    fn skip(&mut self, from: usize, to: usize) {
        for at in from..to.min(self.code.len()) {
            self.skipped[self.code[at]] = true;
        }
        self.at = self.at.max(to);
    }

    /// Reads the string at `at` as the path of a file, relative to this one.
    fn path(&self, at: usize) -> Result<String, Trouble> {
        let is_text = self.token(at).is_some_and(|token| token.kind == Kind::Text);
        let quoted = self.word(at);
        let inner = quoted.get(1..quoted.len().max(2) - 1).unwrap_or_default();
        if !is_text
            || !(inner.starts_with("./") || inner.starts_with("../"))
            || inner.contains('\\')
        {
            return Err(self.trouble(at, "a relative path is expected here, such as \"./file.js\""));
        }
        let folder = self.module.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut steps: Vec<&str> = folder.split('/').filter(|step| !step.is_empty()).collect();
        for step in inner.split('/') {
            match step {
                "." => {}
                ".." if steps.pop().is_none() => {
                    return Err(self.trouble(at, "this path leaves src/web"));
                }
                ".." => {}
                step => steps.push(step),
            }
        }
        Ok(steps.join("/"))
    }

    fn load(&mut self, at: usize) -> Result<(), Trouble> {
        if self.word(at + 3) != ")" {
            return Err(self.trouble(at, "import() takes one string"));
        }
        let path = self.path(at + 2)?;
        self.skip(at, at + 4);
        self.holes.push((self.code[at], Hole::Load(path.clone())));
        self.module.loads.push((path, self.tokens[self.code[at]].place.start));
        Ok(())
    }

    fn own_address(&mut self, at: usize) -> Result<(), Trouble> {
        if [2, 3, 4].map(|ahead| self.word(at + ahead)) != ["meta", ".", "url"] {
            return Err(self.trouble(at, "of import.meta only import.meta.url is supported"));
        }
        let before = |back: usize| at.checked_sub(back).map_or("", |at| self.word(at));
        if [5, 4, 3, 1].map(before) == ["new", "URL", "(", ","] {
            let path = self.path(at - 2)?;
            self.module.files.push((path.clone(), self.tokens[self.code[at]].place.start));
            self.skip(at - 2, at - 1);
            self.holes.push((self.code[at - 2], Hole::File(path)));
        }
        self.skip(at, at + 5);
        self.holes.push((self.code[at], Hole::OwnAddress));
        Ok(())
    }

    /// Reads an import statement.
    fn import(&mut self, at: usize) -> Result<(), Trouble> {
        let (takes, source) = match self.word(at + 1) {
            "{" => {
                let (names, end) = self.names(at + 1)?;
                (Takes::Some(names), self.after_from(end)?)
            }
            "*" if self.word(at + 2) == "as" => {
                (Takes::Whole(self.name(at + 3)?), self.after_from(at + 4)?)
            }
            _ if self.token(at + 1).is_some_and(|token| token.kind == Kind::Text) => {
                (Takes::Nothing, at + 1)
            }
            _ => return Err(self.trouble(at, "import { names }, * as name, or only a path")),
        };
        self.link(at, takes, source)
    }

    /// Ends a statement whose path is at `source`.
    fn link(&mut self, at: usize, takes: Takes, source: usize) -> Result<(), Trouble> {
        let path = self.path(source)?;
        if self.word(source + 1) != ";" {
            return Err(self.trouble(source, "a semicolon is expected after this"));
        }
        let place = self.tokens[self.code[at]].place.start;
        self.module.links.push(Link { path, takes, at: place });
        self.skip(at, source + 2);
        Ok(())
    }

    /// Reads an export statement. Of a declaration only the word `export` is left out.
    fn export(&mut self, at: usize) -> Result<(), Trouble> {
        let next = self.word(at + 1);
        let named = match (next, self.word(at + 2)) {
            ("{", _) => return self.export_names(at),
            ("*", "from") => return self.link(at, Takes::PassedAll, at + 3),
            ("async", "function") if self.word(at + 3) == "*" => at + 4,
            ("async", "function") => at + 3,
            ("function", "*") => at + 3,
            ("function" | "class", _) => at + 2,
            ("const", _) => {
                self.check_const(at + 2)?;
                at + 2
            }
            ("let" | "var", _) => {
                return Err(self.trouble(at, "the value of a const is exported, and never changes"));
            }
            ("default", _) => return Err(self.trouble(at, "an export has a name")),
            _ => return Err(self.trouble(at, "this form of export is not supported")),
        };
        let name = self.name(named)?;
        self.module.exports.push(Binding { from: name.clone(), to: name });
        self.skip(at, at + 1);
        Ok(())
    }

    fn export_names(&mut self, at: usize) -> Result<(), Trouble> {
        let (names, end) = self.names(at + 1)?;
        if self.word(end) == "from" {
            return self.link(at, Takes::Passed(names), end + 1);
        }
        if self.word(end) != ";" {
            return Err(self.trouble(end, "a semicolon is expected before this"));
        }
        self.module.exports.extend(names);
        self.skip(at, end + 1);
        Ok(())
    }

    /// Checks that a constant is one name with one value.
    fn check_const(&self, at: usize) -> Result<(), Trouble> {
        if self.word(at + 1) != "=" {
            return Err(self.trouble(at, "an exported const is one name and its value"));
        }
        for at in at + 2.. {
            let Some(token) = self.token(at) else { break };
            match self.word(at) {
                ";" if token.depth == 0 => return Ok(()),
                "," if token.depth == 0 => {
                    return Err(self.trouble(at, "an exported const is one name and its value"));
                }
                _ => {}
            }
        }
        Err(self.trouble(at, "a semicolon is expected after this const"))
    }

    /// Checks that no exported name changes: importers receive a copy of its value.
    fn check_exports(&self) -> Result<(), Trouble> {
        for at in 0..self.code.len() {
            let is_top = self.token(at).is_some_and(|token| token.depth == 0);
            if is_top
                && ["let", "var"].contains(&self.word(at))
                && self.module.exports.iter().any(|export| export.from == self.word(at + 1))
            {
                return Err(self.trouble(at, "the value of a const is exported, and never changes"));
            }
        }
        Ok(())
    }

    /// Reads `{ a, b as c }` at `at`. Returns the names, and the place after them.
    fn names(&self, at: usize) -> Result<(Vec<Binding>, usize), Trouble> {
        let mut names = Vec::new();
        let mut at = at + 1;
        while self.word(at) != "}" {
            let from = self.name(at)?;
            let mut to = from.clone();
            at += 1;
            if self.word(at) == "as" {
                to = self.name(at + 1)?;
                at += 2;
            }
            names.push(Binding { from, to });
            match self.word(at) {
                "," => at += 1,
                "}" => {}
                _ => return Err(self.trouble(at, "a comma or } is expected here")),
            }
        }
        Ok((names, at + 1))
    }

    fn name(&self, at: usize) -> Result<String, Trouble> {
        let is_word = self.token(at).is_some_and(|token| token.kind == Kind::Word);
        match self.word(at) {
            "default" => Err(self.trouble(at, "an export has a name")),
            word if is_word && !word.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(word.to_owned())
            }
            _ => Err(self.trouble(at, "a name is expected here")),
        }
    }

    /// Returns the place after the word `from`.
    fn after_from(&self, at: usize) -> Result<usize, Trouble> {
        match self.word(at) {
            "from" => Ok(at + 1),
            _ => Err(self.trouble(at, "from is expected here")),
        }
    }

    /// Returns the text without comments, indentation, empty lines, and the statements that were
    /// read.
    fn pieces(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut body = String::new();
        let mut end = 0;
        let mut gap = String::new();
        // The body stands in the braces of a function.
        let mut before = b'{';
        for (index, token) in self.tokens.iter().enumerate() {
            gap.push_str(&self.text[end..token.place.start]);
            end = token.place.end;
            let text = &self.text[token.place.clone()];
            let hole = self.holes.iter().find(|(at, _)| *at == index);
            if token.kind == Kind::Comment || self.skipped[index] && hole.is_none() {
                // The space keeps the words around it apart.
                gap.push(' ');
                gap.extend(text.matches('\n'));
                continue;
            }
            let after = text.bytes().next().unwrap_or_default();
            body.push_str(space(&gap, before, after));
            gap.clear();
            match hole {
                Some((_, hole)) => {
                    pieces.push(Piece::Text(std::mem::take(&mut body)));
                    pieces.push(Piece::Hole(hole.clone()));
                    // Both kinds may be followed by a word.
                    before = b'a';
                }
                None => {
                    body.push_str(text);
                    before = text.bytes().last().unwrap_or_default();
                }
            }
        }
        pieces.push(Piece::Text(body));
        pieces
    }
}

/// Returns the space that is needed between two tokens: a line break if there was one that may end
/// a statement, or a space if the tokens could become one.
fn space(gap: &str, before: u8, after: u8) -> &'static str {
    let opens = b";,({[=:?".contains(&before);
    let closes = b")}]".contains(&after);
    if gap.contains('\n') && !opens && !closes {
        return "\n";
    }
    let splits = |byte: u8| b"(){}[];,".contains(&byte);
    let is_value = |byte: u8| is_word(byte) || b"\"'`".contains(&byte);
    // Two operators could become another one, or a comment.
    let is_operator = |byte: u8| b"+-*/%<>&|^=!?:~".contains(&byte);
    let are_apart = splits(before)
        || splits(after)
        || is_operator(before) && is_value(after)
        || is_value(before) && is_operator(after);
    if gap.is_empty() || are_apart { "" } else { " " }
}
