//! The shape of types: no circle of calls through `self`, and no type that knows everything.
//!
//! Imports do not show how the files of one type hang together, since a call through `self` imports
//! nothing. So the `impl` blocks are read with `syn`, and the calls `self.f(…)` and `Self::f(…)`
//! are edges from the calling file to the file that defines `f`.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{ImplItem, Item};

use super::circles::circles;
use super::{Breach, File};

/// Allowed exceptions: the rule, the type or its method, and the reason. An excuse that is not
/// needed is a breach.
const EXCUSES: [(Rule, &str, &str); 6] = [
    (Rule::Size, "Client", "one client in 256 bytes, in the order in which it is packed"),
    (Rule::Size, "Counters", "one number for each thing that is counted"),
    (Rule::Size, "Crowd", "one run of the load: all that its members share"),
    (Rule::Size, "Outputs", "its printing half lies with the engine until there is one way out"),
    (Rule::Size, "Worker", "one thread that owns all it needs to store"),
    (Rule::Size, "Watch", "one reading a second of everything that is measured"),
];

const METHODS_MAX: usize = 45;
/// A session has a method for each command, and views for its readers.
const SESSION_METHODS_MAX: usize = 80;
const FILES_MAX: usize = 6;
const FIELDS_MAX: usize = 16;
/// With `self`.
const PARAMETERS_MAX: usize = 6;

/// The rules that a type may break.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rule {
    /// Its files do not call each other in a circle.
    Circle,
    /// A type lies in one folder and few files, and has few methods and fields.
    Size,
    /// Its methods take few parameters.
    Parameters,
}

/// One method of a type.
struct Method {
    file: String,
    name: String,
    /// Names after `self.` and `Self::` that are followed by parentheses.
    calls: BTreeSet<String>,
    takes_mut_self: bool,
    parameters: usize,
}

/// Everything that the files of a crate say about one type.
#[derive(Default)]
struct Shape {
    methods: Vec<Method>,
    fields: usize,
    folders: BTreeSet<String>,
    files: BTreeSet<String>,
}

/// Checks all types of the product and its tools.
pub fn check(files: &[File]) -> Vec<Breach> {
    let found = found(files);
    let excused =
        |(rule, name): (Rule, &str)| EXCUSES.iter().any(|(of, who, _)| *of == rule && *who == name);
    let open = found.iter().filter(|(rule, name, _)| !excused((*rule, name)));
    open.map(|(_, _, breach)| breach.clone()).collect()
}

/// Excuses that are no longer needed.
pub fn stale_excuses(files: &[File]) -> Vec<Breach> {
    let found = found(files);
    let needed =
        |(rule, who): (Rule, &str)| found.iter().any(|(of, name, _)| *of == rule && name == who);
    let stale = EXCUSES.iter().filter(|(rule, who, _)| !needed((*rule, who)));
    stale
        .map(|(rule, who, _)| {
            format!("tools/src/tidy/shape.rs: {who} needs no excuse for {rule:?}")
        })
        .collect()
}

/// Every breach, with its rule and what breaks it.
fn found(files: &[File]) -> Vec<(Rule, String, Breach)> {
    let mut all = Vec::new();
    for ((place, name), shape) in shapes(files) {
        for files in circles(&edges(&shape)) {
            let breach =
                format!("{place}: `{name}` calls in a circle through self: {}", files.join(", "));
            all.push((Rule::Circle, name.clone(), breach));
        }
        let sizes = sizes(&name, &shape).into_iter();
        all.extend(sizes.map(|why| (Rule::Size, name.clone(), format!("{place}: `{name}` {why}"))));
        for method in shape.methods.iter().filter(|method| method.parameters > PARAMETERS_MAX) {
            let who = format!("{name}::{}", method.name);
            let breach = format!("{place}: `{who}` takes {} parameters", method.parameters);
            all.push((Rule::Parameters, who, breach));
        }
    }
    all
}

