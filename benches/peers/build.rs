//! Compiles uWebSockets and zlib, if asked for, into one object for each binary.
//!
//! The sources come with crates that `Cargo.toml` names and never builds; cargo tells where it has
//! unpacked them. The flags are those of uWebSockets' own build, without TLS.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "uwebsockets")]
    uwebsockets::compile();
}

#[cfg(feature = "uwebsockets")]
mod uwebsockets {
    use std::env;
    use std::path::{Path, PathBuf};

    use cargo_metadata::{CargoOpt, Metadata, MetadataCommand};

    /// Binaries, and the file of each that calls the library.
    const BRIDGES: [(&str, &str); 2] = [
        ("uwebsockets", "src/bin/uwebsockets.cpp"),
        ("fan-out-uwebsockets", "src/bin/fan_out_uwebsockets.cpp"),
    ];
    const SOCKETS: [&str; 5] =
        ["bsd.c", "context.c", "loop.c", "socket.c", "eventing/epoll_kqueue.c"];
    /// Without its one-shot functions and those for files, which nobody calls.
    const ZLIB: [&str; 8] = [
        "adler32.c",
        "crc32.c",
        "deflate.c",
        "inffast.c",
        "inflate.c",
        "inftrees.c",
        "trees.c",
        "zutil.c",
    ];

    pub(crate) fn compile() {
        let packages = packages();
        let root = directory(&packages, "libuwebsockets-sys").join("uWebSockets");
        let (sockets, zlib) =
            (root.join("uSockets/src"), directory(&packages, "libz-sys").join("src/zlib"));
        let mut objects = options()
            .define("LIBUS_NO_SSL", None)
            .include(&sockets)
            .files(SOCKETS.iter().map(|file| sockets.join(file)))
            .compile_intermediates();
        // What zlib's own configure finds out here.
        let library = options()
            .define("HAVE_UNISTD_H", None)
            .define("HAVE_STDARG_H", None)
            .define("_LARGEFILE64_SOURCE", "1")
            .files(ZLIB.iter().map(|file| zlib.join(file)))
            .compile_intermediates();
        objects.extend(library);
        for (binary, file) in BRIDGES {
            println!("cargo::rerun-if-changed={file}");
            let mut bridge = options();
            bridge.cpp(true).std("c++20").define("LIBUS_NO_SSL", None).file(file);
            bridge.include(root.join("src")).include(&sockets).include(&zlib);
            // The bridge comes last: in front GCC 12 fails with an error of its own.
            let own = bridge.compile_intermediates();
            link(&bridge, binary, objects.iter().chain(&own));
        }
    }

    /// GCC's plugin optimises across the objects here; rustc's linker could not.
    fn link<'a>(build: &cc::Build, binary: &str, objects: impl Iterator<Item = &'a PathBuf>) {
        let directory = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
        let whole = directory.join(format!("{binary}-whole.o"));
        let mut link = build.get_compiler().to_command();
        link.args(["-r", "-flinker-output=nolto-rel", "-o"]).arg(&whole).args(objects);
        let status = link.status().expect("g++ can be started");
        assert!(status.success(), "{link:?}: {status}");
        println!("cargo::rustc-link-arg-bin={binary}={}", whole.display());
        println!("cargo::rustc-link-arg-bin={binary}=-lstdc++");
    }

    fn options() -> cc::Build {
        let mut build = cc::Build::new();
        build
            .opt_level(3)
            .debug(false)
            .warnings(false)
            // Not -fPIC, which is for shared libraries: it costs two fifths more instructions for
            // each small message than the executable of uWebSockets' own build has.
            .pic(false)
            .flags(["-march=native", "-flto", "-fPIE"]);
        build
    }

    fn packages() -> Metadata {
        MetadataCommand::new()
            .features(CargoOpt::NoDefaultFeatures)
            .features(CargoOpt::SomeFeatures(vec!["uwebsockets".into()]))
            .other_options(["--locked".into()])
            .exec()
            .expect("cargo knows its packages")
    }

    fn directory(packages: &Metadata, name: &str) -> PathBuf {
        let carrier = packages.packages.iter().find(|package| package.name == name);
        let manifest = carrier.expect("Cargo.toml names it").manifest_path.as_std_path();
        manifest.parent().map(Path::to_owned).expect("a file stands in a directory")
    }
}
