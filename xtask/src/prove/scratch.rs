//! A copy of the tree, in which things may be broken. It stays in the target folder, and so does what is built of
//! it: a second run compiles only what changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Result, command::Cmd, workspace::Workspace};

pub(super) struct Scratch {
    pub(super) tree: PathBuf,
    pub(super) built: PathBuf,
}

impl Scratch {
    /// Brings the copy up to date with the tree as it stands, committed or not. Files that are the same are
    /// left alone, because cargo goes by their time.
    pub(super) fn of(workspace: &Workspace) -> Result<Self> {
        let copy = Self { tree: workspace.scratch("broken/tree"), built: workspace.scratch("broken/built") };
        let listed = Cmd::new("git").words("ls-files -z --cached --others --exclude-standard");
        let listed = listed.dir(&workspace.root).read()?;
        let files: Vec<_> = listed.split('\0').filter(|file| !file.is_empty()).map(PathBuf::from).collect();
        for file in &files {
            let (from, to) = (workspace.root.join(file), copy.tree.join(file));
            // Listed but not there: deleted and not yet committed.
            let Ok(content) = fs::read(&from) else { continue };
            if fs::read(&to).is_ok_and(|copied| copied == content) {
                continue;
            }
            fs::create_dir_all(to.parent().unwrap_or(&copy.tree))?;
            fs::write(&to, content)?;
        }
        remove_others(&copy.tree, &|file| {
            let file = file.strip_prefix(&copy.tree).unwrap_or(file);
            // Cargo writes the lock file of a tree that keeps none.
            file == Path::new("Cargo.lock")
                || workspace.root.join(file).is_file() && files.iter().any(|f| f == file)
        })?;
        Ok(copy)
    }
}

/// Removes the files below `folder` that are not to be kept, and the folders they leave empty.
fn remove_others(folder: &Path, kept: &dyn Fn(&Path) -> bool) -> Result {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, kept)?;
            // An empty folder among the workspace's members would be one without a manifest.
            if fs::read_dir(&path)?.next().is_none() {
                fs::remove_dir(&path)?;
            }
        } else if !kept(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
