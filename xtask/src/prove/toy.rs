//! Adding a pattern touches what it must, and nothing else of ours has to know of it.
//!
//! `xtask/toy` is a pattern with a code, two states, a level, a line and a setting. It is put into a copy of the tree, as
//! somebody would who adds one: with the edits below, and the table of the catalogue written anew. Then the tests that
//! hold the workspace together must pass, and so must its own, which ask what everything else makes of it. What a
//! pattern touches is counted at the end, by comparing the copy with the tree.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::scratch::Scratch;
use crate::{Result, command::Cmd, report::Done, workspace::Workspace};

const TEMPLATE: &str = "xtask/toy";
const CRATE: &str = "crates/buttress-toy";

/// One line, or two, that somebody adds.
struct Edit {
    file: &'static str,
    /// Stands exactly once in `file`; the text is put behind it.
    behind: &'static str,
    text: &'static str,
}

/// By hand. `docs/architecture.md` lists the arrows in words.
const EDITS: &[Edit] = &[
    Edit {
        file: "Cargo.toml",
        behind: "\n[workspace.dependencies]\n",
        text: "buttress-toy = { path = \"crates/buttress-toy\", version = \"0.1.0\" }\n",
    },
    Edit { file: "crates/buttress/Cargo.toml", behind: "\ndefault = [", text: "\"toy\", " },
    Edit {
        file: "crates/buttress/Cargo.toml",
        behind: "\n[features]\n",
        text: "toy = [\"dep:buttress-toy\"]\n",
    },
    Edit {
        file: "crates/buttress/Cargo.toml",
        behind: "\n[dependencies]\n",
        text: "buttress-toy = { workspace = true, optional = true }\n",
    },
    Edit {
        file: "crates/buttress/src/lib.rs",
        behind: "\npub use buttress_kit as kit;\n",
        text: "#[cfg(feature = \"toy\")]\npub use buttress_toy::{self as toy, Toy, ToyConfig, ToyLayer};\n",
    },
    Edit {
        file: "crates/buttress/src/kinds.rs",
        behind: "\npub static KINDS: &[Kind] = &[\n",
        text: "    #[cfg(feature = \"toy\")]\n    &crate::toy::KIND,\n",
    },
    Edit {
        file: "tests/it/arrows.rs",
        behind: "\nconst ARROWS: &[(&str, &[&str])] = &[\n",
        text: "    (\"buttress-toy\", &[\"buttress-core\", \"buttress-kit\"]),\n",
    },
    Edit {
        file: "tests/it/arrows.rs",
        behind: "\n        \"buttress\",\n        &[\n",
        text: "            \"buttress-toy\",\n",
    },
    Edit {
        file: "docs/architecture.md",
        behind: "\n| crate | what it is | depends on |\n|---|---|---|\n",
        text: "| `buttress-toy` | shuts after so many failures | core, kit |\n",
    },
];

/// By the test of the catalogue.
const WRITTEN: &str = "docs/metrics.md";

/// What must hold then: the tests of the suite and the facade that look at all crates or all patterns, and the toy's own.
const HELD_BY: &[&str] = &["arrows::", "floors::", "catalogue::", "contrib::", "kinds::", "toy::"];

pub(super) fn prove(workspace: &Workspace) -> Result<Done> {
    let copy = Scratch::of(workspace)?;
    copy_folder(&copy.tree.join(TEMPLATE), &copy.tree.join(CRATE))?;
    for edit in EDITS {
        let file = copy.tree.join(edit.file);
        fs::write(&file, edit.applied(&fs::read_to_string(&file)?)?)?;
    }
    Cmd::cargo("fmt -p buttress-toy --check").dir(&copy.tree).run()?;
    // All at once, or each has the facade built anew with other features.
    let test = || {
        let test =
            Cmd::cargo("test -p buttress -p buttress-suite -p buttress-toy --lib --test it --target-dir");
        test.arg(&copy.built).dir(&copy.tree)
    };
    test().words("-- catalogue::table").env("BUTTRESS_UPDATE", "1").run_quietly()?;
    let tally = test().arg("--").args(HELD_BY).run_tests()?;

    let expected: BTreeSet<_> =
        EDITS.iter().map(|edit| edit.file).chain([WRITTEN]).map(PathBuf::from).collect();
    let touched = touched(workspace, &copy)?;
    if touched != expected {
        return Err(format!("a pattern touches {touched:?}, and should touch {expected:?}").into());
    }
    Ok(Done::Noted(format!("{} files besides its own crate, {} tests", touched.len(), tally.passed)))
}

impl Edit {
    fn applied(&self, text: &str) -> Result<String> {
        match text.matches(self.behind).count() {
            1 => Ok(text.replacen(self.behind, &format!("{}{}", self.behind, self.text), 1)),
            found => {
                Err(format!("{}: this stands {found} times, not once:{}", self.file, self.behind).into())
            }
        }
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_folder(&from, &to)?;
        } else {
            fs::copy(&from, &to).map_err(|why| format!("{}: {why}", from.display()))?;
        }
    }
    Ok(())
}

/// The files of the copy that are not those of the tree, its new crate and cargo's own file left out.
fn touched(workspace: &Workspace, copy: &Scratch) -> Result<BTreeSet<PathBuf>> {
    let mut files = Vec::new();
    list(&copy.tree, &mut files)?;
    let mut touched = BTreeSet::new();
    for file in files {
        let name = file.strip_prefix(&copy.tree)?;
        let is_ours = !name.starts_with(CRATE) && name != Path::new("Cargo.lock");
        if is_ours && fs::read(workspace.root.join(name)).ok() != fs::read(&file).ok() {
            touched.insert(name.to_owned());
        }
    }
    Ok(touched)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_fit_the_tree_as_it_is() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for edit in EDITS {
            let text = fs::read_to_string(root.join(edit.file)).unwrap();
            let edited = edit.applied(&text).unwrap();
            assert_eq!(edited.len(), text.len() + edit.text.len());
        }
    }

    #[test]
    fn text_is_put_behind_what_stands_there_once() {
        let edit = Edit { file: "x", behind: "b\n", text: "c\n" };
        assert_eq!(edit.applied("a\nb\nd\n").unwrap(), "a\nb\nc\nd\n");
        assert!(edit.applied("a\n").unwrap_err().to_string().contains("0 times"));
        assert!(edit.applied("b\nb\n").is_err());
    }
}
