//! Every public item is documented, also in the server's binary, which rustdoc does not check.

use quote::ToTokens;
use syn::{Attribute, Fields, ImplItem, Item, TraitItem, Visibility};

use super::{Breach, File};

/// The places where the rule holds.
const PLACES: [&str; 6] = [
    "src/",
    "shards/cluster/src/",
    "shards/redis/src/",
    "shards/storage/src/",
    "shards/trace/src/",
    "shards/testkit/src/",
];

/// Checks one file.
pub fn check(file: &File) -> Vec<Breach> {
    let is_test = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    if is_test || !PLACES.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    let Ok(tree) = syn::parse_file(&file.text) else { return Vec::new() };
    let mut names = Vec::new();
    undocumented(&tree.items, &mut names);
    let what = |name: String| format!("{}: `{name}` is public and has no documentation", file.path);
    names.into_iter().map(what).collect()
}

fn undocumented(items: &[Item], names: &mut Vec<String>) {
    let mut add = |attributes: &[Attribute], visibility: &Visibility, name: String| {
        if matches!(visibility, Visibility::Public(_)) && !is_documented(attributes) {
            names.push(name);
        }
    };
    for item in items {
        match item {
            Item::Const(item) => add(&item.attrs, &item.vis, item.ident.to_string()),
            Item::Static(item) => add(&item.attrs, &item.vis, item.ident.to_string()),
            Item::Type(item) => add(&item.attrs, &item.vis, item.ident.to_string()),
            Item::Fn(item) => add(&item.attrs, &item.vis, item.sig.ident.to_string()),
            Item::Struct(item) => {
                add(&item.attrs, &item.vis, item.ident.to_string());
                if let Fields::Named(fields) = &item.fields {
                    for field in &fields.named {
                        let name = field.ident.as_ref().map(ToString::to_string);
                        let name = format!("{}::{}", item.ident, name.unwrap_or_default());
                        add(&field.attrs, &field.vis, name);
                    }
                }
            }
            Item::Enum(item) => {
                add(&item.attrs, &item.vis, item.ident.to_string());
                for variant in &item.variants {
                    add(&variant.attrs, &item.vis, format!("{}::{}", item.ident, variant.ident));
                }
            }
            Item::Trait(item) => {
                add(&item.attrs, &item.vis, item.ident.to_string());
                for function in item.items.iter().filter_map(|item| match item {
                    TraitItem::Fn(function) => Some(function),
                    _ => None,
                }) {
                    let name = format!("{}::{}", item.ident, function.sig.ident);
                    add(&function.attrs, &item.vis, name);
                }
            }
            Item::Impl(block) if block.trait_.is_none() => {
                for item in &block.items {
                    let name = |ident| format!("{}::{ident}", block.self_ty.to_token_stream());
                    match item {
                        ImplItem::Fn(item) => {
                            add(&item.attrs, &item.vis, name(item.sig.ident.to_string()));
                        }
                        ImplItem::Const(item) => {
                            add(&item.attrs, &item.vis, name(item.ident.to_string()));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether there is a doc comment.
fn is_documented(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("doc"))
}

#[test]
fn a_public_item_without_documentation_is_reported() {
    let found = |text: &str| check(&File::new("src/a.rs", text)).len();
    assert_eq!(found("pub fn f() {}\npub struct S { pub a: u8, b: u8 }\npub enum E { A }"), 5);
    assert_eq!(found("/// F.\npub fn f() {}\nfn g() {}\npub(crate) fn h() {}"), 0);
    assert_eq!(found("struct S;\nimpl S { pub fn f(&self) {} /// G.\n pub fn g(&self) {} }"), 1);
    assert_eq!(found("#[cfg(test)]\nmod tests { pub fn f() {} }"), 0);
    assert_eq!(check(&File::new("perf/src/a.rs", "pub fn f() {}")), [""; 0]);
}
