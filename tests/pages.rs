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

/// A row links to the documentation of its items, as `` [`item`][Type::item] ``, and the page says where that is.
#[test]
fn each_feature_links_to_its_documentation() {
    let page = read(&root().join("docs/FEATURES.md"));
    let rows = page.lines().filter(|line| line.starts_with("| "));
    for row in rows.filter(|row| !row.starts_with("| Feature")) {
        let mut links = 0;
        for item in between(row, "`][", "]") {
            let target = format!("\n[{item}]: https://docs.rs/tokio-evbuffer/latest/");
            assert!(page.contains(&target), "{item} has no target");
            links += 1;
        }
        assert!(links > 0, "{row}");
    }
}

#[test]
fn each_defect_of_libevent_has_a_row() {
    let page = read(&root().join("docs/LIBEVENT.md"));
    for n in 1..=36 {
        assert!(page.contains(&format!("\n| D{n} | ")), "D{n}");
    }
}

/// The functions that libevent 2.1 declares in `event2/buffer.h`, `event2/bufferevent.h` and the headers beside them.
const LIBEVENT: [(&str, &str); 2] = [
    (
        "evbuffer_",
        "add add_buffer add_buffer_reference add_cb add_file add_file_segment add_iovec add_printf add_reference
        add_vprintf cb_clear_flags cb_set_flags cb_suspend cb_unsuspend clear_flags commit_space copyout
        copyout_from defer_callbacks drain enable_locking expand file_segment_add_cleanup_cb file_segment_free
        file_segment_new find free freeze get_contiguous_space get_length lock new peek prepend prepend_buffer
        ptr_set pullup read readline readln remove remove_buffer remove_cb remove_cb_entry reserve_space search
        search_eol search_range set_flags setcb unfreeze unlock write write_atmost",
    ),
    (
        "bufferevent_",
        "add_to_rate_limit_group base_set decref decrement_read_limit decrement_write_limit disable enable
        filter_new flush free get_base get_enabled get_input get_max_single_read
        get_max_single_write get_max_to_read get_max_to_write get_openssl_error get_output get_priority
        get_read_limit get_token_bucket_cfg get_underlying get_write_limit getcb getfd getwatermark incref lock
        new openssl_filter_new openssl_get_allow_dirty_shutdown openssl_get_ssl openssl_set_allow_dirty_shutdown
        openssl_socket_new pair_get_partner pair_new priority_set rate_limit_group_decrement_read
        rate_limit_group_decrement_write rate_limit_group_free rate_limit_group_get_read_limit
        rate_limit_group_get_totals rate_limit_group_get_write_limit rate_limit_group_new
        rate_limit_group_reset_totals rate_limit_group_set_cfg rate_limit_group_set_min_share read read_buffer
        remove_from_rate_limit_group set_max_single_read set_max_single_write set_rate_limit set_timeouts setcb
        setfd settimeout setwatermark socket_connect socket_connect_hostname socket_get_dns_error socket_new
        ssl_renegotiate trigger trigger_event unlock write write_buffer",
    ),
];

/// What has a counterpart is found by its name in the documentation, too.
#[test]
fn each_function_of_libevent_is_on_its_page_and_an_alias() {
    let page = read(&root().join("docs/LIBEVENT.md"));
    let mut sources = String::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => sources += &read(&path),
            }
        }
    }
    for (prefix, names) in LIBEVENT {
        for name in names.split_whitespace() {
            let row = page
                .lines()
                .find(|line| line.contains(&format!("`{prefix}{name}`")))
                .unwrap_or_else(|| panic!("{prefix}{name} is not on the page"));
            let is_alias = sources.contains(&format!("\"{prefix}{name}\""));
            assert!(
                is_alias || row.contains("not provided"),
                "{prefix}{name} is no alias"
            );
        }
    }
}
