//! Joins the modules of the stage page into one script, so that a page loads in few requests, also
//! over a slow network, and developers still need no build step.
//!
//! A module becomes a function that returns its exports, and runs once, after the modules that it
//! imports. A module that is loaded by `import("…")` becomes a script of its own. It takes the modules
//! that the page has too from the page's script, and those that only other such scripts have from a
//! shared one, so no module exists twice, and the page loads none that it does not need.

use std::collections::{BTreeMap, BTreeSet};

use super::module::{self, Binding, Link, Module, Takes};
use super::scan::Trouble;

/// The prefix of names that the bundler makes. No module may use it.
const OURS: &str = "$$";

/// Finds the text of a file by its path from `src/web`.
pub type Find<'a> = &'a dyn Fn(&str) -> Option<&'static str>;

/// A script of a page.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Script<'a> {
    /// The one that the page names.
    Page,
    /// The modules that several of the later scripts need, but not the page.
    Shared,
    /// The one of a module that is loaded when it is needed.
    Later(&'a str),
}

/// The modules of a page, and where each goes.
struct Graph<'a> {
    find: Find<'a>,
    modules: BTreeMap<String, Module>,
}

/// Joins the modules that `entry` imports, and returns the scripts by their addresses. `name` returns
/// the address at which a script is served.
///
/// # Errors
/// A module that is missing, imports in a circle, imports a name that does not exist, or uses a
/// form that the bundler does not support.
pub fn join(
    entry: &str,
    find: Find<'_>,
    name: &dyn Fn(Script<'_>) -> String,
) -> Result<BTreeMap<String, String>, Trouble> {
    let mut graph = Graph { find, modules: BTreeMap::new() };
    let mut targets = vec![entry.to_owned()];
    let mut orders: Vec<Vec<String>> = Vec::new();
    while let Some(target) = targets.get(orders.len()) {
        let mut order = Vec::new();
        graph.visit(target, &mut Vec::new(), &mut order)?;
        for (path, at) in order.iter().flat_map(|path| graph.modules[path].loads.clone()) {
            if (graph.find)(&path).is_none() {
                return Err(graph.trouble(&order, &path, at));
            }
            if !targets.contains(&path) {
                targets.push(path);
            }
        }
        orders.push(order);
    }
    graph.check_names()?;
    graph.check_files()?;
    let homes = homes(&targets, &orders);
    let writer = Writer { graph: &graph, homes: &homes, name };
    let scripts: BTreeSet<Script<'_>> = homes.values().copied().collect();
    let written = scripts.into_iter().map(|script| {
        let mut paths: Vec<&str> = Vec::new();
        for path in orders.iter().flatten().filter(|path| homes[path.as_str()] == script) {
            if !paths.contains(&path.as_str()) {
                paths.push(path);
            }
        }
        (name(script), writer.script(&paths, script))
    });
    Ok(written.collect())
}

/// Decides which script each module goes into. `orders` are the modules that each target needs.
fn homes<'a>(targets: &'a [String], orders: &'a [Vec<String>]) -> BTreeMap<&'a str, Script<'a>> {
    let mut homes: BTreeMap<&str, Script<'_>> = BTreeMap::new();
    for (index, (target, order)) in targets.iter().zip(orders).enumerate() {
        for path in order {
            let home = match (index, homes.get(path.as_str())) {
                (0, _) | (_, Some(Script::Page)) => Script::Page,
                (_, None) => Script::Later(target),
                (_, Some(_)) => Script::Shared,
            };
            homes.insert(path, home);
        }
    }
    homes
}

