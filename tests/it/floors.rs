//! Which module of a pattern may use which: an arrow between two of them goes down, never up.
//!
//! A list for each crate, the top first: what a stack is made of, the handle, the engine behind it, what it decides by,
//! its settings, its words. `docs/architecture.md` says why.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A crate, and its modules: each uses only those that stand after it, on its own floor or below.
pub(crate) struct Pattern {
    pub(crate) name: &'static str,
    /// What puts it around a service or a function.
    fronts: &'static [&'static str],
    /// What operators hold, and what it hands out.
    handle: &'static [&'static str],
    /// Admits, ends, counts and tells.
    engine: &'static [&'static str],
    /// Plain data that is told the time, and what a layer lets one replace.
    decision: &'static [&'static str],
    settings: &'static [&'static str],
    words: &'static [&'static str],
}

pub(crate) const PATTERNS: &[Pattern] = &[
    Pattern {
        name: "breaker",
        fronts: &["keyed", "layer", "service", "future"],
        handle: &["breaker", "permit", "snapshot"],
        engine: &["engine", "timer", "shared"],
        decision: &["atomic", "circuit", "census", "window"],
        settings: &["rules", "validate", "config"],
        words: &["kind", "state", "words", "sync"],
    },
    Pattern {
        name: "retry",
        fronts: &["layer", "service", "repeat", "future"],
        handle: &["retry"],
        engine: &["policy", "engine", "snapshot"],
        decision: &["before", "decide", "hooks", "only"],
        settings: &["config"],
        words: &["kind", "words"],
    },
    Pattern {
        name: "timeout",
        fronts: &["layer", "service", "race", "future"],
        handle: &["timeout"],
        engine: &[],
        decision: &["deadline", "strategy"],
        settings: &["config"],
        words: &["kind", "words"],
    },
    Pattern {
        name: "bulkhead",
        fronts: &["layer", "service", "future"],
        handle: &["drain", "permit", "entering", "bulkhead"],
        engine: &["snapshot", "stats"],
        decision: &["gate"],
        settings: &["config"],
        words: &["kind", "words", "sync"],
    },
    Pattern {
        name: "fallback",
        fronts: &["layer", "service", "future"],
        // The answers are given the handle, to tell by it.
        handle: &["backup", "last_good", "answer", "fallback"],
        engine: &[],
        decision: &["decide"],
        settings: &["config"],
        words: &["kind", "words", "sealed"],
    },
];

impl Pattern {
    pub(crate) fn order(&self) -> impl Iterator<Item = &'static str> {
        let floors = [self.fronts, self.handle, self.engine, self.decision, self.settings, self.words];
        floors.into_iter().flatten().copied()
    }

    fn place(&self, module: &str) -> Option<usize> {
        self.order().position(|listed| listed == module)
    }

    pub(crate) fn src(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("crates/buttress-{}/src", self.name))
    }

    fn lib(&self) -> Vec<String> {
        tokens(&fs::read_to_string(self.src().join("lib.rs")).unwrap())
    }

    /// The files of a module: `x.rs` and what is below `x/`, without tests and models.
    pub(crate) fn files(&self, module: &str) -> Vec<PathBuf> {
        let (file, folder) = (self.src().join(format!("{module}.rs")), self.src().join(module));
        let below = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        let is_kept = |path: &PathBuf| {
            let stem = path.file_stem().unwrap();
            path.exists() && stem != "tests" && stem != "models"
        };
        below.chain([file]).filter(is_kept).collect()
    }
}

/// The words and signs of a source, without comments, texts and test modules. (It knows neither raw texts nor the
/// character `"`: the patterns have none.)
pub(crate) fn tokens(source: &str) -> Vec<String> {
    let (mut tokens, mut left) = (Vec::<String>::new(), source);
    while let Some(first) = left.chars().next() {
        let len = match first {
            '/' if left.starts_with("//") => left.find('\n').unwrap_or(left.len()),
            '"' => {
                let escaped = left.replace("\\\\", "__").replace("\\\"", "__");
                escaped[1..].find('"').map_or(left.len(), |end| end + 2)
            }
            _ if first.is_alphanumeric() || first == '_' => {
                left.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(left.len())
            }
            ':' if left.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        let token = &left[..len];
        if !token.starts_with("//") && !token.starts_with('"') && !token.trim().is_empty() {
            tokens.push(token.to_owned());
        }
        left = &left[len..];
    }
    without_tests(tokens)
}

/// Drops each `mod` that is compiled for tests only.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if let Some(len) = test_module(&tokens[at..]) {
            at += len;
            continue;
        }
        kept.push(tokens[at].clone());
        at += 1;
    }
    kept
}

/// How long `#[cfg(.. test ..)] mod x { .. }` is, if this begins one.
fn test_module(tokens: &[String]) -> Option<usize> {
    let is = |at: usize, token: &str| tokens.get(at).is_some_and(|found| found == token);
    if !(is(0, "#") && is(1, "[") && is(2, "cfg")) {
        return None;
    }
    let end = closing(tokens, 1)?;
    if !tokens[..end].iter().any(|token| token == "test") || !is(end + 1, "mod") {
        return None;
    }
    if is(end + 3, ";") { Some(end + 4) } else { closing(tokens, end + 3).map(|end| end + 1) }
}

