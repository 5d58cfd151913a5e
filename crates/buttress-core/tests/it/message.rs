//! What the compiler says where an error type cannot carry rejections. Only our own words are compared, because
//! the rest of the message is another one with each compiler.

use std::{env, fs, path::Path, process::Command};

const MANIFEST: &str = r#"
[package]
name = "ui"
edition = "2024"

[dependencies]
buttress-core = { path = 'CORE' }
tower-layer = "0.3"
tower-service = "0.3"

[[bin]]
name = "foreign_error"
path = 'CORE/tests/ui/foreign_error.rs'

[[bin]]
name = "lifted_error"
path = 'CORE/tests/ui/lifted_error.rs'

[workspace]
"#;

/// What `cargo check` says of one of the programs in `tests/ui`, and whether it compiles.
fn check(program: &str) -> (bool, String) {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ui").join(program);
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("Cargo.toml"), MANIFEST.replace("CORE", core.to_str().unwrap())).unwrap();
    // The versions of this workspace, which are here already: nothing is fetched.
    fs::copy(core.join("../../Cargo.lock"), package.join("Cargo.lock")).unwrap();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["check", "--offline", "--quiet", "--color", "never", "--bin", program])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", package.join("target"))
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn foreign_error_type_is_refused_with_the_remedy() {
    let (compiles, says) = check("foreign_error");
    assert!(!compiles);
    for words in [
        "`std::io::Error` cannot carry a buttress rejection",
        "put `.lift_errors()` innermost, directly around the service, to turn `std::io::Error` into `BoxError`",
        "or `.typed_errors()` to turn it into `buttress::Error<std::io::Error>`",
        "or implement `FromRejection` for your own error enum",
    ] {
        assert!(says.contains(words), "{words:?} is not in:\n{says}");
    }
}

#[test]
fn lifted_and_typed_errors_compile() {
    let (compiles, says) = check("lifted_error");
    assert!(compiles, "{says}");
}
