//! Compiles uWebSockets, if it is asked for, into one object that its binary is linked with.
//!
//! The sources come with a crate that `Cargo.toml` names and never builds; cargo tells where it has
//! unpacked it. The flags are those of uWebSockets' own build, without TLS and compression.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "uwebsockets")]
    uwebsockets::compile();
}

#[cfg(feature = "uwebsockets")]
mod uwebsockets {
    use std::env;
    use std::path::PathBuf;

    use cargo_metadata::{CargoOpt, MetadataCommand};

    const BRIDGE: &str = "src/bin/uwebsockets.cpp";
    const SOCKETS: [&str; 5] =
        ["bsd.c", "context.c", "loop.c", "socket.c", "eventing/epoll_kqueue.c"];

    pub(crate) fn compile() {
        println!("cargo::rerun-if-changed={BRIDGE}");
        let root = sources();
        let sockets = root.join("uSockets/src");
        let mut objects = options(&sockets)
            .files(SOCKETS.iter().map(|file| sockets.join(file)))
            .compile_intermediates();
        let mut bridge = options(&sockets);
        bridge.cpp(true).std("c++20").include(root.join("src")).file(BRIDGE);
        objects.extend(bridge.compile_intermediates());

        // GCC's plugin optimises across the objects here; rustc's linker could not.
        let directory = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
        let whole = directory.join("uwebsockets-whole.o");
        let mut link = bridge.get_compiler().to_command();
        link.args(["-r", "-flinker-output=nolto-rel", "-o"]).arg(&whole).args(&objects);
        let status = link.status().expect("g++ can be started");
        assert!(status.success(), "{link:?}: {status}");
        println!("cargo::rustc-link-arg-bin=uwebsockets={}", whole.display());
        println!("cargo::rustc-link-arg-bin=uwebsockets=-lstdc++");
    }

    fn options(sockets: &std::path::Path) -> cc::Build {
        let mut build = cc::Build::new();
        build
            .opt_level(3)
            .debug(false)
            .warnings(false)
            // Not -fPIC, which is for shared libraries: it costs two fifths more instructions for
            // each small message than the executable of uWebSockets' own build has.
            .pic(false)
            .flags(["-march=native", "-flto", "-fPIE"])
            .define("LIBUS_NO_SSL", None)
            .define("UWS_NO_ZLIB", None)
            .include(sockets);
        build
    }

    fn sources() -> PathBuf {
        let metadata = MetadataCommand::new()
            .features(CargoOpt::NoDefaultFeatures)
            .features(CargoOpt::SomeFeatures(vec!["uwebsockets".into()]))
            .other_options(["--locked".into()])
            .exec()
            .expect("cargo knows its packages");
        let carrier = metadata.packages.iter().find(|package| package.name == "libuwebsockets-sys");
        let manifest = &carrier.expect("Cargo.toml names it").manifest_path;
        manifest.with_file_name("uWebSockets").into_std_path_buf()
    }
}
