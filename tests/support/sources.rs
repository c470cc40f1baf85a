//! Reads the files of `src/`: modules, imports and re-exports, without comments, strings and test code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A file of `src/` as the checks need it.
pub(crate) struct File {
    /// The path below `src/`.
    pub(crate) name: String,
    /// The module that the file holds, from the root: `["buffer", "add"]`.
    pub(crate) module: Vec<String>,
    /// The text without comments, strings and test code.
    pub(crate) code: String,
    /// Paths that the file imports or names, as written, except re-exports.
    paths: Vec<Vec<String>>,
    /// Re-exported names, each with the path that it stands for. A glob has the name `*`.
    reexports: Vec<(String, Vec<String>)>,
    /// Those of them that users see.
    public_reexports: Vec<String>,
}

impl File {
    /// The name of the folder or file directly below `src/`, which is the layer.
    pub(crate) fn layer(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }

    /// The paths that the file imports or names, as written.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &[String]> {
        self.paths.iter().map(Vec::as_slice)
    }

    /// The names that are public in this file, defined here or re-exported.
    pub(crate) fn public_names(&self) -> impl Iterator<Item = &str> {
        let defined = self.code.split("\npub ").skip(1).filter_map(|item| {
            let mut words = item.split(|c: char| !c.is_alphanumeric() && c != '_');
            let kinds = ["fn", "struct", "enum", "trait", "type", "const", "static"];
            words.find(|word| kinds.contains(word))?;
            words.next()
        });
        let public = self.public_reexports.iter().map(String::as_str);
        defined.chain(public)
    }

    /// The names that the file re-exports, to users or in the crate.
    pub(crate) fn reexported_names(&self) -> impl Iterator<Item = &str> {
        self.reexports.iter().map(|(name, _)| name.as_str())
    }
}

/// The files of `src/` and the graph of their imports.
pub(crate) struct Sources {
    pub(crate) files: Vec<File>,
    by_module: BTreeMap<Vec<String>, Vec<usize>>,
}

impl Sources {
    /// Reads all files that are not tests.
    pub(crate) fn read() -> Self {
        let mut files = Self::read_all();
        let tests = test_modules(&files);
        files.retain(|file| !tests.iter().any(|test| file.module.starts_with(test)));
        let mut by_module = BTreeMap::<_, Vec<_>>::new();
        for (i, file) in files.iter().enumerate() {
            by_module.entry(file.module.clone()).or_default().push(i);
        }
        Self { files, by_module }
    }

    /// Reads all files, also those with tests.
    pub(crate) fn read_all() -> Vec<File> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut paths = Vec::new();
        walk(&root, &mut paths);
        assert!(paths.len() > 10, "the sources were not found");
        paths.iter().map(|path| parse(&root, path)).collect()
    }

    /// Returns the files that `file` imports from. A re-exported name leads to the file that defines it.
    pub(crate) fn imports(&self, file: &File) -> BTreeSet<usize> {
        let mut found = BTreeSet::<usize>::new();
        for path in &file.paths {
            if let Some(module) = self.resolve(&file.module, path, 0) {
                found.extend(&self.by_module[&module]);
            }
        }
        found.retain(|&other| self.files[other].name != file.name);
        found
    }

    /// Returns the module that defines what `path` names in `module`; none for paths of other crates.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        let mut at = module.to_vec();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => (at, rest) = (Vec::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {}
            first => {
                at.push(first.to_owned());
                if !self.by_module.contains_key(&at) {
                    return None;
                }
                rest = &rest[1..];
            }
        }
        while let Some((name, behind)) = rest.split_first() {
            if name == "super" {
                at.pop()?;
                rest = behind;
                continue;
            }
            at.push(name.clone());
            if self.by_module.contains_key(&at) {
                rest = behind;
                continue;
            }
            at.pop();
            let reexport = self.by_module.get(&at)?.iter().find_map(|&i| {
                let reexports = &self.files[i].reexports;
                reexports.iter().find(|(other, _)| other == name)
            });
            return match reexport {
                Some((_, target)) if depth < 8 => self.resolve(&at, target, depth + 1),
                _ => Some(at),
            };
        }
        Some(at)
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
}

fn parse(root: &Path, path: &Path) -> File {
    let name = path.strip_prefix(root).unwrap();
    let mut module: Vec<String> = name
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    let text = fs::read_to_string(path).unwrap();
    file(name.display().to_string(), module, &text)
}