impl Graph<'_> {
    /// Reads a module and those that it imports, and lists them in the order in which they run.
    fn visit(
        &mut self,
        path: &str,
        above: &mut Vec<String>,
        order: &mut Vec<String>,
    ) -> Result<(), Trouble> {
        if order.iter().any(|done| done == path) {
            return Ok(());
        }
        let text = (self.find)(path).unwrap_or_default();
        let module = match self.modules.get(path) {
            Some(module) => module.clone(),
            None => module::read(path, text)?,
        };
        if let Some(at) = ours(text) {
            let why = format!("names that begin with {OURS} belong to the bundler");
            return Err(Trouble::at(path, text, at, why));
        }
        above.push(path.to_owned());
        for Link { path: other, at, .. } in &module.links {
            if (self.find)(other).is_none() {
                return Err(Trouble::at(
                    path,
                    text,
                    *at,
                    format!("there is no file src/web/{other}"),
                ));
            }
            if let Some(from) = above.iter().position(|one| one == other) {
                let circle = above[from..].join(", ");
                let why = format!("these modules import each other in a circle: {circle}");
                return Err(Trouble::at(path, text, *at, why));
            }
            self.visit(other, above, order)?;
        }
        above.pop();
        order.push(path.to_owned());
        self.modules.insert(path.to_owned(), module);
        Ok(())
    }

    /// Reports a missing module that one of these modules loads.
    fn trouble(&self, order: &[String], missing: &str, at: usize) -> Trouble {
        let loads =
            |path: &&String| self.modules[path.as_str()].loads.contains(&(missing.to_owned(), at));
        let path = order.iter().find(loads).map_or("", String::as_str);
        let text = (self.find)(path).unwrap_or_default();
        Trouble::at(path, text, at, format!("there is no file src/web/{missing}"))
    }

    /// Returns the names that a module exports; `None` if it was not read.
    fn exports(&self, path: &str) -> Option<BTreeSet<String>> {
        let module = self.modules.get(path)?;
        let mut names: BTreeSet<String> =
            module.exports.iter().map(|export| export.to.clone()).collect();
        for link in &module.links {
            match &link.takes {
                Takes::Passed(passed) => names.extend(passed.iter().map(|one| one.to.clone())),
                Takes::PassedAll => names.extend(self.exports(&link.path)?),
                _ => {}
            }
        }
        Some(names)
    }

    /// Checks that each imported name is exported.
    fn check_names(&self) -> Result<(), Trouble> {
        for (path, module) in &self.modules {
            for link in &module.links {
                let (Takes::Some(taken) | Takes::Passed(taken)) = &link.takes else { continue };
                let Some(exports) = self.exports(&link.path) else { continue };
                if let Some(missing) = taken.iter().find(|one| !exports.contains(&one.from)) {
                    let text = (self.find)(path).unwrap_or_default();
                    let why = format!("{} exports no {}", link.path, missing.from);
                    return Err(Trouble::at(path, text, link.at, why));
                }
            }
        }
        Ok(())
    }

    /// Checks that the files which the modules name exist.
    fn check_files(&self) -> Result<(), Trouble> {
        for (path, module) in &self.modules {
            for (file, at) in &module.files {
                if (self.find)(file).is_none() {
                    let text = (self.find)(path).unwrap_or_default();
                    let why = format!("there is no file src/web/{file}");
                    return Err(Trouble::at(path, text, *at, why));
                }
            }
        }
        Ok(())
    }
}

/// Returns the place of a name that begins like those of the bundler.
fn ours(text: &str) -> Option<usize> {
    text.match_indices(OURS).map(|(at, _)| at).find(|at| {
        // In a template, `$${` is a dollar before an expression.
        text[at + OURS.len()..].starts_with(|c: char| c.is_ascii_digit())
    })
}

/// Writes the scripts.
struct Writer<'a> {
    graph: &'a Graph<'a>,
    homes: &'a BTreeMap<&'a str, Script<'a>>,
    name: &'a dyn Fn(Script<'_>) -> String,
}

