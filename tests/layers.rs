//! Checks the rules of `ARCHITECTURE.md` on the text of the sources: layers, imports, locks and `unsafe`.

#[path = "support/sources.rs"]
mod sources;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use sources::{File, Sources, file};

/// What each layer must not name. A folder that is not listed may name anything below it.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("segment", NO_RUNTIME),
    ("buffer", NO_RUNTIME),
    ("relay", &["tokio::spawn", "task::spawn", "JoinSet"]),
];
const NO_RUNTIME: &[&str] = &[
    "tokio::sync",
    "tokio::time",
    "tokio::task",
    "tokio::net",
    "tokio::runtime",
    "tokio::spawn",
];

/// The only places with `unsafe`. The crate denies it elsewhere, but a local `allow` could undo that.
const UNSAFE: &[&str] = &[
    "segment/",
    "buffer/traits.rs",
    "transport/lookup.rs",
    "transport/linux/peer_state.rs",
];

/// The highest number of names, without modules, that the crate root exports.
const ROOT_NAMES: usize = 20;

const README_LINES: usize = 120;

/// The layers of the drawing in `ARCHITECTURE.md`, top first. The layers of its last line have no order.
fn layers() -> BTreeMap<String, usize> {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let drawing = page.split("```text\n").nth(1).expect("the drawing");
    let mut layers = BTreeMap::new();
    for (depth, line) in drawing.split("```").next().unwrap().lines().enumerate() {
        // Names stand before two spaces or more.
        let names = line.trim_start().split("  ").next().unwrap();
        for name in names.split(", ").filter(|name| !name.is_empty()) {
            layers.insert(name.to_owned(), depth);
        }
    }
    layers
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_folder_and_file_is_a_layer() {
    let layers = layers();
    for file in Sources::read().files {
        let layer = file.layer();
        assert!(
            layer == "lib" || layers.contains_key(layer),
            "{} is in no layer of ARCHITECTURE.md",
            file.name
        );
    }
}

#[test]
fn a_layer_imports_only_from_layers_below_it() {
    let layers = layers();
    let bottom = layers.values().max().unwrap();
    let sources = Sources::read();
    let mut wrong = Vec::new();
    for file in sources.files.iter().filter(|file| file.layer() != "lib") {
        for other in sources.imports(file) {
            let other = &sources.files[other];
            let (from, to) = (layers[file.layer()], layers.get(other.layer()));
            let allowed = file.layer() == other.layer()
                || to.is_some_and(|to| from < *to || from == *bottom && to == bottom);
            if !allowed {
                wrong.push(format!("{} imports from {}", file.name, other.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_do_not_import_in_a_circle() {
    let sources = Sources::read();
    let imports: Vec<_> = sources.files.iter().map(|f| sources.imports(f)).collect();
    let reaches = |from: usize, to: usize| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            next.extend(imports[file].iter().filter(|&&other| seen.insert(other)));
        }
        seen.contains(&to)
    };
    let mut arrows = Vec::new();
    for (from, others) in imports.iter().enumerate() {
        for &to in others.iter().filter(|&&to| reaches(to, from)) {
            arrows.push(format!(
                "{} -> {}",
                sources.files[from].name, sources.files[to].name
            ));
        }
    }
    assert!(arrows.is_empty(), "{arrows:#?}");
}

#[test]
fn a_layer_does_not_name_what_is_forbidden_to_it() {
    for file in Sources::read().files {
        let forbidden = FORBIDDEN.iter().filter(|(layer, _)| *layer == file.layer());
        for name in forbidden.flat_map(|(_, names)| *names) {
            assert!(!file.code.contains(name), "{}: `{name}`", file.name);
        }
    }
}

#[test]
fn only_sync_names_locks() {
    for file in Sources::read().files {
        for name in ["Mutex", "RwLock", "Condvar"] {
            let allowed = file.layer() == "sync" || !file.code.contains(name);
            assert!(allowed, "{}: `{name}`", file.name);
        }
    }
}

#[test]
fn unsafe_is_only_where_it_is_allowed() {
    let is_allowed = |file: &File| UNSAFE.iter().any(|place| file.name.starts_with(place));
    for file in Sources::read()
        .files
        .iter()
        .filter(|file| !is_allowed(file))
    {
        for word in ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"] {
            assert!(!file.code.contains(word), "{}: `{word}`", file.name);
        }
    }
}

#[test]
fn no_source_file_includes_a_test_file() {
    let text = |file: &File| fs::read_to_string(root().join("src").join(&file.name)).unwrap();
    for file in Sources::read_all() {
        assert!(!text(&file).contains("tests/support"), "{}", file.name);
    }
}

#[test]
fn the_root_exports_few_names_and_each_has_one_path() {
    let sources = Sources::read();
    let root = sources.files.iter().find(|f| f.name == "lib.rs").unwrap();
    let names: Vec<&str> = root.reexported_names().collect();
    assert!(names.len() <= ROOT_NAMES, "{names:?}");
    for module in sources.files.iter().filter(|file| file.module.len() == 1) {
        let is_public = root.code.contains(&format!("pub mod {};", module.layer()));
        for name in module.public_names().filter(|_| is_public) {
            let twice = names.contains(&name);
            assert!(
                !twice,
                "`{name}` is in the root and in `{}`",
                module.layer()
            );
        }
    }
}

#[test]
fn the_readme_is_short() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() <= README_LINES);
}

/// The parser behind these checks sees each form of import, and no re-export, comment, string or test.
#[test]
fn imports_are_found_in_all_their_forms() {
    let text = "
        use crate::{a::{B, C as D}, e};
        pub(crate) use super::f::G;
        use std::fmt;
        // use crate::comment;
        const TEXT: &str = \"use crate::string;\";
        fn x() -> crate::h::I { match '\"' { _ => super::j::k() } }
        #[cfg(test)]
        mod tests { use crate::test; }
        use self::l::*;
    ";
    let parsed = file("x.rs".into(), vec!["x".into()], text);
    let paths: Vec<String> = parsed.paths().map(|path| path.join("::")).collect();
    assert_eq!(
        paths,
        [
            "crate::a::B",
            "crate::a::C",
            "crate::e",
            "std::fmt",
            "crate::h::I",
            "super::j::k",
            "self::l::*"
        ]
    );
    assert!(parsed.reexported_names().eq(["G"]));
}
