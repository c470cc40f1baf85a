//! The Markdown pages: their links have a target, and the tests that they name exist.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The pages of the package.
fn pages() -> Vec<PathBuf> {
    let of = |folder: &str| fs::read_dir(root().join(folder)).into_iter().flatten();
    let files = of(".").chain(of("docs")).map(|entry| entry.unwrap().path());
    let pages: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|e| e == "md"))
        .collect();
    assert!(pages.len() > 5, "the pages were not found");
    pages
}

/// The parts of `text` between `before` and `after`.
fn between<'a>(text: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    let parts = text.split(before).skip(1);
    parts.filter_map(move |part| Some(part.split_once(after)?.0))
}

/// A link to a file of the repository that is not in the package is broken for its users.
#[test]
fn links_lead_to_files_of_the_package() {
    const PACKAGED: &[&str] = &["docs/", "examples/", "LICENSE-"];
    for page in pages() {
        for link in between(&read(&page), "](", ")") {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            let link = link.split('#').next().unwrap();
            let target = page.parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link}", page.display());
            let target = target.canonicalize().unwrap();
            let place = target.strip_prefix(root().canonicalize().unwrap()).unwrap();
            let place = place.to_str().unwrap();
            let is_page = !place.contains('/') && place.ends_with(".md");
            let is_packaged = is_page || PACKAGED.iter().any(|start| place.starts_with(start));
            assert!(is_packaged, "{}: {link} is not packaged", page.display());
        }
    }
}

/// Pages name a test as `` `name` in `file` ``.
#[test]
fn tests_named_by_pages_exist() {
    let mut named = 0;
    for page in pages() {
        let text = read(&page);
        for (at, separator) in text.match_indices("` in `") {
            let name = text[..at].rsplit('`').next().unwrap();
            let file = text[at + separator.len()..].split('`').next().unwrap();
            let is_name = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name || !name.contains('_') || !file.ends_with(".rs") {
                continue;
            }
            let found = read(&root().join(file)).contains(&format!("fn {name}("));
            assert!(found, "{}: `{name}` is not in {file}", page.display());
            named += 1;
        }
    }
    assert!(named > 30, "the names were not found");
}

#[test]
fn each_defect_of_libevent_has_a_row() {
    let page = read(&root().join("docs/LIBEVENT.md"));
    for n in 1..=36 {
        assert!(page.contains(&format!("\n| D{n} | ")), "D{n}");
    }
}
