//! The folders of `src/` are layers, and a layer knows only those below it. Here that is more than a habit.

#[path = "support/watchdog.rs"]
mod watchdog;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Each layer and what it may name. What a layer may name, those above it may, too.
const LAYERS: &[(&str, &[&str])] = &[
    ("sync", &[]),
    // `BufferError` says which end of a buffer is meant.
    ("error", &["buffer"]),
    ("segment", &["error"]),
    ("buffer", &["segment"]),
    ("deferred", &["buffer", "sync"]),
    ("shared", &["deferred"]),
    ("limits", &["error", "sync", "buffer"]),
    ("transport", &["buffer", "limits"]),
    ("bufferevent", &["shared", "transport"]),
    ("relay", &["bufferevent"]),
];

/// What a folder must not know of the world outside the crate.
const ABSENCES: &[(&str, &[&str])] = &[
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

/// Where `unsafe` may stand. The rest of the crate is under `deny(unsafe_code)`, which an `allow` could undo.
const UNSAFE: &[&str] = &["segment/", "buffer/traits.rs", "transport/detect.rs"];

#[test]
fn a_layer_names_only_those_below_it() {
    let homes = homes_of_reexports();
    let mut wrong = Vec::new();
    for file in sources() {
        let layer = layer_of(&file);
        if layer == "lib" {
            continue;
        }
        let below = below(&layer);
        for name in names_from_the_root(&code_of(&file)) {
            let other = homes.get(&name).unwrap_or(&name);
            if *other != layer && !below.contains(&other.as_str()) {
                wrong.push(format!("{}: `{layer}` names `{name}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_folder_is_a_layer() {
    for file in sources() {
        let layer = layer_of(&file);
        let known = layer == "lib" || LAYERS.iter().any(|(name, _)| *name == layer);
        assert!(known, "{} belongs to no layer", file.display());
    }
}

#[test]
fn a_layer_does_not_know_what_it_has_no_use_for() {
    for file in sources() {
        let layer = layer_of(&file);
        let code = code_of(&file);
        for (_, absences) in ABSENCES.iter().filter(|(name, _)| *name == layer) {
            for absence in *absences {
                assert!(!code.contains(absence), "{}: `{absence}`", file.display());
            }
        }
    }
}

#[test]
fn one_file_names_locks() {
    for file in sources().iter().filter(|file| layer_of(file) != "sync") {
        let code = code_of(file);
        for word in ["Mutex", "RwLock", "Condvar"] {
            assert!(!code.contains(word), "{}: `{word}`", file.display());
        }
    }
}

#[test]
fn unsafe_stands_where_it_may() {
    for file in sources() {
        let place = file.strip_prefix(src()).unwrap().display().to_string();
        if UNSAFE.iter().any(|allowed| place.starts_with(allowed)) {
            continue;
        }
        let code = code_of(&file);
        for word in ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"] {
            assert!(!code.contains(word), "{place}: `{word}`");
        }
    }
}

#[test]
fn imports_are_read_in_all_their_forms() {
    let code = "use crate::{buffer::{End, Eol}, error::Result, sync};\nlet x = crate::shared::pipe();\nuse crate::relay;";
    let mut names = names_from_the_root(code);
    names.sort();
    assert_eq!(names, ["buffer", "error", "relay", "shared", "sync"]);
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&src(), &mut found);
    assert!(found.len() > 10, "the sources were not found");
    found
}

/// `src/buffer/add.rs` is of `buffer`, `src/error.rs` of `error`.
fn layer_of(file: &Path) -> String {
    let place = file.strip_prefix(src()).unwrap();
    let first = place
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The file without comments, whose links may lead anywhere.
fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text.lines().map(|line| match line.find("//") {
        Some(comment) => &line[..comment],
        None => line,
    });
    code.collect::<Vec<_>>().join("\n")
}

/// All that `layer` may name, near or far.
fn below(layer: &str) -> Vec<&'static str> {
    let direct = |layer| LAYERS.iter().find(|(name, _)| *name == layer).unwrap().1;
    let mut known = direct(layer).to_vec();
    let mut looked_at = 0;
    while let Some(&name) = known.get(looked_at) {
        looked_at += 1;
        // Whoever returns errors need not know what they speak of.
        let further = if name == "error" { &[] } else { direct(name) };
        for name in further {
            if !known.contains(name) {
                known.push(name);
            }
        }
    }
    known
}

/// What follows `crate::`, one name deep: `crate::a::B` and `crate::{a::B, c}` give `a` and `a`, `c`.
fn names_from_the_root(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let items = group.split(|c| {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                depth < 0 || depth == 0 && c == ','
            });
            names.extend(items.map_while(first_name));
        } else {
            names.extend(first_name(rest));
        }
    }
    names
}

fn first_name(path: &str) -> Option<String> {
    let path = path.trim_start();
    let end = path
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

/// `crate::EvBuffer` is of `buffer`, since `lib.rs` has it from there.
fn homes_of_reexports() -> BTreeMap<String, String> {
    let code = code_of(&src().join("lib.rs"));
    let mut homes = BTreeMap::new();
    for statement in code.split("pub use ").skip(1) {
        let (statement, _) = statement.split_once(';').unwrap();
        let (module, names) = statement.split_once("::").unwrap();
        for name in names.trim_matches(['{', '}', '\n', ' ']).split(',') {
            homes.insert(name.trim().to_owned(), module.to_owned());
        }
    }
    homes
}