/// Where the bracket that opens at `from` closes.
pub(crate) fn closing(tokens: &[String], from: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token.as_str() {
            "[" | "{" | "(" => depth += 1,
            "]" | "}" | ")" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// The first words of all paths that begin with this one: of `crate::{A, b::{C}}` that is `A` and `b`.
fn after<'a>(root: &str, tokens: &'a [String]) -> Vec<&'a str> {
    let mut found = Vec::new();
    for at in (0..tokens.len()).filter(|at| tokens[*at] == root) {
        let Some([sign, first]) = tokens.get(at + 1..at + 3) else { continue };
        if sign != "::" {
            continue;
        }
        if first != "{" {
            found.push(first.as_str());
            continue;
        }
        let end = closing(tokens, at + 2).unwrap();
        let mut depth = 0;
        for (token, former) in tokens[at + 3..end].iter().zip(&tokens[at + 2..]) {
            match token.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                word if depth == 0 && (former == "{" || former == ",") => found.push(word),
                _ => {}
            }
        }
    }
    found
}

/// Of `pub use crate::{a::A, b::{B, C}}`: which module a name of the root is from.
fn module_of<'a>(lib: &'a [String], name: &'a str) -> &'a str {
    let Some(from) = lib.windows(3).position(|three| three == ["use", "crate", "::"]) else { return name };
    let (mut module, mut depth) = (name, 0);
    for (at, token) in lib.iter().enumerate().skip(from + 3) {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            word if depth == 1 && lib.get(at + 1).is_some_and(|next| next == "::") => module = word,
            word if word == name => return module,
            _ => {}
        }
    }
    name
}

/// What is wrong with the arrows of one file.
fn arrows_up(pattern: &Pattern, lib: &[String], module: &str, source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let here = pattern.place(module).unwrap();
    let mut wrong = Vec::new();
    for name in after("crate", &tokens) {
        let to = module_of(lib, name);
        let what = format!("buttress-{}: {module} -> {to} ({name})", pattern.name);
        match pattern.place(to) {
            None => wrong.push(format!("{what}: not found; what is at the root comes from a listed module")),
            Some(place) if place < here => wrong.push(format!("{what}: up")),
            Some(_) => {}
        }
    }
    // Beside `lib.rs` that is the root as well; elsewhere it is a part of the module, which has no floor of its own.
    for name in after("super", &tokens) {
        if pattern.place(module_of(lib, name)).is_some_and(|place| place < here) {
            wrong.push(format!("buttress-{}: {module} -> super::{name}: up", pattern.name));
        }
    }
    wrong
}

#[test]
fn every_module_of_a_pattern_has_a_floor_and_there_is_no_other() {
    for pattern in PATTERNS {
        let lib = pattern.lib();
        let mut there: Vec<_> =
            lib.windows(2).filter(|two| two[0] == "mod").map(|two| two[1].as_str()).collect();
        let mut listed: Vec<_> = pattern.order().collect();
        there.sort_unstable();
        listed.sort_unstable();
        assert_eq!(there, listed, "modules of buttress-{}, and those of its floors", pattern.name);
    }
}

#[test]
fn no_arrow_inside_a_pattern_goes_up() {
    let (mut wrong, mut read) = (Vec::new(), 0);
    for pattern in PATTERNS {
        let lib = pattern.lib();
        for module in pattern.order() {
            for file in pattern.files(module) {
                wrong.extend(arrows_up(pattern, &lib, module, &fs::read_to_string(&file).unwrap()));
                read += 1;
            }
        }
    }
    assert!(read > 60, "only {read} files");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_decides_has_no_clock_and_tells_nobody() {
    for pattern in PATTERNS {
        for module in pattern.decision.iter().chain(pattern.settings) {
            for file in pattern.files(module) {
                let tokens = tokens(&fs::read_to_string(&file).unwrap());
                let reads_clock = tokens.windows(3).any(|three| three == ["Instant", "::", "now"]);
                assert!(!reads_clock, "{} reads the clock: `now` is an argument", file.display());
                let tells = tokens.iter().any(|token| matches!(token.as_str(), "emitter" | "Emitter"));
                let is_settings = pattern.settings.contains(module);
                assert!(!tells || is_settings, "{} tells listeners: the engine does", file.display());
            }
        }
    }
}

#[test]
fn reader_of_arrows_sees_those_that_go_up_and_leaves_out_tests_comments_and_texts() {
    let pattern = PATTERNS.iter().find(|pattern| pattern.name == "timeout").unwrap();
    let lib = pattern.lib();
    let wrong = |source: &str| arrows_up(pattern, &lib, "timeout", source);
    assert_eq!(wrong("use crate::{KIND, TimeoutConfig, deadline::Deadline};"), [] as [&str; 0]);
    assert_eq!(wrong("fn f() -> crate::TimeoutFuture<()> {}").len(), 1);
    assert_eq!(wrong("use crate::{KIND, deadline::{Deadline}, TimeoutLayer, future::{A, B}};").len(), 2);
    assert_eq!(wrong("use crate::Unknown;").len(), 1);
    assert_eq!(wrong("use super::{Timeout, TimeoutLayer, Unknown};").len(), 1);
    let left_out = r#"
        /// See [`crate::TimeoutLayer`].
        const TEXT: &str = "\"crate::TimeoutLayer";
        #[cfg(test)]
        mod tests { use crate::TimeoutLayer; fn f() { {} } }
        #[cfg(all(test, not(buttress_loom)))]
        mod more;
    "#;
    assert_eq!(wrong(left_out), [] as [&str; 0]);
    assert_eq!(wrong(&format!("{left_out} use crate::TimeoutLayer;")).len(), 1);
}