fn sizes(name: &str, shape: &Shape) -> Vec<String> {
    let methods = shape.methods.len();
    let methods_max = if name == "Session" { SESSION_METHODS_MAX } else { METHODS_MAX };
    let mut found = Vec::new();
    if methods > methods_max {
        found.push(format!("has {methods} methods, at most {methods_max}"));
    }
    if shape.files.len() > FILES_MAX {
        found.push(format!("lies in {} files, at most {FILES_MAX}", shape.files.len()));
    }
    if shape.folders.len() > 1 {
        found.push(format!("lies in several folders: {:?}", shape.folders));
    }
    if shape.fields > FIELDS_MAX && shape.methods.iter().any(|method| method.takes_mut_self) {
        found.push(format!("changes {} fields, at most {FIELDS_MAX}", shape.fields));
    }
    found
}

/// Returns the files of a type that call methods of other files.
fn edges(shape: &Shape) -> BTreeMap<String, BTreeSet<String>> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for caller in &shape.methods {
        for callee in shape.methods.iter().filter(|callee| caller.calls.contains(&callee.name)) {
            if callee.file != caller.file {
                edges.entry(caller.file.clone()).or_default().insert(callee.file.clone());
            }
        }
    }
    edges
}

/// Returns the types by the folder of their definition and their name.
fn shapes(files: &[File]) -> BTreeMap<(String, String), Shape> {
    let parsed: Vec<(&File, syn::File)> = files
        .iter()
        .filter(|file| is_product(file))
        .filter_map(|file| Some((file, syn::parse_file(&file.text).ok()?)))
        .collect();
    let mut homes: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut shapes: BTreeMap<(String, String), Shape> = BTreeMap::new();
    for (file, tree) in &parsed {
        for_each_item(&tree.items, &mut |item| {
            let (name, fields) = match item {
                Item::Struct(item) => (item.ident.to_string(), item.fields.len()),
                Item::Enum(item) => (item.ident.to_string(), 0),
                _ => return,
            };
            homes.entry(name.clone()).or_default().push(&file.path);
            shapes.entry((file.path.clone(), name)).or_default().fields = fields;
        });
    }
    for (file, tree) in &parsed {
        for_each_item(&tree.items, &mut |item| {
            let Item::Impl(block) = item else { return };
            let syn::Type::Path(path) = &*block.self_ty else { return };
            let Some(name) = path.path.segments.last().map(|segment| segment.ident.to_string())
            else {
                return;
            };
            let Some(home) = nearest(homes.get(&name).map_or(&[], Vec::as_slice), &file.path)
            else {
                return;
            };
            let shape = shapes.entry((home.to_owned(), name)).or_default();
            let methods = block.items.iter().filter_map(|item| match item {
                ImplItem::Fn(function) => Some(method(&file.path, function)),
                _ => None,
            });
            if block.trait_.is_none() {
                shape.files.insert(file.path.clone());
                shape.folders.insert(folder(&file.path));
            }
            shape.methods.extend(methods);
        });
    }
    shapes
}

fn is_product(file: &File) -> bool {
    let is_test = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    let places = ["src/", "shards/", "tools/src/", "perf/src/"];
    file.is_rust() && !is_test && places.iter().any(|place| file.path.starts_with(place))
}

/// Returns the folder of a file; a module's own file counts as in the folder that it names.
fn folder(path: &str) -> String {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    stem.strip_suffix("/mod")
        .or_else(|| stem.rsplit_once('/').map(|(folder, _)| folder))
        .unwrap_or("")
        .to_owned()
}

/// Returns the definition that shares the longest path with `path`, in the same crate.
fn nearest<'h>(homes: &[&'h str], path: &str) -> Option<&'h str> {
    let shared =
        |home: &&str| home.split('/').zip(path.split('/')).take_while(|(a, b)| a == b).count();
    let within = |home: &&&str| home.split("src/").next() == path.split("src/").next();
    homes
        .iter()
        .filter(within)
        .max_by_key(|home| (shared(home), std::cmp::Reverse(home.len())))
        .copied()
}

