//! Builds the candidates in C if libevent's headers are installed, and sets `cfg(libevent)`.

fn main() {
    println!("cargo:rerun-if-changed=src/libevent.c");
    println!("cargo:rerun-if-changed=src/splice.c");
    // Includes the library of its locks.
    let Ok(libevent) = pkg_config::Config::new()
        .atleast_version("2.1")
        .cargo_metadata(false)
        .probe("libevent_pthreads")
    else {
        return;
    };
    // The shim comes before the library that it needs.
    cc::Build::new()
        .file("src/libevent.c")
        .file("src/splice.c")
        .includes(&libevent.include_paths)
        .opt_level(2)
        .compile("peers_libevent");
    for path in &libevent.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    for library in &libevent.libs {
        println!("cargo:rustc-link-lib={library}");
    }
    println!("cargo:rustc-cfg=libevent");
}