/// Parses the text of one file.
pub(crate) fn file(name: String, module: Vec<String>, text: &str) -> File {
    let code = without_tests(&without_comments_and_strings(text));
    let mut paths = Vec::new();
    let mut reexports = Vec::new();
    let mut public_reexports = Vec::new();
    let mut rest = String::new();
    for statement in code.split_inclusive([';', '{', '}']) {
        // A group of imports has braces, so join its pieces until the semicolon.
        rest.push_str(statement);
        let open = rest.matches('{').count() > rest.matches('}').count();
        let Some(at) = use_keyword(&rest) else {
            paths.extend(inline_paths(&rest));
            rest.clear();
            continue;
        };
        if open || !statement.ends_with(';') {
            continue;
        }
        let tree = rest[at + "use ".len()..].trim_end_matches(';');
        let before = rest[..at].trim_end();
        for (path, name) in use_tree(tree) {
            if before.ends_with("pub") {
                public_reexports.push(name.clone());
            }
            if before.ends_with("pub") || before.ends_with(')') {
                reexports.push((name, path));
            } else {
                paths.push(path);
            }
        }
        rest.clear();
    }
    File {
        name,
        module,
        code,
        paths,
        reexports,
        public_reexports,
    }
}

/// Returns the position of the keyword if `statement` is an import.
fn use_keyword(statement: &str) -> Option<usize> {
    let at = statement.find("use ")?;
    let before = statement[..at].trim_end();
    let starts = before.is_empty()
        || before.ends_with(['}', ';', ']', ')'])
        || before.ends_with("pub")
        || before.ends_with('{');
    (starts && !statement[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')).then_some(at)
}

/// Returns the paths of `a::{b, c::d as e}`, each with the name that it gets.
fn use_tree(tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    if let Some((prefix, group)) = tree.split_once('{') {
        let prefix: Vec<String> = segments(prefix);
        let group = group.strip_suffix('}').unwrap_or(group);
        let mut depth = 0;
        let items = group.split(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && c == ','
        });
        return items
            .filter(|item| !item.trim().is_empty())
            .flat_map(use_tree)
            .map(|(path, name)| {
                let whole = path == ["self"];
                let path = if whole { Vec::new() } else { path };
                ([prefix.clone(), path].concat(), name)
            })
            .collect();
    }
    let (path, alias) = match tree.split_once(" as ") {
        Some((path, alias)) => (path, Some(alias.trim().to_owned())),
        None => (tree, None),
    };
    let path = segments(path);
    let name = alias.unwrap_or_else(|| path.last().cloned().unwrap_or_default());
    vec![(path, name)]
}

fn segments(path: &str) -> Vec<String> {
    let segments = path.split("::").map(|segment| segment.trim().to_owned());
    segments.filter(|segment| !segment.is_empty()).collect()
}

/// Returns the paths in `code` that start with `crate::` or `super::`.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let end = code[at..].find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            paths.push(segments(&code[at..end.map_or(code.len(), |end| at + end)]));
        }
    }
    paths
}

fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if let Some(len) = char_literal(rest) {
            rest = &rest[len..];
        } else if c == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            code.push_str("\"\"");
            rest = &rest[end.map_or(rest.len(), |end| end + 2)..];
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    code
}

/// Returns the length of the character literal at the start of `code`. A lifetime is none.
fn char_literal(code: &str) -> Option<usize> {
    let content = code.strip_prefix('\'')?;
    let first = content.chars().next()?;
    let end = if first == '\\' {
        2 + content[2..].find('\'')?
    } else {
        first.len_utf8()
    };
    content[end..].starts_with('\'').then_some(end + 2)
}

/// Removes each item behind a `cfg` attribute that requires `test`.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = next_test_attribute(rest) {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let mut depth = 0;
        let end = item[item.find(']').unwrap()..].find(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && (c == '}' || c == ';')
        });
        rest = &item[end.map_or(item.len(), |end| item.find(']').unwrap() + end + 1)..];
    }
    kept.push_str(rest);
    kept
}

fn next_test_attribute(code: &str) -> Option<usize> {
    let starts = ["#[cfg(test)]", "#[cfg(all(test", "#[cfg(any(test"];
    starts.iter().filter_map(|start| code.find(start)).min()
}

/// Returns the modules that are declared only for tests, which [`without_tests`] has removed.
fn test_modules(files: &[File]) -> Vec<Vec<String>> {
    let is_declared = |file: &&File| {
        let Some((name, parent)) = file.module.split_last() else {
            return true;
        };
        let declaration = format!("mod {name};");
        let mut parents = files.iter().filter(|other| other.module == parent);
        // With `#[path]` a file has another name than its module.
        parents.any(|other| other.code.contains(&declaration) || other.code.contains("#[path"))
    };
    let tests = files.iter().filter(|file| !is_declared(file));
    tests.map(|file| file.module.clone()).collect()
}