impl Writer<'_> {
    /// Returns the variable of a module.
    fn variable(&self, path: &str) -> String {
        let place = self.graph.modules.keys().position(|one| one == path);
        format!("{OURS}{}", place.unwrap_or_default())
    }

    /// Whether a module's code is in a script.
    fn is_in(&self, path: &str, script: Script<'_>) -> bool {
        self.homes.get(path) == Some(&script)
    }

    /// Writes the script with these modules, in their order.
    fn script(&self, paths: &[&str], script: Script<'_>) -> String {
        let mut out = String::from("// Made from the modules named below, which are served too.\n");
        for other in [Script::Page, Script::Shared].into_iter().filter(|other| *other != script) {
            let links = paths.iter().flat_map(|path| &self.graph.modules[*path].links);
            let needed = links.map(|link| link.path.as_str());
            let needed: BTreeSet<String> = needed
                .filter(|path| self.is_in(path, other))
                .map(|path| self.variable(path))
                .collect();
            if !needed.is_empty() {
                let needed: Vec<String> = needed.into_iter().collect();
                let address = (self.name)(other);
                out.push_str(&format!("import{{{}}}from{address:?};\n", needed.join(",")));
            }
        }
        for path in paths {
            self.module(&self.graph.modules[*path], script, &mut out);
        }
        if let Script::Later(target) = script {
            let names = self.graph.exports(target).unwrap_or_default();
            let names: Vec<String> = names.into_iter().collect();
            let own = self.variable(target);
            out.push_str(&format!("export const{{{}}}={own};\n", names.join(",")));
        } else {
            let needed = self.needed(script);
            if !needed.is_empty() {
                out.push_str(&format!("export{{{}}};\n", needed.join(",")));
            }
        }
        out
    }

    /// Returns the variables of a script that others import.
    fn needed(&self, script: Script<'_>) -> Vec<String> {
        let others = self.graph.modules.iter().filter(|(path, _)| !self.is_in(path, script));
        let needed = others.flat_map(|(_, module)| {
            let links = module.links.iter().map(|link| link.path.as_str());
            links.chain(module.loads.iter().map(|(path, _)| path.as_str()))
        });
        let needed: BTreeSet<String> = needed
            .filter(|path| self.is_in(path, script))
            .map(|path| self.variable(path))
            .collect();
        needed.into_iter().collect()
    }

    fn module(&self, module: &Module, script: Script<'_>, out: &mut String) {
        let own = self.variable(&module.path);
        let (wait, kind) = if module.waits { ("await ", "async") } else { ("", "") };
        out.push_str(&format!("// {}\nconst {own}={wait}({kind}()=>{{", module.path));
        for link in &module.links {
            let other = self.variable(&link.path);
            match &link.takes {
                Takes::Whole(name) => out.push_str(&format!("const {name}={other};")),
                Takes::Some(names) if !names.is_empty() => {
                    out.push_str(&format!("const{{{}}}={other};", pairs(names)));
                }
                _ => {}
            }
        }
        out.push_str(module.body(|path| self.load(path, script)).trim_end());
        let mut exports: Vec<String> = Vec::new();
        for link in &module.links {
            let other = self.variable(&link.path);
            match &link.takes {
                Takes::PassedAll => exports.push(format!("...{other}")),
                Takes::Passed(names) => {
                    let pass = |one: &Binding| format!("{}:{other}.{}", one.to, one.from);
                    exports.extend(names.iter().map(pass));
                }
                _ => {}
            }
        }
        let own = |one: &Binding| match one.from == one.to {
            true => one.to.clone(),
            false => format!("{}:{}", one.to, one.from),
        };
        exports.extend(module.exports.iter().map(own));
        // A line break, since the last line may need one to end.
        out.push_str(&format!("\nreturn{{{}}};}})();\n", exports.join(",")));
    }

    /// Returns the code that loads a module, for a script.
    fn load(&self, path: &str, from: Script<'_>) -> String {
        let variable = self.variable(path);
        match self.homes.get(path) {
            Some(home) if *home == from => format!("Promise.resolve({variable})"),
            Some(home @ (Script::Page | Script::Shared)) => {
                format!("import({:?}).then(({{{variable}}})=>{variable})", (self.name)(*home))
            }
            _ => format!("import({:?})", (self.name)(Script::Later(path))),
        }
    }
}