/// Calls `visit` with all items outside test modules.
fn for_each_item(items: &[Item], visit: &mut impl FnMut(&Item)) {
    for item in items {
        if let Item::Mod(module) = item {
            let is_test = module.attrs.iter().any(|attribute| {
                attribute.path().is_ident("cfg")
                    && attribute.meta.to_token_stream().to_string().contains("test")
            });
            if let (false, Some((_, inner))) = (is_test, &module.content) {
                for_each_item(inner, visit);
            }
        }
        visit(item);
    }
}

fn method(file: &str, function: &syn::ImplItemFn) -> Method {
    let mut calls = BTreeSet::new();
    calls_of(function.block.to_token_stream(), &mut calls);
    let receiver = function.sig.receiver();
    Method {
        file: file.to_owned(),
        name: function.sig.ident.to_string(),
        calls,
        takes_mut_self: receiver
            .is_some_and(|receiver| receiver.mutability.is_some() && receiver.reference.is_some()),
        parameters: function.sig.inputs.len(),
    }
}

/// Collects the names in `self.name(…)` and `Self::name(…)`. Tokens rather than expressions, as
/// macros hide these.
fn calls_of(tokens: TokenStream, calls: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let ident = |at: usize| match tokens.get(at) {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    };
    let punct = |at: usize, c: char| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == c);
    let parenthesis = |at: usize| matches!(tokens.get(at), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis);
    for (at, token) in tokens.iter().enumerate() {
        match ident(at).as_deref() {
            Some("self") if punct(at + 1, '.') && parenthesis(at + 3) => {
                calls.extend(ident(at + 2))
            }
            Some("Self") if punct(at + 1, ':') && punct(at + 2, ':') && parenthesis(at + 4) => {
                calls.extend(ident(at + 3));
            }
            _ => {}
        }
        if let TokenTree::Group(group) = token {
            calls_of(group.stream(), calls);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(files: &[(&str, &str)]) -> Vec<Breach> {
        check(&files.iter().map(|(path, text)| File::new(path, text)).collect::<Vec<_>>())
    }

    #[test]
    fn a_circle_of_methods_is_reported_even_inside_macros() {
        let mut files = [
            (
                "shards/x/src/a/mod.rs",
                "struct Desk; impl Desk { fn f(&self) { assert!(self.g()); } fn h(&self) {} }",
            ),
            ("shards/x/src/a/b.rs", "impl Desk { fn g(&self) -> bool { Self::h(self); true } }"),
        ];
        let found = breaches(&files);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("circle"), "{found:?}");
        files[1].1 = "impl Desk { fn g(&self) -> bool { other.h() } }";
        assert_eq!(breaches(&files), [""; 0]);
    }

    #[test]
    fn types_with_the_same_name_in_two_crates_are_separate() {
        let files = [
            ("shards/x/src/a.rs", "struct Desk; impl Desk { fn f(&self) { self.g(); } }"),
            ("shards/y/src/b.rs", "struct Desk; impl Desk { fn g(&self) { self.f(); } }"),
        ];
        assert_eq!(breaches(&files), [""; 0]);
    }

    #[test]
    fn a_type_that_grows_too_large_is_reported() {
        let methods: String =
            (0..=METHODS_MAX).map(|n| format!("fn f{n}(&mut self) {{}} ")).collect();
        let fields: String = (0..=FIELDS_MAX).map(|n| format!("f{n}: u8, ")).collect();
        let text = format!("struct Desk {{ {fields} }} impl Desk {{ {methods} }}");
        assert_eq!(breaches(&[("src/desk.rs", &text)]).len(), 2);
        let read_only = text.replace("&mut self", "&self");
        assert_eq!(
            breaches(&[("src/desk.rs", &read_only)]).len(),
            1,
            "fields that are only read may be many"
        );
    }

    #[test]
    fn a_type_in_two_folders_and_a_method_with_many_parameters_are_reported() {
        let files = [
            (
                "src/desk/mod.rs",
                "struct Desk; impl Desk { fn f(&self, a: u8, b: u8, c: u8, d: u8, e: u8, g: u8) {} }",
            ),
            ("src/chair.rs", "impl Desk { fn g(&self) {} }"),
        ];
        assert_eq!(breaches(&files).len(), 2);
    }
}
