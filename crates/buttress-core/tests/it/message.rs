//! What the compiler says of an error type that cannot carry rejections, of a request that cannot be sent again, and of
//! what is no classifier. Only our own words are compared, because the rest of the message is another one with each
//! compiler.

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
name = "PROGRAM"
path = 'CORE/tests/ui/PROGRAM.rs'

[workspace]
"#;

/// What `cargo check` says of one of the programs in `tests/ui`, and whether it compiles.
fn check(program: &str) -> (bool, String) {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ui").join(program);
    fs::create_dir_all(&package).unwrap();
    let manifest = MANIFEST.replace("CORE", core.to_str().unwrap()).replace("PROGRAM", program);
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    // The versions of this workspace, which are here already: nothing is fetched.
    fs::copy(core.join("../../Cargo.lock"), package.join("Cargo.lock")).unwrap();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["check", "--offline", "--quiet", "--color", "never", "--bin", program])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", package.join("target"))
        .env("CARGO_INCREMENTAL", "0")
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn assert_refused(program: &str, with: &[&str]) {
    let (compiles, says) = check(program);
    assert!(!compiles);
    for words in with {
        assert!(says.contains(words), "{words:?} is not in:\n{says}");
    }
}

#[test]
fn foreign_error_type_is_refused_with_the_remedy() {
    assert_refused(
        "foreign_error",
        &[
            "`std::io::Error` cannot carry a buttress rejection",
            "put `.lift_errors()` innermost, directly around the service, to turn `std::io::Error` into `BoxError`",
            "or `.typed_errors()` to turn it into `buttress::Error<std::io::Error>`",
            "or implement `FromRejection` for your own error enum",
            "around a plain function there is no service: give `.call` one with `.map_err(BoxError::from)`, or run it \
             through a stack that ends in `.typed_errors().functions()`",
        ],
    );
}

#[test]
fn lifted_and_typed_errors_compile() {
    let (compiles, says) = check("lifted_error");
    assert!(compiles, "{says}");
}

#[test]
fn request_that_cannot_be_sent_again_is_refused_with_the_remedy() {
    assert_refused(
        "request_not_clone",
        &[
            "`ByClone` cannot send a request `Upload` again",
            "`.replay(Never)` makes one attempt, whatever the request is",
            "or `.replay_with(|req| ..)` makes an equal request, or says `None` of one that cannot be sent twice",
            "or make the request `Clone`: a function that changes what it captures takes that from a `Lend`",
        ],
    );
}

#[test]
fn what_the_remedies_make_of_a_request_compiles() {
    let (compiles, says) = check("request_replayed");
    assert!(compiles, "{says}");
}

#[test]
fn what_is_no_classifier_is_refused_with_the_remedy() {
    assert_refused(
        "no_classifier",
        &[
            "`Statuses` cannot tell what an outcome `Result<Answer, std::io::Error>` says about the service",
            "`.lift_errors()` or `.typed_errors()` innermost makes errors that `Standard` and `OnlyErrors` can tell",
            "or `.classify_with(|outcome: Result<&Answer, &std::io::Error>| ..)`, a closure that returns a `Verdict`",
            "or `HttpClassify` of `buttress-http`, if the response is an `http::Response`",
            "or `.map_err(BoxError::from)` in the function that `.call` of a single handle is given",
        ],
    );
}

#[test]
fn what_the_remedies_make_of_an_outcome_compiles() {
    let (compiles, says) = check("outcome_classified");
    assert!(compiles, "{says}");
}