/// Prints names for a pattern that takes them out of an object.
fn pairs(names: &[Binding]) -> String {
    let pair = |one: &Binding| match one.from == one.to {
        true => one.to.clone(),
        false => format!("{}:{}", one.from, one.to),
    };
    names.iter().map(pair).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    type Scripts = BTreeMap<String, String>;

    fn bundle(files: &'static [(&'static str, &'static str)]) -> Result<Scripts, String> {
        let find =
            |path: &str| files.iter().find(|(other, _)| *other == path).map(|(_, text)| *text);
        let name = |script: Script<'_>| match script {
            Script::Page => "/page.js".to_owned(),
            Script::Shared => "/shared.js".to_owned(),
            Script::Later(path) => format!("/{path}"),
        };
        join("app.js", &find, &name).map_err(|trouble| trouble.to_string())
    }

    #[track_caller]
    fn check_trouble(files: &'static [(&'static str, &'static str)], expected: &str) {
        let found = bundle(files).unwrap_err();
        assert!(found.starts_with(expected), "{found}");
    }

    #[test]
    fn modules_run_after_those_that_they_import_and_once() {
        let bundle = bundle(&[
            (
                "app.js",
                "// Begins.\nimport { a as b } from \"./x/a.js\";\nimport * as all from \"./b.js\";\n\
                 import \"./d.js\";\n\nall.go(b /* now */ , 1);\n",
            ),
            ("b.js", "import { a } from \"./x/a.js\";\nexport function go(b) {\n  return a + b;\n}\n"),
            ("x/a.js", "const one = 1;\nexport { one as a };\nexport { go, stop as halt } from \"../c.js\";\n"),
            ("c.js", "export class go {}\nexport const stop = [1, 2];\n"),
            ("d.js", "// Nothing.\n"),
        ])
        .unwrap();
        assert_eq!(
            bundle["/page.js"],
            "// Made from the modules named below, which are served too.\n\
             // c.js\nconst $$2=(()=>{class go{}\nconst stop=[1,2];\nreturn{go,stop};})();\n\
             // x/a.js\nconst $$4=(()=>{const one=1;\nreturn{go:$$2.go,halt:$$2.stop,a:one};})();\n\
             // b.js\nconst $$1=(()=>{const{a}=$$4;function go(b){return a+b;}\nreturn{go};})();\n\
             // d.js\nconst $$3=(()=>{\nreturn{};})();\n\
             // app.js\nconst $$0=(()=>{const{a:b}=$$4;const all=$$1;all.go(b,1);\nreturn{};})();\n"
        );
    }

    #[test]
    fn a_module_that_is_loaded_later_is_a_script_of_its_own() {
        let scripts = bundle(&[
            (
                "app.js",
                "import { one } from \"./one.js\";\nimport(\"./late.js\");\nimport(\"./later.js\");\n\
                 import(\"./one.js\");\n",
            ),
            ("one.js", "export const one = 1;\n"),
            ("late.js", "import { one } from \"./one.js\";\nimport \"./own.js\";\nexport const go = () => one;\n"),
            ("later.js", "export * from \"./one.js\";\n"),
            ("own.js", "1;\n"),
        ])
        .unwrap();
        let part = |name: &str, part: &str| {
            assert!(scripts[name].contains(part), "{part} in {}", scripts[name]);
        };
        part("/page.js", "import(\"/late.js\");import(\"/later.js\");Promise.resolve($$3);");
        part("/page.js", "export{$$3};\n");
        part("/late.js", "import{$$3}from\"/page.js\";\n// own.js\n");
        part("/late.js", "\nexport const{go}=$$1;\n");
        part("/later.js", "return{...$$3};})();\nexport const{one}=$$2;\n");
        assert_eq!(scripts.len(), 3);
        assert!(!scripts["/page.js"].contains("own.js"), "{}", scripts["/page.js"]);
    }

    #[test]
    fn the_page_does_not_load_modules_that_only_later_scripts_share() {
        let scripts = bundle(&[
            (
                "app.js",
                "import \"./one.js\";\nimport(\"./a.js\");\nimport(\"./b.js\");\nimport(\"./both.js\");\n",
            ),
            ("one.js", "export const one = 1;\n"),
            ("a.js", "import { two } from \"./both.js\";\nimport(\"./one.js\");\ntwo;\n"),
            ("b.js", "import { two } from \"./both.js\";\nimport(\"./a.js\");\ntwo;\n"),
            ("both.js", "import { one } from \"./one.js\";\nimport \"./deep.js\";\nexport const two = one;\n"),
            ("deep.js", "2;\n"),
        ])
        .unwrap();
        let part = |name: &str, part: &str| {
            assert!(scripts[name].contains(part), "{part} in {}", scripts[name]);
        };
        part("/shared.js", "import{$$5}from\"/page.js\";\n// deep.js\n");
        part("/shared.js", "// both.js\n");
        part("/shared.js", "export{$$3};\n");
        part("/a.js", "import{$$3}from\"/shared.js\";\n// a.js\n");
        part("/a.js", "import(\"/page.js\").then(({$$5})=>$$5);");
        part("/b.js", "import(\"/a.js\");");
        part("/page.js", "import(\"/shared.js\").then(({$$3})=>$$3);");
        part("/page.js", "export{$$5};\n");
        assert_eq!(scripts.len(), 4);
    }

    #[test]
    fn a_module_keeps_its_address_and_names_other_files_by_it() {
        let bundle = bundle(&[
            ("app.js", "import \"./sound/click.js\";\n"),
            (
                "sound/click.js",
                "new Worker(new URL(\"./worker.js\", import.meta.url), { type: \"module\" });\nawait x;\n",
            ),
            ("sound/worker.js", "import \"../beat.js\";\n"),
            ("beat.js", ""),
        ])
        .unwrap();
        let line = "await (async()=>{new Worker(new URL(\"/sound/worker.js\",\
                    new URL(\"/sound/click.js\",import.meta.url).href),{type:\"module\"});await x;\n";
        assert!(bundle["/page.js"].contains(line), "{}", bundle["/page.js"]);
    }

    #[test]
    fn what_cannot_be_joined_is_named_with_its_line() {
        check_trouble(
            &[("app.js", "1;\nimport a from \"./b.js\";")],
            "src/web/app.js:2: import { names }",
        );
        check_trouble(&[("app.js", "import \"b.js\";")], "src/web/app.js:1: a relative path");
        check_trouble(&[("app.js", "import \"../b.js\";")], "src/web/app.js:1: this path leaves");
        check_trouble(
            &[("app.js", "\nimport \"./b.js\";")],
            "src/web/app.js:2: there is no file src/web/b.js",
        );
        check_trouble(
            &[("app.js", "\n\nimport(\"./b.js\");")],
            "src/web/app.js:3: there is no file src/web/b.js",
        );
        check_trouble(&[("app.js", "import(name);")], "src/web/app.js:1: a relative path");
        check_trouble(
            &[("app.js", "new URL(\"./b.js\", import.meta.url);")],
            "src/web/app.js:1: there is no file",
        );
        check_trouble(&[("app.js", "import.meta.env;")], "src/web/app.js:1: of import.meta only");
        check_trouble(&[("app.js", "export let a = 1;")], "src/web/app.js:1: the value of a const");
        check_trouble(
            &[("app.js", "let a = 1;\nexport { a };")],
            "src/web/app.js:1: the value of a const",
        );
        check_trouble(
            &[("app.js", "export const a = 1, b = 2;")],
            "src/web/app.js:1: an exported const is one",
        );
        check_trouble(
            &[("app.js", "export const { a } = b;")],
            "src/web/app.js:1: an exported const is one",
        );
        check_trouble(
            &[("app.js", "export default {};")],
            "src/web/app.js:1: an export has a name",
        );
        check_trouble(&[("app.js", "import \"./b.js\"")], "src/web/app.js:1: a semicolon");
        check_trouble(
            &[("app.js", "const $$1 = 1;")],
            "src/web/app.js:1: names that begin with $$",
        );
        check_trouble(
            &[("app.js", "import \"./b.js\";"), ("b.js", "\nimport \"./app.js\";")],
            "src/web/b.js:2: these modules import each other in a circle: app.js, b.js",
        );
        check_trouble(
            &[("app.js", "\nimport { a } from \"./b.js\";"), ("b.js", "export const b = 1;")],
            "src/web/app.js:2: b.js exports no a",
        );
    }
}
