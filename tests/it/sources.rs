//! Settings as other projects have them, in `tests/data/sources`.

use serde::de::DeserializeOwned;

/// The settings of one pattern in a project.
pub(crate) fn source<C: DeserializeOwned>(project: &str, pattern: &str) -> C {
    let path = format!("{}/tests/data/sources/{project}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let mut all: toml::Table = text.parse().unwrap();
    all.remove(pattern).unwrap().try_into().unwrap()
}
